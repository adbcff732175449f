"""How long a data-parallel step takes on many hosts: a model, and a simulator of the schedule.

    python -m benchmarks.scaling                    # predictions, for networks and hosts
    mpiexec -n 2 python -m benchmarks.scaling_runs runs.json
    python -m benchmarks.scaling_hosts runs.json    # the same on hosts with a network between them
    python -m benchmarks.scaling --fit runs.json    # the model's constants here, and its errors

In: a network's constants, a step's compute time and when its buckets of gradients are ready.  Out:
the step's time, what of it is communication that nothing hides, and the efficiency. See
docs/scaling.md.

The cost of a message of n bytes is alpha + n * beta (Hockney, "The communication challenge for
MPP", Parallel Computing 20, 1994), and of all-reduces the sum of their messages' (Thakur,
Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", IJHPCA 19,
2005).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log2
from typing import Any

import numpy as np

from braze.runtime.distributed.exchanged import SMALLEST, prime_factors


@dataclass(frozen=True)
class Network:
    """What connects the hosts.

    alpha: seconds of a message, whatever its size. beta: seconds of each byte of it.
    gamma: seconds for adding up a byte.
    """

    name: str
    alpha: float
    beta: float
    gamma: float = 0.0


# Line rates are the standards'; latencies are of MPI over the system's TCP (assumed), and published
# ones of transports past it: Cisco's usNIC 1.9 us, InfiniBand 1.5 us (Ohio State University).
_ADDING = 1 / 10e9
NETWORKS = (
    Network("10 Gb/s Ethernet, TCP", 30e-6, 8 / 10e9, _ADDING),
    Network("25 Gb/s Ethernet, TCP", 30e-6, 8 / 25e9, _ADDING),
    Network("100 Gb/s InfiniBand", 1.5e-6, 8 / 100e9, _ADDING),
)


def recursive_doubling(ranks: int, nbytes: float, network: Network) -> float:
    """Seconds of an all-reduce in which pairs exchange everything, ever further apart."""
    return ceil(log2(ranks)) * (network.alpha + nbytes * (network.beta + network.gamma))


def exchange(ranks: int, nbytes: float, network: Network) -> float:
    """Seconds of an all-reduce by exchanging parts: in groups of each prime factor f of the number
    of ranks f - 1 messages go out, and as many come back; for powers of two, halving and doubling.
    """
    messages = 2 * sum(factor - 1 for factor in prime_factors(ranks))
    share = (ranks - 1) / ranks * nbytes
    return messages * network.alpha + share * (2 * network.beta + network.gamma)


def all_reduce(ranks: int, nbytes: float, network: Network) -> float:
    """Seconds of an all-reduce between hosts: small ones are MPI's, others exchange parts."""
    if ranks == 1:
        return 0.0
    return (exchange if nbytes >= SMALLEST else recursive_doubling)(ranks, nbytes, network)


@dataclass(frozen=True)
class Step:
    """A training step of one rank, without communication.

    compute: seconds until the last gradient is there. buckets: (bytes, how many of these seconds
    have passed when the bucket's gradients are there), in the order of their reduction.
    update: seconds of the optimizer, which waits for all buckets.
    borrowed: of a collective's time, the part that a rank's compute is slower by meanwhile, because
        the same cores and the same memory serve both.
    """

    compute: float
    buckets: tuple[tuple[float, float], ...]
    update: float = 0.0
    borrowed: float = 0.0

    @property
    def alone(self) -> float:
        return self.compute + self.update


@dataclass(frozen=True)
class Outcome:
    """Seconds of a step; those without communication; how much of what hosts could do is done."""

    seconds: float
    alone: float

    @property
    def exposed(self) -> float:
        return self.seconds - self.alone

    @property
    def efficiency(self) -> float:
        return self.alone / self.seconds


def simulate(step: Step, durations: Sequence[float], pace: float = 1.0) -> float:
    """Seconds of one step.

    Compute and one collective at a time go on side by side. A bucket's collective begins when its
    gradients are there, on all ranks, and the one before has ended.

    Args:
        durations: of the buckets' collectives.
        pace: of the slowest rank: 1.1 takes a tenth longer for everything. A collective needs all
            ranks, so theirs is the time that counts.
    """
    now = done = 0.0  # seconds passed, and seconds of compute done by the slowest rank
    for (_, ready), duration in zip(step.buckets, durations, strict=True):
        left = ready * pace - done
        if left > 0:  # nothing is being reduced until then
            now, done = now + left, done + left
        rest = step.compute * pace - done
        # While the collective lasts, compute goes on at a lower speed, if there is any left.
        done += min(rest, duration * (1.0 - step.borrowed))
        now += duration
    return now + step.compute * pace - done + step.update * pace


