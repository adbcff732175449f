"""Measure Braze and its peers side by side: ``python benchmarks/run.py``.

Every peer runs in a process of its own with the same number of threads. They take turns in short
rounds, so that what else the machine does hits all alike; the figure of a peer is the minimum over
the rounds' medians, and what is compared are ratios. Peers that are not installed are left out and
named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = ("braze", "braze.compile", "torch", "torch.compile")


class Worker:
    """A peer's process."""

    def __init__(self, peer: str, threads: int) -> None:
        self.peer = peer
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), peer, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.peer} ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def installed(peer: str) -> bool:
    """Whether the peer's package can be imported here."""
    return importlib.util.find_spec(peer.split(".")[0]) is not None


def measure(
    workload: str, peers: list[str], threads: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Milliseconds a step of each peer, and of its first steps."""
    workers = {peer: Worker(peer, threads) for peer in peers}
    try:
        first = {peer: worker.ask(prepare=workload) for peer, worker in workers.items()}
        medians: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(rounds):
            for peer, worker in workers.items():
                times = worker.ask(run=workload, seconds=seconds)["times"]
                medians[peer].append(statistics.median(times) * 1e3)
    finally:
        for worker in workers.values():
            worker.close()
    return {
        peer: {
            "milliseconds": min(medians[peer]),
            "rounds": medians[peer],
            "first_steps_seconds": first[peer]["first_steps"],
        }
        for peer in peers
    }


def train(cache: str, threads: int, steps: int) -> float:
    """Seconds from starting Python to the last of `steps` training steps, with this disk cache."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import braze, workloads;"
        "braze.set_num_threads(int(sys.argv[2]));"
        "step = workloads.mnist_train(braze, lambda model: model);"
        "[step() for _ in range(int(sys.argv[3]))]"
    )
    command = [sys.executable, "-c", code, str(HERE), str(threads), str(steps)]
    begin = time.perf_counter()
    subprocess.run(command, env={**os.environ, "BRAZE_CACHE_DIR": cache}, check=True)
    return time.perf_counter() - begin


def start_up(threads: int) -> dict[str, float]:
    """Time to the first training step: cold (nothing cached), warm (after another process)."""
    cold, warm = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(train(cache, threads, 1))
            train(cache, threads, 3)
            warm.append(train(cache, threads, 1))
    return {"cold_seconds": min(cold), "warm_seconds": min(warm)}


def report(results: dict[str, Any]) -> str:
    """The figures as a table: milliseconds, and how many times Braze's time each peer takes."""
    lines = []
    for workload, peers in results["workloads"].items():
        base = peers["braze"]["milliseconds"]
        lines.append(workload)
        for peer, figures in peers.items():
            first = ", ".join(f"{s:.2f}" for s in figures["first_steps_seconds"])
            ratio = base / figures["milliseconds"]
            lines.append(
                f"  {peer:14} {figures['milliseconds']:9.3f} ms   braze / {peer} = {ratio:5.2f}"
                f"   first steps {first} s"
            )
    times = results["start_up"]
    lines.append("time to the first finished training step, from starting Python")
    lines.append(f"  cold {times['cold_seconds']:.2f} s, warm {times['warm_seconds']:.2f} s")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print the table and write the JSON."""
    from workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; default all")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each peer's turn in a round")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workloads: {', '.join(sorted(unknown))}")
    peers = [peer for peer in options.peers if installed(peer)]
    for peer in options.peers:
        if peer not in peers:
            print(f"{peer} is not installed, left out", file=sys.stderr)
    results: dict[str, Any] = {"threads": options.threads, "workloads": {}}
    for workload in options.workloads or WORKLOADS:
        results["workloads"][workload] = measure(
            workload, peers, options.threads, options.rounds, options.seconds
        )
    results["start_up"] = start_up(options.threads)
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
