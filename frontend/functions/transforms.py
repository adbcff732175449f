"""What all forms of the Fourier transform share: checks, sizes, norms, and the three kinds of
transform: of complex numbers, from real ones, to real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from braze.capture import call_of
from braze.casting import casts_now
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import conj
from braze.functions.matrices import call_host
from braze.functions.movement import slice_dimension
from braze.functions.promotion import cast, get_default_dtype
from braze.ir.dtypes import f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply

Sizes = int | Sequence[int] | None


def real_operand(name: str, input: Tensor) -> Tensor:
    """A real tensor of a dtype that has transforms; integers become the default dtype.

    Raises:
        DTypeError: it is complex, or of half precision.
    """
    require_tensors(name, input)
    if input.dtype.is_complex:
        raise DTypeError(f"[{name}] expects a real input tensor, but got {input._handle.type}")
    if not input.dtype.is_floating_point:
        input = cast(input, get_default_dtype())
    if input.dtype not in (f32, f64):
        if not casts_now(input):
            raise DTypeError(f"[{name}] Unsupported dtype, given {input._handle.type}")
        input = cast(input, f32)
    return input


def complex_operand(name: str, input: Tensor) -> Tensor:
    """A tensor as a complex one."""
    require_tensors(name, input)
    if input.dtype.is_complex:
        return input
    input = real_operand(name, input)
    return cast(input, input.dtype.to_complex())


def placed(
    name: str, input: Tensor, s: Sizes, dim: Sizes
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The dimensions to transform and the size of each (-1: as it is).

    By default the dimensions are the last ones that `s` has sizes for, or all.

    Raises:
        DimensionError: one is out of range.
        ShapeError: one appears twice, or their number is not that of the sizes.
    """
    require_tensors(name, input)
    sizes = None if s is None else (s,) if isinstance(s, int) else tuple(s)
    if dim is None:
        count = input.ndim if sizes is None else len(sizes)
        if count > input.ndim:
            raise ShapeError(
                f"[{name}] Got shape with {count} values but input tensor only has {input.ndim} "
                f"dimensions: {input._handle.type}"
            )
        dims = tuple(range(input.ndim - count, input.ndim))
    else:
        given = (dim,) if isinstance(dim, int) else tuple(dim)
        if input.ndim == 0 and given:
            raise IndexError(
                f"[{name}] Dimension specified as {given[0]} but tensor has no dimensions"
            )
        dims = tuple(normalise_dimension(name, d, input.ndim) for d in given)
        if len(set(dims)) < len(dims):
            raise ShapeError(f"[{name}] FFT dims must be unique, given {list(given)}")
    if sizes is None:
        sizes = (-1,) * len(dims)
    if len(sizes) != len(dims):
        raise ShapeError(
            f"[{name}] When given, dim and shape arguments must have the same length: "
            f"{list(dims)}, {list(sizes)}"
        )
    return dims, sizes


def factor(norm: str | None, count: int, inverse: bool) -> float:
    """What a transform of `count` points is multiplied by.

    Raises:
        RuntimeError: the norm is none of "forward", "backward", "ortho", None ("backward").
    """
    if norm == "ortho":
        return 1 / math.sqrt(count)
    if norm not in (None, "forward", "backward"):
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return 1 / count if inverse == (norm != "forward") else 1.0


def _scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1.0 else x * scale


def _check_size(name: str, size: int, input: Tensor) -> None:
    if size < 1:
        raise ShapeError(
            f"[{name}] Invalid number of data points ({size}) specified: {input._handle.type}"
        )


def resized(name: str, x: Tensor, dims: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Dimensions cut at their end, or filled up with zeros, to these sizes (-1: as it is).

    Raises:
        ShapeError: a dimension would have no elements.
    """
    shape = x._handle.type.shape
    high = [0] * len(shape)
    for d, size in zip(dims, sizes, strict=True):
        _check_size(name, shape[d] if size == -1 else size, x)
        if -1 < size < shape[d]:
            x = slice_dimension(x, d, 0, size, 1)
        elif size > shape[d]:
            high[d] = size - shape[d]
    if any(high):
        none = (0,) * len(shape)
        call = call_of(op_named("pad"), low=none, high=tuple(high), interior=none, value=0.0)
        x = apply(call, x)
    return x


def _count(x: Tensor, dims: Sequence[int]) -> int:
    return math.prod(x._handle.type.shape[d] for d in dims)


def complex_transform(
    name: str,
    input: Tensor,
    dims: tuple[int, ...],
    sizes: Sequence[int],
    norm: str | None,
    inverse: bool,
) -> Tensor:
    """The transform of complex numbers."""
    x = resized(name, complex_operand(name, input), dims, sizes)
    scale = factor(norm, _count(x, dims), inverse)
    if not dims:
        return x
    return _scaled(call_host("fft", x, dims=dims, inverse=inverse), scale)


def _check_any(name: str, dims: tuple[int, ...]) -> None:
    if not dims:
        raise ShapeError(f"[{name}] must transform at least one axis")


def from_real(
    name: str,
    input: Tensor,
    dims: tuple[int, ...],
    sizes: Sequence[int],
    norm: str | None,
    inverse: bool,
) -> Tensor:
    """The transform of real numbers, of which the last of `dims` keeps one half."""
    x = real_operand(name, input)
    _check_any(name, dims)
    x = resized(name, x, dims, sizes)
    scale = factor(norm, _count(x, dims), inverse)
    out = call_host("rfft", x, dims=dims)
    return _scaled(conj(out) if inverse else out, scale)


def to_real(
    name: str,
    input: Tensor,
    dims: tuple[int, ...],
    sizes: Sequence[int],
    norm: str | None,
    inverse: bool,
) -> Tensor:
    """The transform, to real numbers, of what is given by one half in the last of `dims`."""
    x = complex_operand(name, input)
    _check_any(name, dims)
    size = sizes[-1]
    if size == -1:
        size = 2 * (x._handle.type.shape[dims[-1]] - 1)
    _check_size(name, size, x)
    x = resized(name, x, dims, (*sizes[:-1], size // 2 + 1))
    scale = factor(norm, _count(x, dims[:-1]) * size, inverse)
    return _scaled(call_host("irfft", x if inverse else conj(x), dims=dims, size=size), scale)
