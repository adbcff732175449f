"""Views by strides, windows and diagonals; what is asked about strides; tensors that change their
own shape or memory in place."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from braze.capture import call_of
from braze.functions.complex_numbers import conj, view_as_complex, view_as_real
from braze.functions.movement import (
    cat,
    clone,
    movedim,
    narrow,
    permute,
    resolve_sizes,
    select,
    sizes_of,
    squeeze,
    t,
    transpose,
    unsqueeze,
)
from braze.functions.promotion import cast
from braze.handle import INFERENCE
from braze.ir.dtypes import DType
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.ir.ops.strided import last_place
from braze.layouts import check_memory_format
from braze.strides import Ints, row_major
from braze.tensors import Tensor, view_of
from braze.typed_storage import TypedStorage
from braze.views import can_reshape, is_contiguous, layout_of, redirect, root_of, strided_view

_RESHAPE = op_named("reshape")


def _view(input: Tensor, *shape: Any, dtype: DType | None = None) -> Tensor:
    """As `reshape`, but never a copy; given a dtype of the same width, the same bits read as that
    dtype; complex numbers as twice as many real ones, and back.

    Raises:
        RuntimeError: the elements do not lie in memory as the shape needs.
    """
    if len(shape) == 1 and isinstance(shape[0], DType):
        dtype = shape[0]
    if dtype is not None:
        return _view_as_dtype(input, dtype)
    sizes = resolve_sizes(sizes_of(shape), input._handle.type.numel)
    if not can_reshape(input, sizes):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
        )
    return view_of(call_of(_RESHAPE, shape=sizes), input)


def _view_as_dtype(input: Tensor, dtype: DType) -> Tensor:
    own, sizes = input.dtype, tuple(input.shape)
    if own.is_complex and dtype is own.to_real():
        if not sizes:
            raise RuntimeError(
                f"self.dim() cannot be 0 to view {own!r} as {dtype!r} (different element sizes)"
            )
        return _view(view_as_real(input), (*sizes[:-1], 2 * sizes[-1]))
    if dtype.is_complex and own is dtype.to_real():
        if not sizes or sizes[-1] % 2:
            raise RuntimeError(
                f"self.size(-1) must be divisible by 2 to view {own!r} as {dtype!r} (different "
                f"element sizes), but got {sizes[-1] if sizes else 'a tensor of no dimensions'}"
            )
        return view_as_complex(_view(input, (*sizes[:-1], sizes[-1] // 2, 2)))
    return view_of(call_of(op_named("bitcast"), dtype=dtype), input)


def _view_as(input: Tensor, other: Tensor) -> Tensor:
    """View as the shape of another tensor."""
    return _view(input, other._handle.type.shape)


def as_strided(
    input: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """Element (i, j, ...) is element storage_offset + i * stride[0] + ... of the memory that
    `input` lies in. A view; gradients flow to the tensor that owns this memory.

    Args:
        storage_offset: default: that of `input`.

    Raises:
        RuntimeError: an element lies outside the memory, or a stride is negative.
    """
    sizes, strides = tuple(map(int, size)), tuple(map(int, stride))
    offset = layout_of(input).offset if storage_offset is None else storage_offset
    if len(sizes) != len(strides):
        raise RuntimeError("mismatch in length of strides and shape")
    if min((*strides, 0)) < 0:
        raise RuntimeError(
            "as_strided: Negative strides are not supported at the moment, got strides: "
            f"{list(strides)}"
        )
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    own = root_of(input)._handle.type
    if last_place(sizes, strides, offset) >= own.numel:
        width = own.dtype.itemsize
        needed = (last_place(sizes, strides, offset) + 1) * width
        raise RuntimeError(
            f"setStorage: sizes {list(sizes)}, strides {list(strides)}, storage offset {offset}, "
            f"and itemsize {width} requiring a storage size of {needed} are out of bounds for "
            f"storage of size {own.nbytes}"
        )
    return strided_view(input, sizes, strides, offset)


def slice_inverse(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """Look at the memory of a slice as at that of `src`, of which it is the slice."""
    return as_strided(input, src._handle.type.shape, *layout_of(src))


def _unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements, `step` apart, of a dimension; the last dimension runs through a
    window. A view.

    Raises:
        RuntimeError: a window is larger than the dimension, or the step is not positive.
    """
    d = normalise_dimension("unfold", dimension, input.ndim)
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    own = input._handle.type.shape or (1,)
    if size > own[d]:
        raise RuntimeError(
            f"maximum size for tensor at dimension {d} is {own[d]} but size is {size}"
        )
    if not input.ndim:
        return narrow(input.reshape(1), 0, 0, size)
    if size == 0:
        strides, offset = layout_of(input)
        sizes = (*own[:d], own[d] // step + 1, *own[d + 1 :], 0)
        return as_strided(input, sizes, (*strides, 1), offset)
    call = call_of(op_named("window"), dims=(d,), size=(size,), stride=(step,), dilation=(1,))
    return view_of(call, input)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements with column = row + offset, as last dimension. A view.

    Raises:
        RuntimeError: the two dimensions are one.
    """
    one = normalise_dimension("diagonal", dim1, input.ndim)
    two = normalise_dimension("diagonal", dim2, input.ndim)
    if one == two:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return view_of(call_of(op_named("diagonal"), offset=offset, dim1=one, dim2=two), input)


def moveaxis(input: Tensor, source: Any, destination: Any) -> Tensor:
    """As `movedim`."""
    return movedim(input, source, destination)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """As `transpose`."""
    return transpose(input, axis0, axis1)


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """As `transpose`."""
    return transpose(input, dim0, dim1)


def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped, and the conjugates."""
    return conj(transpose(input, -2, -1))


def _reversed(self: Tensor) -> Tensor:
    """All dimensions in reverse order."""
    return permute(self, tuple(range(self.ndim - 1, -1, -1)))


def _hermitian(self: Tensor) -> Tensor:
    """The transposed matrix of the conjugates."""
    if self.ndim not in (0, 2):
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor."
        )
    return conj(t(self))


