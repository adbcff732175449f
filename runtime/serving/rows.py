"""Requests that are computed as one: their rows are put together, and the results cut apart.

A row is what lies at one place of the dynamic dimension, the first if there are two; the other one
must have one size then. This is right for a model which computes each row from that row alone;
`row_trials` finds out whether one does.
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
        if not signature.dims:
            return "the model has no dynamic dimension"
        rows = signature.dims[0]
        if rows.highest < 2 * rows.lowest:
            return f"two requests have more than {rows.highest} rows"
        for kind, arguments in (("input", signature.inputs), ("output", signature.outputs)):
            for argument in arguments:
                if len(argument.rows) > 1 or (kind == "output" and len(argument.rows) != 1):
                    return (
                        f"{kind} {argument.name} has {len(argument.rows)} dimensions "
                        f"{rows.name}, not one"
                    )
        return cls(
            tuple(a.rows[0] if a.rows else None for a in signature.inputs),
            tuple(a.rows[0] for a in signature.outputs),
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
        """Equal for requests that may be computed as one: what has no rows must be the same, and
        rows must have one shape."""
        pairs = list(zip(arrays, self.inputs, strict=True))
        shapes = [[n for at, n in enumerate(a.shape) if at != axis] for a, axis in pairs]
        fixed = [array.tobytes() for array, axis in pairs if axis is None]
        return b"".join([str(shapes).encode(), *fixed])
