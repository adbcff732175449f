"""Discrete Fourier transforms: calls of NumPy.

None of them is scaled, in neither direction. The matrices of the complex transforms are symmetric,
so their gradient rules are the transforms themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.ops.host_rules import declare_host
from braze.ir.ops.rules import check_dimensions
from braze.ir.types import TensorType


def _check(name: str, x: TensorType, dims: tuple[int, ...], is_complex: bool) -> None:
    """There are dimensions to transform, and none of them is empty."""
    if is_complex and not x.dtype.is_complex:
        raise DTypeError(f"[{name}] needs a complex dtype, given {x}")
    if not is_complex and x.dtype not in (f32, f64):
        raise DTypeError(f"[{name}] needs float32 or float64, given {x}")
    check_dimensions(name, dims, x)
    if not dims:
        raise ShapeError(f"[{name}] no dimension to transform of {x}")
    if any(x.shape[d] == 0 for d in dims):
        raise ShapeError(f"[{name}] a dimension to transform is empty: {x}")


def _resized(shape: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _fft_types(x: TensorType, *, dims: tuple[int, ...], inverse: bool) -> tuple[TensorType, ...]:
    _check("fft", x, dims, True)
    return (x,)


def _fft(x: np.ndarray, *, dims: tuple[int, ...], inverse: bool) -> np.ndarray:
    if inverse:
        found = np.fft.ifftn(x, axes=dims, norm="forward")
    else:
        found = np.fft.fftn(x, axes=dims)
    return found.astype(x.dtype, copy=False)


fft = declare_host(
    "fft",
    "x",
    infer=_fft_types,
    evaluate=_fft,
    attributes={"dims": tuple, "inverse": bool},
    gradients={"x": lambda b, g, dims, inverse: b.fft(g, dims=dims, inverse=inverse)},
    complex=True,
    doc="""The transform of complex numbers over some dimensions, exp(-2 pi i jk/n); with the
conjugate factors if `inverse`. Not scaled.""",
)


def _rfft_types(x: TensorType, *, dims: tuple[int, ...]) -> tuple[TensorType, ...]:
    _check("rfft", x, dims, False)
    shape = _resized(x.shape, dims[-1], x.shape[dims[-1]] // 2 + 1)
    return (x.with_shape(shape).with_dtype(x.dtype.to_complex()),)


def _rfft(x: np.ndarray, *, dims: tuple[int, ...]) -> np.ndarray:
    dtype = np.complex64 if x.dtype == np.float32 else np.complex128
    return np.fft.rfftn(x, axes=dims).astype(dtype, copy=False)


def _weights(b: Any, x: TensorType, dim: int, size: int, doubled: float) -> Any:
    """1 for the elements of a half that stand for themselves, `doubled` for those that stand for
    their mirror images too; in the complex dtype of x."""
    shape = _resized((1,) * x.rank, dim, size // 2 + 1)
    place = b.iota(shape=shape, dim=dim, dtype=x.dtype.to_real())
    single = b.logical_or(b.eq(place, 0.0), b.eq(place, size / 2))
    weights = b.where(single, 1.0, b.full(shape=shape, value=doubled, dtype=place.type.dtype))
    return b.cast(weights, dtype=x.dtype.to_complex())


def _rfft_gradient(b: Any, g: Any, x_type: TensorType, dims: tuple[int, ...]) -> Any:
    """The real part of the transform of g with zeros for the rest; that of conj(g), inverse, is the
    same, and `irfft` of what counts once."""
    size = x_type.shape[dims[-1]]
    weighted = b.mul(b.conj(g), _weights(b, x_type, dims[-1], size, 0.5))
    return b.irfft(weighted, dims=dims, size=size)


rfft = declare_host(
    "rfft",
    "x",
    infer=_rfft_types,
    evaluate=_rfft,
    attributes={"dims": tuple},
    gradients={"x": _rfft_gradient},
    complex=True,
    doc="""The transform of real numbers over some dimensions; of the last one, of size n, the half
n // 2 + 1 that determines the rest. Not scaled.""",
)


def _irfft_types(x: TensorType, *, dims: tuple[int, ...], size: int) -> tuple[TensorType, ...]:
    _check("irfft", x, dims, True)
    if size < 1 or size // 2 + 1 != x.shape[dims[-1]]:
        raise ShapeError(f"[irfft] {x} is not half of a signal of {size} at dimension {dims[-1]}")
    return (x.with_shape(_resized(x.shape, dims[-1], size)).with_dtype(x.dtype.to_real()),)


def _irfft(x: np.ndarray, *, dims: tuple[int, ...], size: int) -> np.ndarray:
    sizes = (*(x.shape[d] for d in dims[:-1]), size)
    found = np.fft.irfftn(x, s=sizes, axes=dims, norm="forward")
    return found.astype(x.real.dtype, copy=False)


def _irfft_gradient(b: Any, g: Any, dims: tuple[int, ...], size: int) -> Any:
    """The conjugate transform of g; what stands for its mirror image too counts twice."""
    transformed = b.conj(b.rfft(g, dims=dims))
    return b.mul(transformed, _weights(b, g.type, dims[-1], size, 2.0))


irfft = declare_host(
    "irfft",
    "x",
    infer=_irfft_types,
    evaluate=_irfft,
    attributes={"dims": tuple, "size": int},
    gradients={"x": _irfft_gradient},
    complex=True,
    doc="""The inverse transform over some dimensions to real numbers, `size` in the last one, of
which the input has the half that determines the rest. Not scaled.""",
)