def predict(
    step: Step, hosts: int, network: Network, spread: float = 0.0, draws: int = 200, seed: int = 0
) -> Outcome:
    """A step on so many hosts.

    Args:
        spread: standard deviation of the time that a host takes for a step, as a part of it: all
            wait for the slowest. Drawn `draws` times from a normal distribution.
    """
    durations = [all_reduce(hosts, nbytes, network) for nbytes, _ in step.buckets]
    if not spread:
        return Outcome(simulate(step, durations), step.alone)
    rng = np.random.default_rng(seed)
    slowest = 1.0 + spread * rng.standard_normal((draws, hosts)).max(axis=1)
    seconds = [simulate(step, durations, max(0.0, float(pace))) for pace in slowest]
    return Outcome(float(np.mean(seconds)), step.alone)


def fitted(
    ranks: int, sizes: Sequence[float], seconds: Sequence[float], name: str = "measured"
) -> Network:
    """The network between so many ranks that all-reduces of these sizes take these times on, with
    the least relative errors. What adding up costs is in beta."""
    t = np.asarray(seconds, float)
    one = Network("one", 1.0, 0.0), Network("one", 0.0, 1.0)  # the times are linear in both
    terms = np.array([[all_reduce(ranks, n, network) for network in one] for n in sizes])
    (alpha, beta), *_ = np.linalg.lstsq(terms / t[:, None], np.ones_like(t), rcond=None)
    return Network(name, max(float(alpha), 0.0), max(float(beta), 0.0))


# The command --------------------------------------------------------------------------------------

# ResNet-18 with 1,000 classes, 16 pictures of 64 x 64 on one core, as benchmarks.scaling_runs found
# it: 46.8 MB of gradients, in a small first bucket, one that 25 MiB fill, and the rest. A tenth of
# the time of a collective is taken to be lost to compute.
RESNET18 = Step(0.088, ((2.1e6, 0.030), (28.9e6, 0.045), (15.9e6, 0.088)), 0.009, 0.1)
HOSTS = (1, 8, 64, 1024)
_FITTED = 1 << 20  # bytes


def table(step: Step, networks: Sequence[Network], hosts: Sequence[int], spread: float) -> str:
    """Predictions, a line for each network and number of hosts."""
    lines = ["| network | hosts | step, ms | exposed, ms | efficiency |", "|---|---|---|---|---|"]
    for network in networks:
        for count in hosts:
            found = predict(step, count, network, spread)
            lines.append(
                f"| {network.name} | {count} | {found.seconds * 1e3:.0f} | "
                f"{found.exposed * 1e3:.0f} | {found.efficiency:.0%} |"
            )
    return "\n".join(lines)


def check(runs: Sequence[Mapping[str, Any]]) -> str:
    """Constants fitted to every other size of the first run's all-reduces, of those that buckets
    have, and what the model then says of the other sizes, of steps, and of the other runs, which
    may be of more ranks."""
    first = runs[0]
    used = [i for i, n in enumerate(first["sizes"]) if n >= _FITTED][::2]
    sizes, seconds = ([first[key][i] for i in used] for key in ("sizes", "seconds"))
    network = fitted(first["ranks"], sizes, seconds)
    bandwidth = 1e-6 / network.beta if network.beta else inf
    lines = [f"alpha {network.alpha * 1e6:.0f} us, {bandwidth:.0f} MB/s"]
    for run in runs:
        ranks = run["ranks"]
        lines.append(f"{ranks} ranks")
        lines.append(f"{'bytes':>10} {'measured ms':>12} {'model ms':>10} {'error':>7}")
        for position, (n, t) in enumerate(zip(run["sizes"], run["seconds"], strict=True)):
            model = all_reduce(ranks, n, network)
            use = "fitted" if run is first and position in used else "predicted"
            lines.append(
                f"{n:10.0f} {t * 1e3:12.3f} {model * 1e3:10.3f} {model / t - 1:7.0%}  {use}"
            )
        step = Step(run["step"]["compute"], tuple(map(tuple, run["step"]["buckets"])))
        for borrowed in (0.0, 0.5, 1.0):
            found = predict(replace(step, borrowed=borrowed), ranks, network).seconds
            measured = run["synchronised"]
            lines.append(
                f"step of {step.alone * 1e3:.1f} ms, compute slowed by {borrowed:.0%} of a "
                f"collective's time: model {found * 1e3:.1f} ms, measured {measured * 1e3:.1f} ms, "
                f"error {found / measured - 1:.0%}"
            )
    return "\n".join(lines)


def main() -> None:
    """Print predictions, or how well the model fits measured runs."""
    parser = argparse.ArgumentParser(description="Predict data-parallel steps on many hosts.")
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS)
    parser.add_argument("--spread", type=float, default=0.02, help="of hosts' times, as a part")
    parser.add_argument(
        "--fit", metavar="FILE", help="what benchmarks.scaling_runs or scaling_hosts wrote"
    )
    args = parser.parse_args()
    if args.fit:
        with open(args.fit) as file:
            print(check(json.load(file)))
        return
    print(table(RESNET18, NETWORKS, args.hosts, args.spread))


if __name__ == "__main__":
    main()
