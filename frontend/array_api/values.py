"""Sorting, sets, scans and searching in the array API standard's signatures."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from braze.array_api.operands import together
from braze.array_api.reductions import wide_dtype
from braze.functions import (
    complex_numbers,
    creation,
    distinct,
    movement,
    scans,
    scattering,
    searching,
    sorting,
)
from braze.functions.promotion import cast
from braze.ir.dtypes import DType
from braze.tensors import Tensor

UniqueAll = namedtuple("UniqueAll", "values indices inverse_indices counts")
UniqueCounts = namedtuple("UniqueCounts", "values counts")
UniqueInverse = namedtuple("UniqueInverse", "values inverse_indices")


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along a dimension."""
    return sorting.sort(x, axis, descending, stable=stable)[0]


def argsort(
    x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The places that put a dimension in order."""
    return sorting.sort(x, axis, descending, stable=stable)[1]


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """For each dimension, the places of elements that are not zero. A sync point.

    Raises:
        ValueError: the tensor has no dimensions.
    """
    if not x.ndim:
        raise ValueError("nonzero(): the tensor must have at least one dimension")
    result: tuple[Tensor, ...] = scattering.nonzero(x, as_tuple=True)
    return result


def searchsorted(
    x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Tensor | None = None
) -> Tensor:
    """Where values would go in a sorted vector."""
    sequence, values = together(x1, x2)
    return searching.searchsorted(sequence, values, side=side, sorter=sorter)


def _scan(name: str, x: Tensor, axis: int | None, dtype: Any, initial: bool, start: int) -> Tensor:
    if axis is None:
        if x.ndim != 1:
            raise ValueError("give the axis of a tensor that is not one-dimensional")
        axis = 0
    kind: DType = dtype or wide_dtype(x.dtype)
    result: Tensor = getattr(scans, name)(cast(x, kind), axis, dtype=kind)
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


def _distinct(x: Tensor, **wanted: bool) -> list[Tensor]:
    """The different elements and what else is wanted; complex ones in order of their real parts,
    then of the imaginary ones."""
    if not x.dtype.is_complex:
        found = distinct.unique(x, **wanted)
        return list(found) if wanted else [found]
    pairs = complex_numbers.view_as_real(movement.reshape(x, (-1,)))
    found = distinct.unique(pairs, dim=0, **wanted)
    values, *rest = found if wanted else [found]
    if wanted.get("return_inverse"):
        rest[0] = movement.reshape(rest[0], x.shape)
    return [complex_numbers.view_as_complex(values), *rest]


def unique_values(x: Tensor, /) -> Tensor:
    """The different elements in order."""
    result: Tensor = _distinct(x)[0]
    return result


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The different elements and how often each is there."""
    return UniqueCounts(*_distinct(x, return_counts=True))


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The different elements, and for each element which of them it is."""
    return UniqueInverse(*_distinct(x, return_inverse=True))


def unique_all(x: Tensor, /) -> UniqueAll:
    """The different elements, where each is first, which of them each element is, and how often."""
    values, inverse, counts = _distinct(x, return_inverse=True, return_counts=True)
    places, beyond = creation.arange(x.numel()), creation.full((values.numel(),), x.numel())
    first = scattering.scatter_reduce(beyond, 0, movement.reshape(inverse, (-1,)), places, "amin")
    return UniqueAll(values, first, inverse, counts)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        argsort, cumulative_prod, cumulative_sum, nonzero, searchsorted, sort,
        unique_all, unique_counts, unique_inverse, unique_values,
    )
}  # fmt: skip
