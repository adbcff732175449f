"""Hosts made of Linux network namespaces, each with a name, an address and a network device.

In: their names, and what the network between them is to be like.  Out: commands that enter them,
and options for Open MPI's `mpiexec` that place ranks on them.

They share the disk, the memory and the processor; only TCP connects them. Needs `ip`, `unshare` and
`nsenter` (and `tc`, for a network that is slower than memory), and a kernel that lets this user
have namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SWITCH = "(switch)"


class Unavailable(Exception):
    """Why there can be no such hosts here."""


class Hosts:
    """Namespaces, each kept by a process that sleeps in it, on one bridge.

    Args:
        folder: for a script that a launcher starts daemons with.
        names: of the hosts.
        network: what `tc qdisc add dev link0 root` is told of each host's device, such as
            "netem rate 1gbit delay 50us"; what it sends is held up so.

    Raises: Unavailable.

    Attributes:
        addresses: by name.
        enter: by name, the words before a command that is to run there.
    """

    def __init__(self, folder: Path, names: Sequence[str], network: str = "") -> None:
        for program in ("ip", "unshare", "nsenter", *(["tc"] if network else [])):
            if shutil.which(program) is None:
                raise Unavailable(
                    f"hosts need the program {program!r} (Debian: iproute2, util-linux)"
                )
        self.addresses = {name: f"10.77.0.{i + 1}" for i, name in enumerate(names)}
        self.enter: dict[str, list[str]] = {}
        self._kept: list[subprocess.Popen[str]] = []
        # Without root's rights all lie in one user namespace, which the first of them makes.
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        outer: list[str] = []
        # The switch is a namespace of its own: a host that had it would answer at two devices.
        for name in (_SWITCH, *names):
            process = self._sleeper([*([] if outer else user), "--net", "--uts"], outer)
            more = ["--user", "--preserve-credentials"] if user else []
            self.enter[name] = ["nsenter", "-t", str(process.pid), *more, "--net", "--uts"]
            if user and not outer:
                outer = ["nsenter", "-t", str(process.pid), "--user", "--preserve-credentials"]
        self._connect(network)
        self._agent = folder / "agent"
        self._agent.write_text(self._script())
        self._agent.chmod(0o755)

    def _connect(self, network: str) -> None:
        self.run(_SWITCH, "ip link add bridge0 type bridge")
        self.run(_SWITCH, "ip link set bridge0 up")
        for i, (name, address) in enumerate(self.addresses.items()):
            namespace = self._kept[1 + i].pid
            self.run(_SWITCH, f"ip link add port{i} type veth peer name link0 netns {namespace}")
            self.run(_SWITCH, f"ip link set port{i} master bridge0")
            self.run(_SWITCH, f"ip link set port{i} up")
            self.run(name, f"hostname {name}")
            self.run(name, f"ip addr add {address}/24 dev link0")
            self.run(name, "ip link set link0 up")
            self.run(name, "ip link set lo up")
            if network:
                self.run(name, f"tc qdisc add dev link0 root {network}")

    def _script(self) -> str:
        """What `ssh ADDRESS COMMAND` would do. The launcher is in the user namespace already."""
        cases = "".join(
            f'{address}) exec nsenter -t {process.pid} --net --uts sh -c "$*" ;;\n'
            for address, process in zip(self.addresses.values(), self._kept[1:], strict=True)
        )
        return f'#!/bin/sh\nhost="$1"\nshift\ncase "$host" in\n{cases}esac\nexit 1\n'

    def options(self, slots: int) -> list[str]:
        """For `mpiexec`, run in the first host: so many ranks on each, which talk by TCP alone."""
        placed = ",".join(f"{address}:{slots}" for address in self.addresses.values())
        options = ["--host", placed, "--prtemca", "plm", "ssh"]
        options += ["--prtemca", "plm_ssh_agent", str(self._agent)]
        options += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]
        # Ranks that wait in MPI would keep others from the cores that all hosts share.
        return [*options, "--mca", "mpi_yield_when_idle", "1"]

    def run(self, host: str, command: str) -> None:
        """Run a command there.  Raises: CalledProcessError."""
        words = [*self.enter[host], *command.split()]
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)

    def close(self) -> None:
        """No host any more."""
        for process in self._kept:
            process.kill()
            process.communicate()

    def _sleeper(self, options: Sequence[str], before: Sequence[str]) -> subprocess.Popen[str]:
        program = "import time; print('ready', flush=True); time.sleep(10000)"
        process = subprocess.Popen(
            [*before, "unshare", *options, sys.executable, "-S", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._kept.append(process)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            said = process.communicate()[1].strip()
            self.close()
            raise Unavailable(f"no network namespaces here: {said}")
        return process
