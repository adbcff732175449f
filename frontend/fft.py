"""Discrete Fourier transforms, by the names of `torch.fft`.

Real and integer inputs are promoted where complex ones are expected. A size `n`, or sizes `s`, cuts
a dimension at its end or fills it up with zeros before the transform (-1 leaves it as it is).

`norm` says which direction is divided by the number of points: "forward", "backward" (or None), or
"ortho": both by its square root.

All functions raise RuntimeError for sizes below 1, repeated dimensions, an unknown norm and dtypes
of half precision, and IndexError for dimensions out of range.

The module can be called: ``braze.fft(input, signal_ndim, normalized)`` is the function of PyTorch
1.0, see `braze.functions.fourier.fft`.
"""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.capture import call_of
from braze.functions import fourier
from braze.functions.movement import clone
from braze.functions.out import with_out
from braze.functions.pointwise import where
from braze.functions.promotion import cast, get_default_dtype
from braze.functions.rearrangement import roll
from braze.functions.transforms import (
    Sizes,
    complex_transform,
    from_real,
    placed,
    real_operand,
    to_real,
)
from braze.ir.dtypes import DType, f64, i64
from braze.ir.op import op_named
from braze.placing import makes
from braze.tensors import Tensor, apply

_LAST_TWO = (-2, -1)


def _one(n: int | None) -> tuple[int] | None:
    """The size of one dimension; -1, which leaves sizes of several as they are, is refused."""
    return None if n is None else (0 if n == -1 else n,)


def _complex(
    name: str, input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool
) -> Tensor:
    return complex_transform(name, input, *placed(name, input, s, dim), norm, inverse)


def _from_real(
    name: str, input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool
) -> Tensor:
    x = real_operand(name, input)
    return from_real(name, x, *placed(name, x, s, dim), norm, inverse)


def _to_real(
    name: str, input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool
) -> Tensor:
    return to_real(name, input, *placed(name, input, s, dim), norm, inverse)


# Complex to complex -------------------------------------------------------------------------------


def fft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """X[k] = sum over j of x[j] exp(-2 pi i j k / n), along one dimension."""
    return _complex("fft", input, _one(n), (dim,), norm, False)


def ifft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """The inverse of `fft`."""
    return _complex("ifft", input, _one(n), (dim,), norm, True)


def fftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`fft` along several dimensions: the last ones that `s` has sizes for, by default all."""
    return _complex("fftn", input, s, dim, norm, False)


def ifftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of `fftn`."""
    return _complex("ifftn", input, s, dim, norm, True)


def fft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """`fftn` along the last two dimensions."""
    return _complex("fft2", input, s, dim, norm, False)


def ifft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """The inverse of `fft2`."""
    return _complex("ifft2", input, s, dim, norm, True)


# Real to complex and back: of n elements, n // 2 + 1 determine the rest ---------------------------


def rfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """`fft` of real numbers: the first n // 2 + 1 elements; the others are their conjugates.

    Raises:
        RuntimeError: the input is complex.
    """
    return _from_real("rfft", input, _one(n), (dim,), norm, False)


def irfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """The inverse of `rfft`. An odd `n` must be given: by default it is 2 * (size - 1)."""
    return _to_real("irfft", input, _one(n), (dim,), norm, True)


def rfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`fftn` of real numbers: of the last dimension the first n // 2 + 1 elements.

    Raises:
        RuntimeError: the input is complex, or there is no dimension to transform.
    """
    return _from_real("rfftn", input, s, dim, norm, False)


def irfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`. An odd size of the last dimension must be given.

    Raises:
        RuntimeError: there is no dimension to transform.
    """
    return _to_real("irfftn", input, s, dim, norm, True)


def rfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """`rfftn` along the last two dimensions."""
    return _from_real("rfft2", input, s, dim, norm, False)


def irfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """The inverse of `rfft2`."""
    return _to_real("irfft2", input, s, dim, norm, True)


# Of signals whose transforms are real, given by one half ------------------------------------------


def hfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """`fft`, real, of a signal x[-j] = conj(x[j]) of n elements of which the first n // 2 + 1 are
    given. An odd `n` must be given."""
    return _to_real("hfft", input, _one(n), (dim,), norm, False)


def ihfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 elements of `ifft` of real numbers."""
    return _from_real("ihfft", input, _one(n), (dim,), norm, True)


def hfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`fftn`, real, of signals of whose last dimension one half is given."""
    return _to_real("hfftn", input, s, dim, norm, False)


def ihfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of `hfftn`."""
    return _from_real("ihfftn", input, s, dim, norm, True)


def hfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """`hfftn` along the last two dimensions."""
    return _to_real("hfft2", input, s, dim, norm, False)


def ihfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = _LAST_TWO, norm: str | None = None
) -> Tensor:
    """The inverse of `hfft2`."""
    return _from_real("ihfft2", input, s, dim, norm, True)


# Frequencies and their order ----------------------------------------------------------------------


def _frequencies(
    name: str, place: Tensor, step: float, dtype: DType | None, device: Any, requires_grad: bool
) -> Tensor:
    """Integers divided by `step`."""
    dtype = dtype or get_default_dtype()
    if not dtype.is_differentiable:
        raise RuntimeError(f"{name} requires a floating point or complex dtype, given {dtype!r}")
    result = cast(cast(place, f64) * (1 / step if step else math.inf), dtype)
    return result.requires_grad_() if requires_grad else result


def _ramp(name: str, n: int, count: int) -> Tensor:
    if n < 0:
        raise RuntimeError(f"{name}: trying to create a tensor with negative dimension {n}")
    return apply(call_of(op_named("iota"), shape=(count,), dim=0, dtype=i64))  # type: ignore[no-any-return]


@makes
def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `fft`'s elements, for n points at distances d:
    [0, 1, ..., -2, -1] / (d n), the negative ones in the second half."""
    place = _ramp("fftfreq", n, n)
    place = where(place < (n + 1) // 2, place, place - n)
    return _frequencies("fftfreq", place, n * d, dtype, device, requires_grad)


@makes
def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `rfft`'s elements, for n points at distances d:
    [0, 1, ..., n // 2] / (d n)."""
    place = _ramp("rfftfreq", n, n // 2 + 1)
    return _frequencies("rfftfreq", place, n * d, dtype, device, requires_grad)


def _shifted(name: str, input: Tensor, dim: Sizes, inverse: bool) -> Tensor:
    if dim is None and input.ndim == 0:
        return clone(input)
    dims = tuple(range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else dim
    shape = input._handle.type.shape
    for d in dims:
        if not -input.ndim <= d < input.ndim:
            raise IndexError(
                f"[{name}] dimension out of range (expected to be in range of "
                f"[{-input.ndim}, {input.ndim - 1}], but got {d})"
            )
    return roll(input, [(shape[d] + inverse) // 2 for d in dims], list(dims))


def fftshift(input: Tensor, dim: Sizes = None) -> Tensor:
    """Move frequency 0 to the middle of each dimension, negative frequencies before it."""
    return _shifted("fftshift", input, dim, False)


def ifftshift(input: Tensor, dim: Sizes = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted("ifftshift", input, dim, True)


# The module ---------------------------------------------------------------------------------------

_TRANSFORMS = (
    "fft fft2 fftfreq fftn hfft hfft2 hfftn ifft ifft2 ifftn ihfft ihfft2 ihfftn irfft irfft2 "
    "irfftn rfft rfft2 rfftfreq rfftn"
).split()
globals().update({name: with_out(globals()[name], name) for name in _TRANSFORMS})

__all__ = sorted([*_TRANSFORMS, "fftshift", "ifftshift"])


class _Callable(ModuleType):
    """A module that is also the function of PyTorch 1.0."""

    def __call__(self, input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
        return fourier.fft(input, signal_ndim, normalized)


sys.modules[__name__].__class__ = _Callable
