"""Names of the standard that rest on functions the package may have: sorting, sets, scans."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from braze.array_api.operands import together
from braze.array_api.reductions import wide_dtype
from braze.functions import creation, movement
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, i64
from braze.tensors import Tensor

UniqueAll = namedtuple("UniqueAll", "values indices inverse_indices counts")
UniqueCounts = namedtuple("UniqueCounts", "values counts")
UniqueInverse = namedtuple("UniqueInverse", "values inverse_indices")


def _braze() -> Any:
    import braze

    return braze


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along a dimension."""
    result: Tensor = _braze().sort(x, dim=axis, descending=descending, stable=stable)[0]
    return result


def argsort(
    x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The places that put a dimension in order."""
    result: Tensor = _braze().sort(x, dim=axis, descending=descending, stable=stable)[1]
    return result


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """For each dimension, the places of elements that are not zero. A sync point.

    Raises:
        ValueError: the tensor has no dimensions.
    """
    if not x.ndim:
        raise ValueError("nonzero(): the tensor must have at least one dimension")
    result: tuple[Tensor, ...] = _braze().nonzero(x, as_tuple=True)
    return result


def searchsorted(
    x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Tensor | None = None
) -> Tensor:
    """Where values would go in a sorted vector."""
    sequence, values = together(x1, x2)
    result: Tensor = _braze().searchsorted(sequence, values, side=side, sorter=sorter)
    return result


def _scan(name: str, x: Tensor, axis: int | None, dtype: Any, initial: bool, start: int) -> Tensor:
    if axis is None:
        if x.ndim != 1:
            raise ValueError("give the axis of a tensor that is not one-dimensional")
        axis = 0
    kind: DType = dtype or wide_dtype(x.dtype)
    result: Tensor = getattr(_braze(), name)(cast(x, kind), axis, dtype=kind)
    if not initial:
        return result
    shape = list(result.shape)
    shape[axis] = 1
    return movement.cat([creation.full(shape, start, dtype=kind), result], axis)


def cumulative_sum(
    x: Tensor,
    /,
    *,
    axis: int | None = None,
    dtype: DType | None = None,
    include_initial: bool = False,
) -> Tensor:
    """Sums of the elements so far, from 0 on if `include_initial`."""
    return _scan("cumsum", x, axis, dtype, include_initial, 0)


def cumulative_prod(
    x: Tensor,
    /,
    *,
    axis: int | None = None,
    dtype: DType | None = None,
    include_initial: bool = False,
) -> Tensor:
    """Products of the elements so far, from 1 on if `include_initial`."""
    return _scan("cumprod", x, axis, dtype, include_initial, 1)


def unique_values(x: Tensor, /) -> Tensor:
    """The different elements in order."""
    result: Tensor = _braze().unique(x)
    return result


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The different elements and how often each is there."""
    return UniqueCounts(*_braze().unique(x, return_counts=True))


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The different elements, and for each element which of them it is."""
    return UniqueInverse(*_braze().unique(x, return_inverse=True))


def unique_all(x: Tensor, /) -> UniqueAll:
    """The different elements, where each is first, which of them each element is, and how often."""
    values, inverse, counts = _braze().unique(x, return_inverse=True, return_counts=True)
    _, first = np.unique(inverse._numpy().reshape(-1), return_index=True)
    return UniqueAll(values, creation.tensor(first, dtype=i64), inverse, counts)


# The standard's name: the function of the package that it needs, and what to call.
FUNCTIONS: dict[str, tuple[str, Any]] = {
    "argsort": ("sort", argsort),
    "cumulative_prod": ("cumprod", cumulative_prod),
    "cumulative_sum": ("cumsum", cumulative_sum),
    "nonzero": ("nonzero", nonzero),
    "searchsorted": ("searchsorted", searchsorted),
    "sort": ("sort", sort),
    "unique_all": ("unique", unique_all),
    "unique_counts": ("unique", unique_counts),
    "unique_inverse": ("unique", unique_inverse),
    "unique_values": ("unique", unique_values),
}
