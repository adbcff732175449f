"""One peer in a process of its own: reads commands, runs workloads, answers with seconds.

Commands are JSON lines on standard input: {"prepare": workload}, {"run": workload, "seconds": s}.
Answers are JSON lines on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

START = time.perf_counter()


def load(peer: str, threads: int) -> tuple[Any, Callable[[Any], Any]]:
    """The library under its PyTorch-like interface, and how it compiles a model."""
    if peer == "braze":
        import braze

        braze.set_num_threads(threads)
        return braze, lambda model: model
    if peer == "braze.compile":
        import braze

        braze.set_num_threads(threads)
        return braze, braze.compile
    import torch

    torch.set_num_threads(threads)
    if peer == "torch":
        return torch, lambda model: model
    if peer == "torch.compile":
        return torch, torch.compile
    raise ValueError(f"unknown peer {peer!r}")


def main() -> None:
    """Serve commands until standard input ends."""
    peer, threads = sys.argv[1], int(sys.argv[2])
    from workloads import WORKLOADS

    # Libraries print to standard output at times; answers must stay alone on theirs.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, compile = load(peer, threads)
    steps: dict[str, Callable[[], float]] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "prepare" in command:
            name = command["prepare"]
            begin = time.perf_counter()
            steps[name] = WORKLOADS[name](library, compile)
            first: list[float] = []
            for _ in range(4):  # compilers may need to see a graph several times
                at = time.perf_counter()
                steps[name]()
                first.append(time.perf_counter() - at)
            answer = {"first_steps": first, "ready": time.perf_counter() - begin}
        else:
            step, times = steps[command["run"]], []
            until = time.perf_counter() + command["seconds"]
            while not times or time.perf_counter() < until:
                at = time.perf_counter()
                step()
                times.append(time.perf_counter() - at)
            answer = {"times": times}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
