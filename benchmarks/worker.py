"""One peer in a process of its own: ``python -m benchmarks.worker PEER THREADS DEVICE``.

Commands are JSON lines on standard input, answers JSON lines on standard output:

    {"prepare": workload, "layout": "channels_last" | "", "patience": seconds}
                                                     -> {"first_steps": [...]}
    {"run": seconds}                                 -> {"times": [...]}
    {"outputs": path, "name": workload, "steps": n}  -> {}; the last of n steps' results, written by
                                                numpy.savez, without randomness
    {"memory": null}                                 -> {"peak_bytes": ..., "loaded_bytes": ...}

A command that fails is answered by {"unsupported": reason} or {"failed": text}.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PEERS, Options, Unsupported
from benchmarks.suite import workloads

STEPS_AT_LEAST, SECONDS_AT_MOST = 4, 20.0


def warm_up(step: Callable[[], Any], patience: float) -> list[float]:
    """Seconds of each of the first steps, until for `patience` seconds no step was clearly faster
    than all before it; what came after the last such step is cut to three steps.

    Compilers see a program once, twice or more before they have compiled it, and may do so while
    the program goes on.
    """
    seconds: list[float] = []
    begin = gained = time.perf_counter()
    gain, best = 0, float("inf")
    while True:
        at = time.perf_counter()
        step()
        now = time.perf_counter()
        seconds.append(now - at)
        if now - at < 0.8 * best:
            gain, gained = len(seconds), now
        best = min(best, now - at)
        if len(seconds) >= STEPS_AT_LEAST:
            settled = len(seconds) > gain and now - gained >= patience
            if settled or now - begin > SECONDS_AT_MOST + patience:
                return seconds[: gain + 3]


def resident(field: str) -> int:
    """Bytes of this process from /proc: "VmRSS" now, "VmHWM" at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    return 0


class Session:
    """The peer's process: the adapter, and the program in hand."""

    def __init__(self, peer: str, threads: int, device: str) -> None:
        self.adapter = PEERS[peer].open(threads, device)
        self.loaded = resident("VmRSS")
        self.suite = workloads()
        self.step: Callable[[], Any] = lambda: None

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command."""
        if "prepare" in command:
            self.step = lambda: None  # lets go of the program before
            options = Options(command.get("layout") == "channels_last")
            self.step = self.adapter.prepare(self.suite[command["prepare"]], options)
            return {"first_steps": warm_up(self.step, command.get("patience", 0.0))}
        if "run" in command:
            step, times = self.step, list[float]()
            until = time.perf_counter() + command["run"]
            while not times or time.perf_counter() < until:
                at = time.perf_counter()
                step()
                times.append(time.perf_counter() - at)
            return {"times": times}
        if "outputs" in command:
            # From a program of its own: the one in hand has been warmed up, and training moves.
            options = Options(random=False)
            step = self.adapter.prepare(self.suite[command["name"]], options)
            for _ in range(command["steps"]):
                result = step()
            np.savez(command["outputs"], *self.adapter.arrays(result))
            return {}
        return {"peak_bytes": resident("VmHWM"), "loaded_bytes": self.loaded}


def main() -> None:
    """Serve commands until standard input ends."""
    # Libraries print to standard output at times; answers must stay alone on theirs.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session: Session | None = None
    for line in sys.stdin:
        try:
            if session is None:
                session = Session(sys.argv[1], int(sys.argv[2]), sys.argv[3])
            answer = session.answer(json.loads(line))
        except Unsupported as error:
            answer = {"unsupported": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