def _matrix_transposed(self: Tensor) -> Tensor:
    """The last two dimensions swapped."""
    if self.ndim == 0:
        return self
    if self.ndim < 2:
        raise RuntimeError(
            "tensor.mT is only supported on matrices or batches of matrices. Got "
            f"{self.ndim}-D tensor."
        )
    return transpose(self, -2, -1)


def _matrix_adjoint(self: Tensor) -> Tensor:
    """The last two dimensions swapped, and the conjugates."""
    return conj(_matrix_transposed(self))


def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """As `narrow`, but a copy."""
    return clone(narrow(input, dim, start, length))


# A copy with the part that a view shows replaced --------------------------------------------------


def _scattered(input: Tensor, src: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    copy = clone(input)
    part = view(copy)
    if part._handle.type.shape != src._handle.type.shape:
        raise RuntimeError(
            "expected src to have a size equal to the slice of self. src size = "
            f"{list(src.shape)}, slice size = {list(part.shape)}"
        )
    part._replace(clone(cast(src, input.dtype)))
    return copy


def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of `input` with a diagonal replaced by `src`.

    Raises:
        RuntimeError: `src` has not the diagonal's shape.
    """
    return _scattered(input, src, lambda x: diagonal(x, offset, dim1, dim2))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of `input` with one index of a dimension replaced by `src`.

    Raises:
        RuntimeError: `src` has not the selection's shape.
    """
    return _scattered(input, src, lambda x: select(x, dim, index))


def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of `input` with start:end:step of a dimension replaced by `src`.

    Raises:
        RuntimeError: `src` has not the slice's shape.
    """
    d = normalise_dimension("slice_scatter", dim, input.ndim)
    key = (*(slice(None),) * d, slice(start, end, step))
    return _scattered(input, src, lambda x: x[key])


def as_strided_scatter(
    input: Tensor,
    src: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """A copy of `input` with what `as_strided` shows of it replaced by `src`.

    Raises:
        RuntimeError: `src` has not the view's shape.
    """
    return _scattered(input, src, lambda x: as_strided(x, size, stride, storage_offset))


# What tensors say about their memory --------------------------------------------------------------


def _stride(self: Tensor, dim: int | None = None) -> tuple[int, ...] | int:
    """How many elements apart in memory neighbours are, for all dimensions or for one."""
    strides = layout_of(self).strides
    if dim is None:
        return strides
    return strides[normalise_dimension("stride", dim, self.ndim)]


def _storage_offset(self: Tensor) -> int:
    """The position of the first element in the memory that the tensor looks into."""
    return layout_of(self).offset


def _is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Are the elements in row-major order without gaps?"""
    check_memory_format(memory_format, self.ndim)
    return is_contiguous(self)


def _contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it is contiguous, else a copy that is."""
    check_memory_format(memory_format, self.ndim)
    return self if is_contiguous(self) else clone(self)


def _is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Do both show the same elements of the same memory?"""
    return (
        root_of(self) is root_of(tensor)
        and self._handle.type == tensor._handle.type
        and layout_of(self) == layout_of(tensor)
    )


def _version(self: Tensor) -> int:
    """How often the memory was written to in place.

    Raises:
        RuntimeError: the tensor was made in `inference_mode`, where nobody counts.
    """
    if self._handle.flags & INFERENCE:
        raise RuntimeError("Inference tensors do not track version counter.")
    return getattr(root_of(self), "_writes", 0)


# Tensors that look elsewhere from now on ----------------------------------------------------------


def _moving(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The in-place form of a view: the tensor takes on the view's shape."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made: list[Tensor] = []

        def make(before: Tensor) -> Tensor:
            view = function(before, *args, **kwargs)
            made.append(view if view._base is not None else _same(view))
            return made[0]

        return redirect(self, make)

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"`{function.__name__}` in place: the tensor itself takes on the shape."
    return method


def _same(tensor: Tensor) -> Tensor:
    return view_of(call_of(_RESHAPE, shape=tensor._handle.type.shape), tensor)


def _set_(
    self: Tensor,
    source: Tensor | TypedStorage | None = None,
    storage_offset: int = 0,
    size: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
) -> Tensor:
    """Look into the memory of another tensor from now on: all that it shows, or by strides. Without
    a source the tensor becomes empty. A storage stands for the tensor that owns it.

    Raises:
        RuntimeError: the dtypes differ, or the strides reach outside the memory.
        NotImplementedError: the source is sparse.
    """
    if source is None:
        from braze.functions.creation import empty

        source = empty(0, dtype=self.dtype)
    if isinstance(source, TypedStorage):
        source = source.as_tensor()
        size = (source._handle.type.numel - storage_offset,) if size is None else size
    if not isinstance(source, Tensor):
        raise TypeError(f"set_(): source must be a tensor or storage, not {type(source).__name__}")
    if source.dtype is not self.dtype:
        raise RuntimeError(
            f"Could not set tensor of type {source.dtype.public_name} to a tensor of type "
            f"{self.dtype.public_name}"
        )
    if source.is_sparse:
        raise NotImplementedError("set_() needs a source with memory of its own, not a sparse one")
    looked_into = source
    if size is None:
        return redirect(self, lambda _: _same(looked_into))
    sizes = tuple(size)
    strides = row_major(sizes).strides if stride is None else tuple(stride)
    return redirect(self, lambda _: as_strided(looked_into, sizes, strides, storage_offset))


def _resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Show the memory under another shape, row-major from the tensor's first element on.

    Where the memory is too small the tensor moves to new memory, whose further elements are zeros;
    views of it stay with the old memory.

    Raises:
        RuntimeError: a size is negative, or the tensor requires a gradient.
    """
    shape = sizes_of(sizes)
    if self._requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    if min((*shape, 0)) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension: {list(shape)}")
    strides, offset = row_major(shape).strides, layout_of(self).offset
    have = root_of(self)._handle.type.numel - offset
    if math.prod(shape) <= have:
        return redirect(self, lambda before: strided_view(before, shape, strides, offset))
    return redirect(self, lambda before: _grown(before, shape, have, offset))


def _grown(before: Tensor, shape: Ints, have: int, offset: int) -> Tensor:
    from braze.functions.creation import zeros

    known = strided_view(before, (have,), (1,), offset)
    more = cat([known, zeros(math.prod(shape) - have, dtype=before.dtype)])
    return view_of(call_of(_RESHAPE, shape=shape), more)


def _reshaped(self: Tensor, sizes: tuple[int, ...]) -> Tensor:
    warnings.warn("non-inplace resize is deprecated", stacklevel=3)
    if math.prod(sizes) != self.numel():
        wanted, own = ("x".join(map(str, shape)) for shape in (sizes, self.shape))
        raise RuntimeError(
            f"requested resize to {wanted} ({math.prod(sizes)} elements in total), but the given "
            f"tensor has a size of {own} ({self.numel()} elements). autograd's resize can only "
            "change the shape of a given tensor, while preserving the number of elements. "
        )
    return _view(_contiguous(self), sizes)


def _resize(self: Tensor, *sizes: Any) -> Tensor:
    """As `view`, on a copy if the tensor is not contiguous.

    Warns:
        UserWarning: always; it is an early name.

    Raises:
        RuntimeError: the number of elements would change.
    """
    return _reshaped(self, sizes_of(sizes))


def _resize_as(self: Tensor, tensor: Tensor) -> Tensor:
    """`resize` to the shape of another tensor."""
    return _reshaped(self, tensor._handle.type.shape)


def _resize_as_(self: Tensor, the_template: Tensor, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return _resize_(self, the_template._handle.type.shape)


METHODS: dict[str, Any] = {
    "view": _view,
    "view_as": _view_as,
    "unfold": _unfold,
    "stride": _stride,
    "storage_offset": _storage_offset,
    "is_contiguous": _is_contiguous,
    "contiguous": _contiguous,
    "is_set_to": _is_set_to,
    "set_": _set_,
    "resize": _resize,
    "resize_as": _resize_as,
    "resize_": _resize_,
    "resize_as_": _resize_as_,
    "_version": property(_version),
    "T": property(_reversed),
    "H": property(_hermitian),
    "mT": property(_matrix_transposed),
    "mH": property(_matrix_adjoint),
}
METHODS |= {
    function.__name__: function
    for function in (
        as_strided,
        diagonal,
        moveaxis,
        swapaxes,
        swapdims,
        adjoint,
        narrow_copy,
        slice_inverse,
        diagonal_scatter,
        select_scatter,
        slice_scatter,
        as_strided_scatter,
    )
}
METHODS |= {
    f"{function.__name__}_": _moving(function)
    for function in (as_strided, swapaxes, swapdims, transpose, t, squeeze, unsqueeze)
}
