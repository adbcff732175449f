"""Trainings under `mpiexec` that a test interrupts: what their ranks say, and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from ranks import mpiexec

import braze
from braze.distributed import checkpoint

PROGRAM = Path(__file__).with_name("resumable_training.py")


class Training:
    """`resumable_training.py` on four ranks, until it is waited for.

    Args:
        folder: for the checkpoint; what else is written goes to folders beside it.
        options: for `mpiexec`.
        kind: "whole" or "sharded".
        before: a command that starts `mpiexec`, such as one that enters a namespace.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        options: Sequence[str] = ("--oversubscribe",),
        before: Sequence[str] = (),
        timeout: float = 120,  # a slow disk may take many seconds for a checkpoint
        seconds: float = 0,
        kind: str = "whole",
    ) -> None:
        self.mark = f"training-{uuid.uuid4().hex}"
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.temporary = folder.parent / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self._printed = folder.parent / f"{self.mark}.printed"
        self._said = str(folder.parent / f"{self.mark}.said")
        settings = os.environ | {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "TMPDIR": str(self.temporary),
            "TEST_MARK": self.mark,
            "TEST_SAID": self._said,
            "TEST_TIMEOUT": str(timeout),
            "BRAZE_NUM_THREADS": "1",
            "BRAZE_BACKGROUND": "never",
            "BRAZE_CACHE_DIR": str(folder.parent / "compiled"),
        }
        passed = [word for name in settings if _is_passed(name) for word in ("-x", name)]
        command = [*before, mpiexec(), *options, "--with-ft", "ulfm", *passed, "-n", "4"]
        command += [sys.executable, str(PROGRAM), str(folder), str(steps), str(seconds), kind]
        with open(self._printed, "w") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=settings
            )

    def said(self, rank: int, kind: str) -> list[list[str]]:
        """What a rank has said of one kind, in words."""
        file = Path(f"{self._said}.{rank}")
        text = file.read_text() if file.exists() else ""
        lines = (line.split() for line in text[: text.rfind("\n") + 1].splitlines())
        return [words for first, *words in lines if first == kind]

    def losses(self, rank: int) -> dict[int, float]:
        return {int(step): float(loss) for step, loss in self.said(rank, "step")}

    def process(self, rank: int) -> int:
        return int(self.said(rank, "started")[0][0])

    def until_all_have_started(self, limit: float = 120) -> None:
        """Wait until every rank is about to join the others."""
        end = time.monotonic() + limit
        while not all(self.said(rank, "started") for rank in range(4)):
            assert self._process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(2e-3)

    def until(self, step: int, limit: float = 120) -> None:
        """Wait until rank 0 has done a step."""
        end = time.monotonic() + limit
        while max(self.losses(0), default=-1) < step:
            assert self._process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(2e-3)

    def until_ranks_have_ended(self, limit: float = 60) -> None:
        """Wait for the ranks' processes; the launcher may not know of their end."""
        end = time.monotonic() + limit
        while any(_is_running(self.process(rank)) for rank in range(4)):
            assert time.monotonic() < end, self.text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the launcher, if it has not ended, as one would by hand."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, limit: float = 120) -> int:
        """Its exit status, once it is over."""
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended:\n{self.text()}") from None
        finally:
            self._process.kill()

    def text(self) -> str:
        errors = [f"{r}: {' '.join(words)}" for r in range(4) for words in self.said(r, "error")]
        return "\n".join([self._printed.read_text(), *errors])

    def left(self, within: float = 10) -> list[str]:
        """Processes, shared memory, and temporary files that it has left behind, that are still
        there after so many seconds."""
        end = time.monotonic() + within
        while (found := self._left()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def _left(self) -> list[str]:
        found = [f"process {pid}: {what}" for pid, what in _marked(self.mark)]
        for rank in range(4):
            for _, *names in [*self.said(rank, "started"), *self.said(rank, "process")]:
                found += [name for name in names if os.path.exists(f"/dev/shm/{name}")]
        found += [str(path) for path in self.temporary.iterdir()]
        found += [str(p) for p in self.folder.iterdir() if p.stem != "checkpoint"]
        return sorted(set(found))


def steps_saved(folder, kind):
    """How many steps the last checkpoint has, 0 without one."""
    if kind == "whole":
        saved = folder / "checkpoint.pt"
        return braze.load(saved)["steps"] if saved.exists() else 0
    if not (folder / "checkpoint" / "manifest.json").exists():
        return 0
    state = {"steps": 0}
    checkpoint.load(state, checkpoint_id=folder / "checkpoint")
    return state["steps"]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _is_passed(name: str) -> bool:
    return name.startswith(("BRAZE_", "TEST_", "PYTHON")) or name == "TMPDIR"


def _marked(mark: str) -> list[tuple[str, str]]:
    """Processes, with their commands, whose environment holds the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_text().replace("\0", " ")
                found.append((folder.name, command))
        except OSError:
            continue
    return found
