"""What a package with narrow weights loses against the same model with its own.

In: arrays, or a manifest's facts.  Out: an `AccuracyReport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf, log10, prod, sqrt
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class OutputAccuracy:
    """How far an output is from what the model computes with its own weights, over all inputs.

    Attributes:
        type: its dtype and shape for the first input.
        largest_error, mean_error: of the absolute differences.
        relative_error: the norm of the differences over that of the values (infinite if all of
            these are zero).
        cosine: of the angle between the two, as vectors.
        same_argmax: of the rows along the last dimension, the share whose largest element is at the
            same place; None where rows have one element, and for other than floats.
        equal: of integers and truth values, the share that is the same; None for floats.
    """

    type: str
    largest_error: float
    mean_error: float
    relative_error: float
    cosine: float
    same_argmax: float | None
    equal: float | None

    def __str__(self) -> str:
        if self.equal is not None:
            return f"{self.type}: {self.equal:.2%} equal"
        text = (
            f"{self.type}: error {self.largest_error:.3g} at most, {self.mean_error:.3g} in the "
            f"mean, {self.relative_error:.3g} of the norm; cosine {self.cosine:.6f}"
        )
        return text if self.same_argmax is None else f"{text}; same argmax {self.same_argmax:.2%}"


@dataclass(frozen=True, slots=True)
class WeightAccuracy:
    """What narrowing a weight came to.

    Attributes:
        name: the parameter's, or that of the largest one that it was computed from.
        shape: as it is stored.
        largest_error: of the absolute differences.
        decibels: 10 log10 of the sum of squares over that of the differences' (infinite: none).
        bytes_before, bytes_after: of its elements, and scales.
    """

    name: str
    shape: tuple[int, ...]
    largest_error: float
    decibels: float
    bytes_before: int
    bytes_after: int

    @classmethod
    def of(
        cls, name: str, original: np.ndarray, decoded: np.ndarray, bytes_after: int
    ) -> WeightAccuracy:
        difference = decoded.astype(np.float64) - original
        noise = float(np.square(difference).sum())
        signal = float(np.square(original, dtype=np.float64).sum())
        decibels = inf if noise == 0.0 else 10.0 * log10(signal / noise)
        largest = float(np.abs(difference).max(initial=0.0))
        return cls(name, original.shape, largest, decibels, original.nbytes, bytes_after)

    def __str__(self) -> str:
        shape = ",".join(map(str, self.shape))
        return (
            f"{self.name} [{shape}]: {self.decibels:.1f} dB, error {self.largest_error:.3g} at "
            f"most, {self.bytes_before:,} -> {self.bytes_after:,} bytes"
        )


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """A package with narrow weights compared with the model as it was.

    Attributes:
        dtype: of the weights, "bfloat16" or "int8".
        inputs: how many were compared.
        outputs: in the order of the graph's.
        weights: those that were narrowed.
    """

    dtype: str
    inputs: int
    outputs: tuple[OutputAccuracy, ...]
    weights: tuple[WeightAccuracy, ...]

    @property
    def bytes_before(self) -> int:
        """Of the weights that were narrowed, as they were."""
        return sum(weight.bytes_before for weight in self.weights)

    @property
    def bytes_after(self) -> int:
        """As they are stored, scales included."""
        return sum(weight.bytes_after for weight in self.weights)

    def __str__(self) -> str:
        plural = "input" if self.inputs == 1 else "inputs"
        return "\n".join(
            [
                f"{len(self.weights)} weights in {self.dtype}: {self.bytes_before:,} -> "
                f"{self.bytes_after:,} bytes",
                f"outputs against those with the model's own weights, over {self.inputs} {plural}:",
                *(f"  {i}: {output}" for i, output in enumerate(self.outputs)),
                "weights:",
                *(f"  {weight}" for weight in self.weights),
            ]
        )

    def facts(self) -> dict[str, Any]:
        """As JSON can hold it."""
        facts = asdict(self)
        # JSON knows no infinity.
        for part in (*facts["outputs"], *facts["weights"]):
            part.update({key: None for key, value in part.items() if value == inf})
        return facts

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> AccuracyReport:
        """What `facts` gave.  Raises: KeyError, TypeError, ValueError if it did not."""
        outputs = tuple(
            OutputAccuracy(
                str(output["type"]),
                *(_number(output[key]) for key in _NUMBERS),
                *(None if output[key] is None else float(output[key]) for key in _SHARES),
            )
            for output in facts["outputs"]
        )
        weights = tuple(
            WeightAccuracy(
                str(weight["name"]),
                tuple(map(int, weight["shape"])),
                _number(weight["largest_error"]),
                _number(weight["decibels"]),
                int(weight["bytes_before"]),
                int(weight["bytes_after"]),
            )
            for weight in facts["weights"]
        )
        return cls(str(facts["dtype"]), int(facts["inputs"]), outputs, weights)


_NUMBERS = ("largest_error", "mean_error", "relative_error", "cosine")
_SHARES = ("same_argmax", "equal")


def _number(plain: float | None) -> float:
    return inf if plain is None else float(plain)


class Comparison:
    """Takes up an output of both models, input by input."""

    def __init__(self) -> None:
        self._type = ""
        self._largest = self._total = 0.0
        self._count = self._rows = self._same_rows = self._equal = 0
        # Sums of squares: of the differences, of both; and of the products of both.
        self._noise = self._own = self._other = self._products = 0.0
        self._floats = True

    def add(self, wanted: np.ndarray, found: np.ndarray) -> None:
        """One input's output of the model as it was, and with narrow weights."""
        if not self._type:
            self._type = f"{wanted.dtype}[{','.join(map(str, wanted.shape))}]"
            self._floats = wanted.dtype.kind not in "biu"
        a, b = (x.astype(np.float64).ravel() for x in (wanted, found))
        difference = np.abs(a - b)
        self._largest = max(self._largest, float(difference.max(initial=0.0)))
        self._total += float(difference.sum())
        self._noise += float(np.square(difference).sum())
        self._own, self._other = self._own + float(a @ a), self._other + float(b @ b)
        self._products += float(a @ b)
        self._count += a.size
        self._equal += int((a == b).sum())
        if wanted.ndim and wanted.shape[-1] > 1 and wanted.size:
            same = wanted.argmax(-1) == found.argmax(-1)
            self._rows += prod(wanted.shape[:-1])
            self._same_rows += int(same.sum())

    def result(self) -> OutputAccuracy:
        norms = sqrt(self._own) * sqrt(self._other)
        # Nothing but zeros is the same direction as itself.
        cosine = self._products / norms if norms else float(self._own == self._other)
        relative = sqrt(self._noise / self._own) if self._own else (inf if self._noise else 0.0)
        argmax = self._same_rows / self._rows if self._rows and self._floats else None
        return OutputAccuracy(
            self._type,
            self._largest,
            self._total / max(self._count, 1),
            relative,
            cosine,
            argmax,
            None if self._floats else self._equal / max(self._count, 1),
        )


def compared(
    runs: Sequence[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
) -> tuple[OutputAccuracy, ...]:
    """The accuracy of each output.

    Args:
        runs: for each input the outputs of the model as it was, and with narrow weights.
    """
    found = [Comparison() for _ in runs[0][0]]
    for wanted, outputs in runs:
        for comparison, a, b in zip(found, wanted, outputs, strict=True):
            comparison.add(a, b)
    return tuple(comparison.result() for comparison in found)
