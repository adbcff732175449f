"""What a model computes from sizes, as operations: the tensors of known arrays.

In: arrays that are computed while a model is traced, and from what.  Out: where one is used as
data, a tensor that is computed by operations from numbers, and not a constant. So the graphs for
several sizes differ in numbers only, and one code may serve them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import braze
from braze.tensors import Tensor


@dataclass(slots=True)
class _Origin:
    """Where an array comes from.

    Attributes:
        array: itself, so that nothing else has its identity.
        node: that computed it, with NumPy; None for sizes.
        operands: of the node.
        result: which of its results it is.
        tensor: once it was asked for.
    """

    array: np.ndarray
    node: Any
    operands: Sequence[Any]
    result: int
    tensor: Tensor | None = None


class SizedValues:
    """The arrays of one call that depend on the sizes of its inputs."""

    def __init__(self) -> None:
        self._origins: dict[int, _Origin] = {}

    def clear(self) -> None:
        """Forget those of an earlier call."""
        self._origins.clear()

    def origin_of(self, value: Any) -> _Origin | None:
        """What is known of an array; None for one that is the same for all sizes."""
        found = self._origins.get(id(value))
        return found if found is not None and found.array is value else None

    def note(self, results: Sequence[Any], node: Any = None, operands: Sequence[Any] = ()) -> None:
        """Enter what a node has computed with NumPy; without one, sizes."""
        for number, array in enumerate(results):
            if isinstance(array, np.ndarray) and self.origin_of(array) is None:
                self._origins[id(array)] = _Origin(array, node, operands, number)

    def tensor(self, value: np.ndarray) -> Tensor:
        """An array that was entered, as a tensor."""
        origin = self._origins[id(value)]
        if origin.tensor is None:
            origin.tensor = self._computed(origin)
        return origin.tensor

    def _computed(self, origin: _Origin) -> Tensor:
        array, node = origin.array, origin.node
        if array.dtype.kind in "iu" and (node is None or array.size == 1):
            dtype = _constant(array).dtype
            if array.size == 1:
                return braze.full(array.shape, int(array.item()), dtype=dtype)
            numbers = [braze.full((), int(x), dtype=dtype) for x in array.reshape(-1)]
            return braze.stack(numbers).reshape(array.shape) if numbers else _constant(array)
        rule = node.step.rule
        if rule.raw or rule.run is None:
            return _constant(array)
        operands = [x if i in rule.read else node.tensor(x) for i, x in enumerate(origin.operands)]
        results = rule.run(node, *operands)
        result = results[origin.result] if isinstance(results, (list, tuple)) else results
        return result if isinstance(result, Tensor) else _constant(array)


def _constant(array: np.ndarray) -> Tensor:
    tensor: Tensor = braze.from_numpy(np.array(array))
    return tensor
