"""Making sparse tensors: from indices and values, from dense tensors, and empty ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.devices import place_of
from braze.functions.creation import tensor, zeros
from braze.functions.indexing import check_index
from braze.functions.movement import reshape, select
from braze.functions.promotion import cast, get_default_dtype
from braze.functions.tables import rows_at
from braze.ir.dtypes import DType, i64
from braze.ir.op import op_named
from braze.layouts import sparse_coo
from braze.placing import moved
from braze.sparse.entries import check_order
from braze.sparse.tensor import SparseTensor, alias, make
from braze.tensors import Tensor, apply, from_array


class _Checks:
    """What was last asked for."""

    enabled = False


class check_sparse_tensor_invariants:
    """Ask for checks, inside a ``with`` block or a decorated function, or from `enable` on.

    Accepted, and remembered: sparse tensors are checked in any case, unless a call says
    ``check_invariants=False``.

    Example:
        >>> import braze
        >>> with braze.sparse.check_sparse_tensor_invariants():
        ...     braze.sparse.check_sparse_tensor_invariants.is_enabled()
        True
    """

    def __init__(self, enable: bool = True) -> None:
        self._wanted = enable
        self._before: list[bool] = []

    @staticmethod
    def is_enabled() -> bool:
        """Whether checks were asked for."""
        return _Checks.enabled

    @staticmethod
    def enable() -> None:
        """Ask for checks from now on."""
        _Checks.enabled = True

    @staticmethod
    def disable() -> None:
        """Ask for no checks from now on."""
        _Checks.enabled = False

    def __enter__(self) -> check_sparse_tensor_invariants:
        self._before.append(_Checks.enabled)
        _Checks.enabled = self._wanted
        return self

    def __exit__(self, *error: object) -> None:
        _Checks.enabled = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self._wanted):
                return function(*args, **kwargs)

        return wrapped


def sparse_coo_tensor(
    indices: Any = None,
    values: Any = None,
    size: Sequence[int] | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
    is_coalesced: bool | None = None,
) -> Tensor:
    """A sparse tensor with `values` at `indices`; what is named several times is summed.

    The indices are read here (a sync point), to check them and for a size that is not given.
    Gradients flow to `values`, unless the result is to be a leaf (`requires_grad`).

    Args:
        indices: the places, integers [sparse dimensions, entries]. Alone: the size of a tensor
            without entries.
        values: a tensor or data, [entries, dense dimensions...].
        size: by default the smallest that holds all places.
        dtype: of the values; by default their own.
        device: to which both parts are moved. By default that of the values, if they are a tensor.
        check_invariants: False believes what `is_coalesced` says, and leaves the range of the
            indices to the next sync, which raises IndexError.
        is_coalesced: say that the places are distinct and in order.

    Shape: indices [m, n], values [n, *dense] to a tensor of m + len(dense) dimensions.

    Raises:
        RuntimeError: shapes do not fit, an index is negative or not below its size, the tensor is
            said to be coalesced and is not, or its parts are on two devices and none is named.

    Example:
        >>> import braze
        >>> braze.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3))
        tensor(indices=tensor([[0, 1, 1],
                               [2, 0, 2]]),
               values=tensor([3., 4., 5.]),
               size=(2, 3), nnz=3, layout=braze.sparse_coo)
    """
    place = values.device if device is None and isinstance(values, Tensor) else device
    place = place_of(place)
    if values is None:
        sizes = _sizes(indices if size is None else size)
        made = empty_sparse(sizes, dtype or get_default_dtype(), place=place)
        made.requires_grad = requires_grad
        return made
    if device is None and isinstance(indices, Tensor) and indices._handle.type.device != place:
        raise RuntimeError(
            f"device of indices ({indices.device}) must match device of values ({place})"
        )
    places = moved(_as_indices(indices), place)
    there = moved(_as_values(values, dtype), place)
    _check_parts(places, there)
    if size is None:
        sizes = _inferred_size(places, there)
    else:
        sizes = _sizes(size)
        _check_size(places, there, sizes, check_invariants is not False)
    if is_coalesced and check_invariants is not False:
        check_order(places, sizes)
    history = there.requires_grad and not requires_grad
    made = make(places, alias(there) if history else there.detach(), sizes, bool(is_coalesced))
    if requires_grad:
        made.requires_grad = True
    return made


def _sizes(size: Any) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in size)
    if any(n < 0 for n in sizes):
        raise RuntimeError(f"sparse_coo_tensor(): sizes must not be negative, given {list(sizes)}")
    return sizes


def _as_indices(indices: Any) -> Tensor:
    found = indices if isinstance(indices, Tensor) else tensor(indices)
    if isinstance(found, SparseTensor):
        raise TypeError("sparse_coo_tensor(): indices must be a dense tensor")
    if found.ndim != 2:
        raise RuntimeError("indices must be sparse_dim x nnz, but got: " + str(list(found.shape)))
    return cast(found.detach(), i64)


def _as_values(values: Any, dtype: DType | None) -> Tensor:
    found = values if isinstance(values, Tensor) else tensor(values, dtype=dtype)
    if isinstance(found, SparseTensor):
        raise TypeError("sparse_coo_tensor(): values must be a dense tensor")
    if dtype is not None:
        found = cast(found, dtype)
    return reshape(found, (1,)) if found.ndim == 0 else found


def _check_parts(indices: Tensor, values: Tensor) -> None:
    if indices.shape[1] != values.shape[0]:
        raise RuntimeError(
            "indices and values must have same nnz, but got nnz from indices: "
            f"{indices.shape[1]}, nnz from values: {values.shape[0]}"
        )


def _inferred_size(indices: Tensor, values: Tensor) -> tuple[int, ...]:
    array = indices._numpy()
    if array.shape[1] == 0:
        return (*(0,) * array.shape[0], *values.shape[1:])
    _check_not_negative(array)
    return (*(int(n) + 1 for n in array.max(axis=1)), *values.shape[1:])


def _check_not_negative(array: np.ndarray) -> None:
    for dim, least in enumerate(array.min(axis=1) if array.shape[1] else ()):
        if least < 0:
            raise RuntimeError(f"found negative index {least} for dim {dim}")


def _check_size(indices: Tensor, values: Tensor, sizes: tuple[int, ...], now: bool) -> None:
    count, rest = indices.shape[0], values.ndim - 1
    if len(sizes) != count + rest:
        raise RuntimeError(
            "'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = "
            f"{len(sizes)}, sparse_dim = {count}, dense_dim = {rest}"
        )
    if tuple(values.shape[1:]) != sizes[count:]:
        raise RuntimeError(
            f"values has incorrect size, expected {[values.shape[0], *sizes[count:]]}, got "
            f"{list(values.shape)}"
        )
    if not now:
        for dim in range(count):
            check_index("sparse_coo_tensor", select(indices, 0, dim), sizes[dim])
        return
    array = indices._numpy()
    _check_not_negative(array)
    for dim, most in enumerate(array.max(axis=1) if array.shape[1] else ()):
        if most >= sizes[dim]:
            raise RuntimeError(
                f"size is inconsistent with indices: for dim {dim}, size is {sizes[dim]} but found "
                f"index {most}"
            )


def empty_sparse(
    size: Sequence[int], dtype: DType, sparse_dim: int | None = None, *, place: str = "cpu"
) -> SparseTensor:
    """A tensor without entries; all dimensions are sparse unless told."""
    shape = tuple(size)
    count = len(shape) if sparse_dim is None else sparse_dim
    indices = from_array(np.zeros((count, 0), np.int64))
    values = from_array(np.zeros((0, *shape[count:]), dtype.numpy))
    return make(moved(indices, place), moved(values, place), shape, True)


def _emptied(self: SparseTensor, size: Sequence[int], sparse_dim: int) -> SparseTensor:
    """A tensor of this one's kind, without entries."""
    return empty_sparse(size, self.dtype, sparse_dim, place=self._handle.type.device)


