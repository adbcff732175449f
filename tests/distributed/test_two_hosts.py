"""Two hosts, made of Linux network namespaces: ranks of both train together over TCP, the link
between them is cut, every rank ends in time and says whom it cannot reach, and the training goes on
from its last checkpoint.

Each host has a name, an address and an end of a pair of virtual Ethernet devices of its own. They
share the disk, and the processor. Needs `ip` and `unshare`, and a kernel that lets this user have
namespaces.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupted import Training
from ranks import _is_open_mpi, mpiexec

import braze

pytestmark = pytest.mark.xdist_group("ranks")

TIMEOUT = 4
ADDRESSES = {"near": "10.77.0.1", "far": "10.77.0.2"}


class Hosts:
    """Two namespaces, each kept by a process that sleeps in it."""

    def __init__(self, folder: Path) -> None:
        # Without root's rights both lie in one user namespace, which the first of them makes.
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        near = _sleeper([*user, "--net", "--uts"], [])
        self._kept = [near]
        outer = ["nsenter", "-t", str(near.pid), *(["--user"] if user else [])]
        far = _sleeper(["--net", "--uts"], [*outer, "--preserve-credentials"] if user else [])
        self._kept.append(far)
        self._user = user
        self.enter = {"near": self._enter(near.pid), "far": self._enter(far.pid)}
        self.run("near", f"ip link add link0 type veth peer name link0 netns {far.pid}")
        for name, address in ADDRESSES.items():
            self.run(name, f"hostname {name}")
            for command in (
                f"addr add {address}/24 dev link0",
                "link set link0 up",
                "link set lo up",
            ):
                self.run(name, f"ip {command}")
        self.agent = folder / "agent"
        # What `ssh ADDRESS COMMAND` would do. The launcher is in the user namespace already.
        words = " ".join(["nsenter", "-t", str(far.pid), "--net", "--uts"])
        self.agent.write_text(f'#!/bin/sh\nshift\nexec {words} sh -c "$*"\n')
        self.agent.chmod(0o755)

    def _enter(self, pid: int) -> list[str]:
        more = ["--user", "--preserve-credentials"] if self._user else []
        return ["nsenter", "-t", str(pid), *more, "--net", "--uts"]

    def run(self, host: str, command: str) -> None:
        words = [*self.enter[host], *command.split()]
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)

    def close(self) -> None:
        for process in self._kept:
            process.kill()
            process.wait()


def _sleeper(options: list[str], before: list[str]) -> subprocess.Popen:
    program = "import time; print('ready', flush=True); time.sleep(1000)"
    process = subprocess.Popen(
        [*before, "unshare", *options, sys.executable, "-S", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if process.stdout.readline() != "ready\n":
        pytest.skip(f"no network namespaces here: {process.communicate()[1].strip()}")
    return process


@pytest.fixture
def hosts(tmp_path):
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"two hosts need the program {program!r} (Debian: iproute2, util-linux)")
    if not _is_open_mpi(mpiexec()):
        pytest.skip("two hosts are set up for Open MPI")
    made = Hosts(tmp_path)
    yield made
    made.close()


def test_a_cut_link_between_two_hosts(hosts, tmp_path):
    folder = tmp_path / "training"
    placed = ",".join(f"{address}:2" for address in ADDRESSES.values())
    options = ["--host", placed, "--prtemca", "plm", "ssh"]
    options += ["--prtemca", "plm_ssh_agent", str(hosts.agent)]
    options += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]

    def start(where, steps):
        return Training(
            tmp_path / where, steps, options, hosts.enter["near"], timeout=TIMEOUT, seconds=0.01
        )

    whole = start("whole", 80)
    assert whole.wait() == 0, whole.text()
    losses = whole.losses(0)
    assert len(losses) == 80 and losses[79] < losses[0]

    training = start("training", 100_000)
    training.until(33)
    hosts.run("near", "ip link set link0 down")
    cut = time.monotonic()
    training.until_ranks_have_ended()
    assert time.monotonic() - cut < 30
    # Open MPI's launcher still waits for its daemon on the other host.
    hosts.run("near", "ip link set link0 up")
    training.stop()
    assert training.wait(60) != 0
    for rank in range(4):
        (words,) = training.said(rank, "error")
        text = " ".join(words)
        missing = (2, 3) if rank < 2 else (0, 1)
        for other in missing:
            assert re.search(rf"rank {other} \(process \d+ on", text), training.text()
    assert training.left() == []

    first = braze.load(folder / "checkpoint.pt")["steps"]
    assert first >= 30
    again = start("training", first + 15)
    assert again.wait() == 0, again.text()
    found = again.losses(3)
    assert list(found) == list(range(first, first + 15))
    expected = {step: losses[step] for step in found}
    assert found == pytest.approx(expected, rel=1e-4)
    assert again.left() == []
