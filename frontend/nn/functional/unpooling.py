"""The partial inverse of max pooling: maxima back at their places, zeros elsewhere."""

from __future__ import annotations

import math
from typing import Any

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.creation import zeros
from braze.functions.indexing import check_index
from braze.functions.movement import reshape
from braze.ir.dtypes import i64
from braze.ir.errors import DimensionError, ShapeError
from braze.ir.op import op_named
from braze.nn.functional.pooling import check_filled
from braze.nn.functional.support import Ints, ints
from braze.tensors import Tensor, apply


def _output_size(input: Tensor, kernel: Ints, stride: Ints, padding: Ints, given: Any) -> Ints:
    spatial = len(kernel)
    own = tuple(input.shape[-spatial:])
    default = [
        (n - 1) * s + k - 2 * p for n, k, s, p in zip(own, kernel, stride, padding, strict=True)
    ]
    if given is None:
        sizes = tuple(default)
    else:
        sizes = tuple(given)
        if len(sizes) == spatial + 2:
            sizes = sizes[2:]
        if len(sizes) != spatial:
            raise ValueError(
                f"output_size should be a sequence containing {spatial} or {spatial + 2} elements, "
                f"but it has a length of '{len(sizes)}'"
            )
        for d, (size, usual, s) in enumerate(zip(sizes, default, stride, strict=True)):
            if not usual - s < size < usual + s:
                raise ValueError(
                    f'invalid output_size "{sizes}" (dim {d} must be between {usual - s} and '
                    f"{usual + s})"
                )
    for d, size in enumerate(sizes):
        if size < 0:
            raise ValueError(
                "max_unpooling: output_size must contain non-negative spatial dimensions, but got "
                f"output_size[{d}]={size}"
            )
    return sizes


def _unpool(
    spatial: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    name = f"max_unpool{spatial}d"
    require_tensors(name, input=input, indices=indices)
    kernel = ints(kernel_size, spatial, "kernel_size")
    strides = kernel if stride is None else ints(stride, spatial, "stride")
    paddings = ints(padding, spatial, "padding")
    if input.ndim < spatial:
        raise DimensionError(f"[{name}] needs {spatial} dimensions, given {input._handle.type}")
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"Input to {name} should be a {spatial + 1}d or {spatial + 2}d Tensor, but got a "
            f"tensor with {input.ndim} dimensions."
        )
    if spatial == 3 and min(strides) < 1:
        raise RuntimeError(f"strides should be greater than zero, but got stride: {strides}")
    sizes = _output_size(input, kernel, strides, paddings, output_size)
    if indices.dtype is not i64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype!r}")
    if indices.shape != input.shape:
        raise ShapeError(
            "Expected shape of indices to be same as that of the input tensor "
            f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"
        )
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {input.dtype!r}')
    check_filled(name, input, input.ndim - spatial - 1)
    lead = tuple(input.shape[:-spatial])
    planes, count = math.prod(lead), math.prod(sizes)
    check_index(f"{name}!", indices, count)
    rows = (planes, math.prod(input.shape[-spatial:]))
    blank = zeros((planes, count), dtype=input.dtype)
    call = call_of(op_named("scatter"), dim=1)
    filled = apply(call, blank, reshape(indices, rows), reshape(input, rows))
    return reshape(filled, (*lead, *sizes))


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put the maxima of `max_pool1d` back where they were; 0 elsewhere.

    Shape: input and indices [N, C, L] or [C, L] to [N, C, L'] with L' = (L - 1) * stride + kernel -
    2 * padding, or `output_size`.

    Args:
        indices: as `max_pool1d(..., return_indices=True)` gives them.
        output_size: of the last dimension or of all; it differs from the usual one by less than the
            stride.

    Raises:
        ValueError: the output size is not one that pools to the input's.
        IndexError: the input lacks dimensions.
        RuntimeError: shapes or dtypes do not fit; or, at the next sync, an index is out of range.
    """
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put the maxima of `max_pool2d` back where they were; see `max_unpool1d`."""
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put the maxima of `max_pool3d` back where they were; see `max_unpool1d`."""
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size)