def to_sparse(
    self: Tensor,
    sparse_dim: int | None = None,
    *,
    layout: Any = None,
    blocksize: Any = None,
    dense_dim: int | None = None,
) -> Tensor:
    """The tensor in sparse form: an entry for each element (or slice of the last dimensions) that
    is not zero. A sync point; gradients flow through it.

    Args:
        sparse_dim: how many dimensions, the first ones, are sparse; all by default.

    Raises:
        RuntimeError: a number of dimensions that it has not, or a layout other than
            `braze.sparse_coo`.
    """
    if blocksize is not None or layout not in (None, sparse_coo, 0):
        raise RuntimeError(f"to_sparse: only layout {sparse_coo!r} is supported, given {layout!r}")
    if dense_dim is not None:
        sparse_dim = self.ndim - dense_dim
    if isinstance(self, SparseTensor):
        if sparse_dim not in (None, self.sparse_dim()):
            raise RuntimeError(
                "to_sparse: conversion from Sparse to Sparse with sparse_dim argument "
                "!=self.sparse_dim() is not supported"
            )
        return self
    shape = self._handle.type.shape
    count = len(shape) if sparse_dim is None else sparse_dim
    if not 0 <= count <= len(shape) or (count == 0 and shape):
        raise RuntimeError(
            f"dense_to_sparse: sparse_dim argument must be in [{min(1, len(shape))},{len(shape)}] "
            f"range, but {sparse_dim} is given"
        )
    array = self._numpy() != 0
    if count < len(shape):
        array = array.any(axis=tuple(range(count, len(shape))))
    places = np.nonzero(array.reshape(-1))[0]
    found = np.unravel_index(places, shape[:count]) if count else ()
    indices = np.array(found, np.int64).reshape(count, len(places))
    rows = reshape(self, (math.prod(shape[:count]), *shape[count:]))
    return make(from_array(indices), rows_at(rows, from_array(places)), shape, True)


