"""Discrete Fourier transforms: calls of NumPy. Complex numbers are pairs, the last dimension.

None of them is scaled, in neither direction, so each is the adjoint of another: their gradients are
transforms again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.ops.host_rules import declare_host
from braze.ir.types import TensorType


def _check(name: str, x: TensorType, ndim: int, is_complex: bool) -> None:
    """At least `ndim` dimensions that are not empty, and the pairs where there are some."""
    if x.dtype not in (f32, f64):
        raise DTypeError(f"[{name}] needs float32 or float64, given {x}")
    if is_complex and (x.rank == 0 or x.shape[-1] != 2):
        raise ShapeError(f"[{name}] the last dimension must hold real and imaginary part: {x}")
    sizes = x.shape[:-1] if is_complex else x.shape
    if not 1 <= ndim <= 3 or len(sizes) < ndim:
        raise ShapeError(f"[{name}] {ndim} dimensions (1 to 3) to transform of {x}")
    if 0 in sizes[-ndim:]:
        raise ShapeError(f"[{name}] a dimension to transform is empty: {x}")


def _axes(ndim: int) -> tuple[int, ...]:
    return tuple(range(-ndim, 0))


def _complex(x: np.ndarray) -> np.ndarray:
    wide = np.ascontiguousarray(x)
    return wide.view(np.complex64 if x.dtype == np.float32 else np.complex128)[..., 0]


def _pairs(z: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([z.real, z.imag], -1).astype(dtype, copy=False)


def _fft_types(x: TensorType, *, ndim: int, inverse: bool) -> tuple[TensorType, ...]:
    _check("fft", x, ndim, True)
    return (x,)


def _fft(x: np.ndarray, *, ndim: int, inverse: bool) -> np.ndarray:
    z, axes = _complex(x), _axes(ndim)
    if inverse:
        return _pairs(np.fft.ifftn(z, axes=axes, norm="forward"), x.dtype)
    return _pairs(np.fft.fftn(z, axes=axes), x.dtype)


fft = declare_host(
    "fft",
    "x",
    infer=_fft_types,
    evaluate=_fft,
    attributes={"ndim": int, "inverse": bool},
    gradients={"x": lambda b, g, ndim, inverse: b.fft(g, ndim=ndim, inverse=not inverse)},
    doc="""The transform [..., n_1, ..., n_ndim, 2] of complex numbers, exp(-2 pi i jk/n); with the
conjugate factors if `inverse`. Not scaled.""",
)


def _rfft_types(x: TensorType, *, ndim: int) -> tuple[TensorType, ...]:
    _check("rfft", x, ndim, False)
    return (x.with_shape((*x.shape[:-1], x.shape[-1] // 2 + 1, 2)),)


def _rfft_gradient(b: Any, g: Any, x_type: TensorType, ndim: int) -> Any:
    """The real part of the inverse transform of what is known, zeros elsewhere."""
    shape = g.type.shape
    missing = x_type.shape[-1] - shape[-2]
    zeros = (0,) * len(shape)
    high = (*zeros[:-2], missing, 0)
    whole = b.fft(
        b.pad(g, low=zeros, high=high, interior=zeros, value=0.0), ndim=ndim, inverse=True
    )
    real = b.slice(
        whole, starts=zeros, stops=(*x_type.shape, 1), steps=(1,) * len(shape)
    )
    return b.reshape(real, shape=x_type.shape)


rfft = declare_host(
    "rfft",
    "x",
    infer=_rfft_types,
    evaluate=lambda x, *, ndim: _pairs(np.fft.rfftn(x, axes=_axes(ndim)), x.dtype),
    attributes={"ndim": int},
    gradients={"x": _rfft_gradient},
    doc="""The transform of real numbers [..., n_1, ..., n_ndim]; of the last dimension the half
[..., n_ndim // 2 + 1, 2], which determines the rest. Not scaled.""",
)


def _irfft_types(x: TensorType, *, ndim: int, size: int) -> tuple[TensorType, ...]:
    _check("irfft", x, ndim, True)
    if size // 2 + 1 != x.shape[-2]:
        raise ShapeError(f"[irfft] {x} is not half of a signal of {size}")
    return (x.with_shape((*x.shape[:-2], size)),)


def _irfft(x: np.ndarray, *, ndim: int, size: int) -> np.ndarray:
    sizes = (*x.shape[x.ndim - 1 - ndim : -2], size)
    found = np.fft.irfftn(_complex(x), s=sizes, axes=_axes(ndim), norm="forward")
    result: np.ndarray = found.astype(x.dtype, copy=False)
    return result


def _irfft_gradient(b: Any, g: Any, ndim: int, size: int) -> Any:
    """The transform of g; what stands for its mirror image too counts twice."""
    half = size // 2 + 1
    place = b.iota(shape=(half, 1), dim=0, dtype=g.type.dtype)
    single = b.logical_or(b.eq(place, 0.0), b.eq(place, size / 2))
    return b.mul(b.rfft(g, ndim=ndim), b.where(single, 1.0, b.add(b.mul(place, 0.0), 2.0)))


irfft = declare_host(
    "irfft",
    "x",
    infer=_irfft_types,
    evaluate=_irfft,
    attributes={"ndim": int, "size": int},
    gradients={"x": _irfft_gradient},
    doc="""The inverse transform to real numbers, `size` in the last dimension, of which the input
has the half that determines the rest. Not scaled.""",
)
