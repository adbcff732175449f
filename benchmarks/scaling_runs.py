"""What `benchmarks.scaling` is compared with: ``mpiexec -n 2 python -m benchmarks.scaling_runs F``.

Rank 0 writes, as JSON, a list of one run: the times of all-reduces by size, and of a ResNet-18 step
with and without communication, in turns. When the buckets' gradients are there is looked up in a
profile.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import braze
from benchmarks.models import resnet
from braze import distributed as dist
from braze import nn

SIZES = [4**k * 1024 for k in range(9)]  # bytes, up to 64 MiB
BATCH, ROUNDS, STEPS = 16, 12, 4
MOMENTUM = 0.9


def best(run: Callable[[], Any], repeats: int, *, of_slowest: bool = False) -> float:
    """Seconds of the quickest of some runs, begun by all ranks together.

    Args:
        of_slowest: of each run, the time until the last rank has ended it.
    """
    found = []
    for _ in range(repeats):
        dist.barrier()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        if of_slowest:
            everyone: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everyone, seconds)
            seconds = max(everyone)
        found.append(seconds)
    return min(found)


def reductions() -> list[float]:
    """Seconds of all-reduces of `SIZES`."""
    seconds = []
    for size in SIZES:
        x = braze.ones(size // 4)
        x.data_ptr()
        seconds.append(best(lambda x=x: dist.all_reduce(x), 20 if size < 1 << 22 else 8))  # type: ignore[misc]
    return seconds


def steps() -> tuple[float, float, list[tuple[float, float]]]:
    """Seconds of a step with and without communication; the buckets as (bytes, seconds from
    the graph's beginning until they are handed over)."""
    net = nn.parallel.DistributedDataParallel(resnet(braze, (2, 2, 2, 2), False))
    optimizer = braze.optim.SGD(net.parameters(), lr=0.01, momentum=MOMENTUM, weight_decay=1e-4)
    x, y = braze.randn(BATCH, 3, 64, 64), braze.randint(0, 1000, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        braze.sync()

    def alone() -> None:
        with net.no_sync():
            step()

    for run in (step, alone):
        for _ in range(3):
            run()
    together, apart = [], []
    for _ in range(ROUNDS):
        together.append(best(step, STEPS, of_slowest=True))
        apart.append(best(alone, STEPS, of_slowest=True))
    with braze.autograd.profiler.profile() as profile:
        step()
    events = profile.function_events
    whole = max((e.time_range for e in events if e.kind == "native"), key=lambda r: r.elapsed_us())
    buckets = []
    for event in sorted(events, key=lambda e: e.time_range.start):
        found = re.match(r"all_reduce.* of f32\[(\d+)\]", event.name)
        if event.kind == "communication" and found:
            ready = (event.time_range.start - whole.start) * 1e-6
            buckets.append((4.0 * int(found[1]), min(ready, min(apart))))
    return min(together), min(apart), buckets


def main(file: str) -> None:
    """Measure and write."""
    braze.config.tier = "compile"
    dist.init_process_group("mpi")
    braze.manual_seed(0)
    seconds = reductions()
    together, apart, buckets = steps()
    if dist.get_rank() == 0:
        with open(file, "w") as out:
            json.dump(
                [{
                    "ranks": dist.get_world_size(), "sizes": SIZES, "seconds": seconds,
                    "synchronised": together,
                    "step": {
                        "compute": apart, "buckets": buckets
                    },
                }],
                out,
            )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
