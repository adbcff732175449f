"""The bars: what the figures have to reach, and whether they do.

Each rule looks at one workload's row of the JSON and gives comparisons; a comparison whose figures
are missing is "unknown", never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers import OURS, PEERS
from benchmarks.suite import CPU

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One comparison: `value` must not be above (or, with `least`, below) `bound`.

    value: None where a figure is missing.
    """

    workload: str
    what: str
    value: float | None
    bound: float
    least: bool = False

    @property
    def state(self) -> str:
        """ "pass", "miss" or "unknown"."""
        if self.value is None:
            return "unknown"
        good = self.value >= self.bound if self.least else self.value <= self.bound
        return "pass" if good else "miss"

    def facts(self) -> dict[str, Any]:
        """For the JSON."""
        return {**asdict(self), "state": self.state}


def value(row: Row, peer: str, key: str = "value") -> float | None:
    """A peer's figure in a row; None if it has none."""
    figure = row["peers"].get(peer, {}).get(key)
    return None if figure is None else float(figure)


def best_peer(row: Row, key: str = "value") -> tuple[str, float] | None:
    """The peer besides Braze with the smallest figure."""
    known = [(v, p) for p in PEERS if p not in OURS and (v := value(row, p, key)) is not None]
    if not known:
        return None
    figure, peer = min(known)
    return peer, figure


def ratio(row: Row, ours: str, theirs: str = "", key: str = "value") -> float | None:
    """Our figure over a peer's, or over the best peer's."""
    mine = value(row, ours, key)
    other = value(row, theirs, key) if theirs else (best_peer(row, key) or ("", None))[1]
    return None if mine is None or not other else mine / other


def fraction(row: Row, peer: str) -> float | None:
    """How much of the machine's limit a peer reaches."""
    mine = value(row, peer)
    return None if not mine or not row["limit"] else row["limit"] / mine


def _of_limit(
    what: str, least: float, most: float
) -> Callable[[str, Row], Iterator[Bar]]:
    def rule(name: str, row: Row) -> Iterator[Bar]:
        yield Bar(name, f"part of {what}", fraction(row, "braze"), least, least=True)
        yield Bar(name, "time / best peer's", ratio(row, "braze"), most)

    return rule


def _training(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "eager / torch eager", ratio(row, "braze", "torch"), 0.8)
    yield Bar(name, "eager / best peer", ratio(row, "braze"), 1.0)
    yield Bar(name, "braze.compile / best peer", ratio(row, "braze.compile"), 0.8)


def _training_small(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "eager / torch eager", ratio(row, "braze", "torch"), 0.3)
    yield Bar(name, "eager / best peer", ratio(row, "braze"), 1.0)
    yield Bar(name, "braze.compile / best peer", ratio(row, "braze.compile"), 0.8)


def _memory_peak(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(
        name, "peak memory / torch eager's", ratio(row, "braze", "torch", "peak_bytes"), 1.0
    )


def _inference(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "package / ONNX Runtime", ratio(row, "braze.aot", "onnxruntime"), 0.9)


def _inference_small(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "eager / torch eager", ratio(row, "braze", "torch"), 0.3)


def _start(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(
        name, "load and first call / ONNX Runtime", ratio(row, "braze.aot", "onnxruntime"), 0.5
    )


def _at_most(peer: str, bound: float, key: str = "value") -> Callable[[str, Row], Iterator[Bar]]:
    def rule(name: str, row: Row) -> Iterator[Bar]:
        unit = "" if row["unit"] == "graphs" else f", {row['unit']}"
        label = {"value": "", "warm": " warm"}[key]
        yield Bar(name, f"{peer}{label}{unit}", value(row, peer, key), bound)

    return rule


def _compile(name: str, row: Row) -> Iterator[Bar]:
    """Compiling is no slower than the fastest compiler among the peers; torch eager is none."""
    peers = {p: f for p, f in row["peers"].items() if p != "torch"}
    yield Bar(
        name, "cold / fastest-compiling peer", ratio({**row, "peers": peers}, "braze"), 1.0
    )
    yield Bar(name, "warm, s", value(row, "braze", "warm"), 0.5)


RULES: dict[str, Callable[[str, Row], Iterator[Bar]]] = {
    "gemm": _of_limit("FMA peak", 0.92, 0.95),
    "convolution": _of_limit("FMA peak", 0.85, 0.95),
    "memory": _of_limit("memory bandwidth", 0.90, 1.0),
    "training": _training,
    "training_small": _training_small,
    "memory_peak": _memory_peak,
    "inference": _inference,
    "inference_small": _inference_small,
    "start": _start,
    "captured_op": _at_most("braze", 2.0),
    "cached_call": _at_most("braze.compile", 15.0),
    "parallel_region": _at_most("braze", 3.0),
    "compile": _compile,
    "compile_small": _at_most("braze", 0.3),
    "few_graphs": _at_most("braze", 4.0),
    "no_graphs": _at_most("braze", 0.0),
}


def _gpu_product(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "cuBLAS's speed (PyTorch)", ratio(row, "torch", "braze"), 0.9, least=True)


def _gpu_memory(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "part of memory bandwidth", fraction(row, "braze"), 0.9, least=True)


def _gpu_training(name: str, row: Row) -> Iterator[Bar]:
    yield Bar(name, "eager / torch.compile", ratio(row, "braze", "torch.compile"), 1.0)


# On GPUs, in place of the others.
GPU_RULES: dict[str, Callable[[str, Row], Iterator[Bar]]] = {
    "gemm": _gpu_product,
    "memory": _gpu_memory,
    "training_gpu": _gpu_training,
}


def judge(results: dict[str, Any]) -> list[Bar]:
    """Every bar of the workloads in the results."""
    rules = RULES if results.get("device", CPU) == CPU else GPU_RULES
    return [
        bar
        for name, row in results["workloads"].items()
        for rule in row["bars"]
        if rule in rules
        for bar in rules[rule](name, row)
    ]
