"""Requests that are computed as one: their rows are put together, and the results cut apart.

A row is what lies at one place of the dynamic dimension. This is right for a model which computes
each row from that row alone; `row_trials` finds out whether one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from braze.runtime.serving.signature import Signature


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of inputs and outputs lie.

    Attributes:
        inputs: the axis of each input, or None where an input has no rows.
        outputs: the axis of each output.
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, signature: Signature) -> Rows | str:
        """Those of a model, or why there are none."""
        if signature.name is None:
            return "the model has no dynamic dimension"
        if signature.highest < 2 * signature.lowest:
            return f"two requests have more than {signature.highest} rows"
        for kind, arguments in (("input", signature.inputs), ("output", signature.outputs)):
            for argument in arguments:
                if len(argument.axes) > 1 or (kind == "output" and len(argument.axes) != 1):
                    return (
                        f"{kind} {argument.name} has {len(argument.axes)} dimensions "
                        f"{signature.name}, not one"
                    )
        return cls(
            tuple(a.axes[0] if a.axes else None for a in signature.inputs),
            tuple(a.axes[0] for a in signature.outputs),
        )

    def joined(self, requests: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """One array for each input; what has no rows is the first request's."""
        return [
            requests[0][i]
            if axis is None
            else np.concatenate([arrays[i] for arrays in requests], axis)
            for i, axis in enumerate(self.inputs)
        ]

    def cut(self, results: Sequence[np.ndarray], sizes: Sequence[int]) -> list[list[np.ndarray]]:
        """The results of each request, as views."""
        ends = list(accumulate(sizes))[:-1]
        parts = [np.split(r, ends, axis) for r, axis in zip(results, self.outputs, strict=True)]
        return [list(own) for own in zip(*parts, strict=True)]

    def key(self, arrays: Sequence[np.ndarray]) -> bytes:
        """Equal for requests that may be computed as one: what has no rows must be the same."""
        fixed = [a for a, axis in zip(arrays, self.inputs, strict=True) if axis is None]
        return b"".join(array.tobytes() for array in fixed)