def spdiags(diagonals: Tensor, offsets: Tensor, shape: Sequence[int], layout: Any = None) -> Tensor:
    """The sparse matrix whose diagonal `offsets[i]` holds row i of `diagonals`, at the columns of
    the same numbers.

    Raises:
        RuntimeError: the shapes do not fit, or a diagonal is named twice.

    Example:
        >>> import braze
        >>> braze.sparse.spdiags(braze.ones(1, 2), braze.tensor([0]), (2, 2)).to_dense()
        tensor([[1., 0.],
                [0., 1.]])
    """
    rows = reshape(diagonals, (1, -1)) if diagonals.ndim == 1 else diagonals
    if layout not in (None, sparse_coo):
        raise RuntimeError(f"spdiags: only layout {sparse_coo!r} is supported, given {layout!r}")
    if len(tuple(shape)) != 2 or rows.ndim != 2:
        raise RuntimeError("spdiags(): Output shape must be 2d and diagonals 1d or 2d")
    places = np.asarray(offsets._numpy()).reshape(-1)
    if len(places) != rows.shape[0]:
        raise RuntimeError(
            f"spdiags(): Number of diagonals ({rows.shape[0]}) does not match the number of "
            f"offsets ({len(places)})"
        )
    if len(set(places.tolist())) != len(places):
        raise RuntimeError("spdiags(): Offset tensor contains duplicate values")
    height, width = (int(n) for n in shape)
    found = []
    for row, offset in enumerate(places.tolist()):
        columns = np.arange(max(0, offset), min(width, height + offset, rows.shape[1]))
        found.append(np.stack([columns - offset, columns, row * rows.shape[1] + columns]))
    table = np.concatenate(found, axis=1) if found else np.zeros((3, 0), np.int64)
    values = rows_at(reshape(rows, (-1,)), from_array(np.ascontiguousarray(table[2])))
    return make(from_array(np.ascontiguousarray(table[:2])), values, (height, width))


def zero_(self: SparseTensor) -> SparseTensor:
    """Drop all entries, in place."""
    self._replace(_emptied(self, self._handle.type.shape, self.sparse_dim()))
    return self


def sparse_resize_(
    self: SparseTensor, size: Sequence[int], sparse_dim: int, dense_dim: int
) -> SparseTensor:
    """Change the size, in place; entries stay, new elements are zero.

    Raises:
        RuntimeError: the numbers of dimensions do not add up, or (where there are entries) they
            change, or a sparse dimension shrinks.
    """
    shape, own = _sizes(size), self._handle.type.shape
    if sparse_dim + dense_dim != len(shape):
        raise RuntimeError(
            "'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = "
            f"{len(shape)}, sparse_dim = {sparse_dim}, dense_dim = {dense_dim}"
        )
    if self._nnz() == 0:
        self._replace(_emptied(self, shape, sparse_dim))
        return self
    _check_resize(self, shape, sparse_dim, dense_dim)
    values = self._handle.values
    for axis, (new, old) in enumerate(zip(shape[sparse_dim:], own[sparse_dim:], strict=True), 1):
        if new != old:
            missing = list(values.shape)
            missing[axis] = new - old
            parts = [values, zeros(missing, dtype=values.dtype)]
            values = apply(call_of(op_named("concat"), dim=axis), *parts)
    self._replace(make(self._handle.indices, values, shape, self.is_coalesced()))
    return self


def _check_resize(self: SparseTensor, shape: tuple[int, ...], sparse: int, dense: int) -> None:
    advice = (
        "on a non-empty sparse tensor is not supported; make a new one with "
        "braze.sparse_coo_tensor(), or call sparse_resize_and_clear_()"
    )
    for word, new, old in (
        ("sparse", sparse, self.sparse_dim()),
        ("dense", dense, self.dense_dim()),
    ):
        if new != old:
            raise RuntimeError(
                f"changing the number of {word} dimensions (from {old} to {new}) {advice}"
            )
    own = self._handle.type.shape
    for word, part in (("sparse", slice(0, sparse)), ("dense", slice(sparse, None))):
        if any(n < m for n, m in zip(shape[part], own[part], strict=True)):
            raise RuntimeError(
                f"shrinking the size of {word} dimensions (from {list(own[part])} to "
                f"{list(shape[part])}) {advice}"
            )


def sparse_resize_and_clear_(
    self: SparseTensor, size: Sequence[int], sparse_dim: int, dense_dim: int
) -> SparseTensor:
    """Drop all entries and change the size, in place.

    Raises:
        RuntimeError: the numbers of dimensions do not add up.
    """
    shape = _sizes(size)
    if sparse_dim + dense_dim != len(shape):
        raise RuntimeError(
            "'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = "
            f"{len(shape)}, sparse_dim = {sparse_dim}, dense_dim = {dense_dim}"
        )
    self._replace(_emptied(self, shape, sparse_dim))
    return self
