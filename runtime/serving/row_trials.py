"""Trials on random rows: does a model compute each row of its results from that row alone?

In: a model and where its rows lie.  Out: None, or the reason why requests cannot be put together.
The answer is an observation, not a proof: a model that mixes rows only for rare values passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braze.ir.dtypes import DType, dtype_named
from braze.runtime.package import LoadedModel
from braze.runtime.serving.rows import Rows
from braze.runtime.serving.signature import Argument, Signature

# How far results may be apart that other code computed, of the largest number.
_TOLERANCES = {"f16": 2e-2, "bf16": 1e-1, "f64": 1e-9, "c128": 1e-9}
_TOLERANCE = 1e-4
_ROWS = 6
# Integers may be places in a table of unknown length.
_INTEGERS_BELOW = (64, 2)

Arrays = list[np.ndarray]


def why_rows_depend(model: LoadedModel, signature: Signature, rows: Rows) -> str | None:
    """The reason, or None if no trial found one."""
    refusal: Exception | None = None
    for below in _INTEGERS_BELOW:
        try:
            return _Trial(model, signature, rows, below).reason()
        except Exception as error:  # the model's own checks, of any kind
            refusal = error
    text = str(refusal).partition("\n")[0]
    return f"the model does not take random rows: {text}"


class _Trial:
    def __init__(self, model: LoadedModel, signature: Signature, rows: Rows, below: int) -> None:
        self._model = model
        self._signature = signature
        self._rows = rows
        self._below = below
        self._random = np.random.default_rng(0)
        first, *others = signature.dims
        self._lowest = first.lowest
        self._size = max(2 * first.lowest, min(_ROWS, first.highest))
        self._others = tuple(max(dim.lowest, min(_ROWS, dim.highest)) for dim in others)
        self._fixed = self._drawn(self._size)

    def reason(self) -> str | None:
        size, lowest = self._size, self._lowest
        given = self._drawn(size)
        results = self._model.results(given)
        for row in sorted({0, size // 2, size - 1}):
            others = self._model.results(self._with_row(self._drawn(size), given, row))
            for argument, one, other in self._outputs(results, others):
                if self._part(one, argument, [row]) != self._part(other, argument, [row]):
                    return f"output {argument.name} of a row changes with other rows"
                rest = [i for i in range(size) if i != row]
                if self._part(one, argument, rest) == self._part(other, argument, rest):
                    return f"output {argument.name} was the same for other rows: nothing is shown"
        back = list(range(size))[::-1]
        turned = self._model.results(self._taken(given, back))
        for argument, one, other in self._outputs(results, turned):
            if not _close(np.take(one, back, argument.rows[0]), other, argument):
                return f"output {argument.name} of a row changes with its place"
        few = list(range(lowest))
        alone = self._model.results(self._taken(given, few))
        for argument, one, other in self._outputs(results, alone):
            if not _close(np.take(one, few, argument.rows[0]), other, argument):
                return f"output {argument.name} of a row changes with the number of rows"
        return None

    def _outputs(self, one: Arrays, other: Arrays) -> list[tuple[Argument, np.ndarray, np.ndarray]]:
        return list(zip(self._signature.outputs, one, other, strict=True))

    def _drawn(self, size: int) -> Arrays:
        """Random inputs; what has no rows is always the same."""
        made = []
        for i, (argument, axis) in enumerate(
            zip(self._signature.inputs, self._rows.inputs, strict=True)
        ):
            if axis is None and hasattr(self, "_fixed"):
                made.append(self._fixed[i])
            else:
                shape, dtype = argument.at((size, *self._others)), dtype_named(argument.dtype)
                made.append(_random(self._random, shape, dtype, self._below))
        return made

    def _with_row(self, arrays: Arrays, source: Arrays, row: int) -> Arrays:
        for array, own, axis in zip(arrays, source, self._rows.inputs, strict=True):
            if axis is not None:
                np.moveaxis(array, axis, 0)[row] = np.moveaxis(own, axis, 0)[row]
        return arrays

    def _taken(self, arrays: Arrays, places: Sequence[int]) -> Arrays:
        return [
            array if axis is None else np.take(array, places, axis)
            for array, axis in zip(arrays, self._rows.inputs, strict=True)
        ]

    def _part(self, array: np.ndarray, argument: Argument, places: Sequence[int]) -> bytes:
        """Bits of some rows: the same code at the same place computes the same bits."""
        return np.take(array, places, argument.rows[0]).tobytes()


def _random(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: DType, below: int
) -> np.ndarray:
    if dtype.is_integer:
        return np.asarray(generator.integers(0, below, shape)).astype(dtype.numpy)
    if dtype.kind == "bool":
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype.numpy)
    made = np.asarray(generator.standard_normal(shape))
    if dtype.is_complex:
        return (made + 1j * generator.standard_normal(shape)).astype(dtype.numpy)
    return made.astype(dtype.numpy)


def _close(one: np.ndarray, other: np.ndarray, argument: Argument) -> bool:
    if one.dtype.kind in "biu":
        return np.array_equal(one, other)
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    a, b = one.astype(wide), other.astype(wide)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return False
    a, b = a[finite], b[finite]
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return bool(np.abs(a - b).max(initial=0) <= _TOLERANCES.get(argument.dtype, _TOLERANCE) * scale)
