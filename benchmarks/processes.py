"""The peers' processes: how they are started, asked and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.suite import CPU

ROOT = Path(__file__).resolve().parents[1]
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUM_CPU_THREADS")

# The packages lie in folders of their own, or are one tree of links.
_MAKE_BYTECODE = """
import compileall
from importlib.util import find_spec
for name in ("braze", "braze.ir", "braze.passes", "braze.codegen", "braze.runtime"):
    for folder in find_spec(name).submodule_search_locations:
        compileall.compile_dir(folder, quiet=1)
"""


def environment(threads: int, cache: Path) -> dict[str, str]:
    """The same for all: number of threads, and the compilers' caches in one folder.

    Bytecode is kept, as that of installed packages is: else Braze alone would compile its sources
    in every process. `Setting.make_bytecode` makes it.
    """
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **{name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        **dict.fromkeys(_THREADS, str(threads)),
        "PYTHONPATH": os.pathsep.join(paths),
        "BRAZE_CACHE_DIR": str(cache / "braze"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "CACHEDB": str(cache / "tinygrad.db"),
        "JAX_PLATFORMS": "cpu",
        "DEV": "CPU",  # tinygrad's
    }


def some_cpus(threads: int) -> set[int]:
    """As many of the CPUs that this process may use: what counts CPUs finds the same number."""
    return set(sorted(os.sched_getaffinity(0))[:threads])


@dataclass(frozen=True)
class Setting:
    """How a run is made.

    threads: of every peer.
    seconds: of each turn, and how long a warm-up waits for faster steps.
    rounds: of turns.
    cache: folder of the compilers' caches.
    log: where the peers' messages go.
    quick: less of everything.
    device: what the peers run on: "cpu", or a GPU as "cuda:N".
    """

    threads: int
    seconds: float
    rounds: int
    cache: Path
    log: IO[str] | None = None
    quick: bool = False
    device: str = CPU

    def run(self, command: list[str], cache: Path | None = None) -> str:
        """Standard output of a Python process, ``python *command``, under the same conditions.

        Raises:
            RuntimeError: it failed.
        """
        cpus = some_cpus(self.threads)
        done = subprocess.run(
            [sys.executable, *command],
            env=environment(self.threads, cache or self.cache),
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        if self.log is not None:
            self.log.write(done.stderr)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise RuntimeError(last[0])
        return done.stdout

    def make_bytecode(self) -> None:
        """What pip does when it installs a package: else the first process that imports a module
        of this checkout would be the slow one."""
        self.run(["-c", _MAKE_BYTECODE])


class Worker:
    """A peer's process."""

    def __init__(self, peer: str, setting: Setting, cache: Path | None = None) -> None:
        self.peer = peer
        cpus = some_cpus(setting.threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(setting.threads), setting.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=setting.log,
            text=True,
            env=environment(setting.threads, (cache or setting.cache) / peer),
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer; {"failed": ...} also if the process ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"failed": f"its process ended with status {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
