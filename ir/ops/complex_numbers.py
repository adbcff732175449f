"""Making complex numbers, and what of them is real: parts, modulus, angle.

`complex`, `real` and `imag` are primitive, but no code is generated for them: the pass
`split_complex` turns every complex value into its two parts. All other operations say in their
declarations what they mean for the parts (`Op.complex`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from braze.ir.dtypes import f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import Op, Rule, declare
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, broadcast_shapes, tensor_type


def _require_complex(name: str, x: TensorType) -> None:
    if not x.dtype.is_complex:
        raise DTypeError(f"[{name}] needs a complex operand, given {x}")


def _require_part(name: str, *types: TensorType) -> None:
    for t in types:
        if t.dtype not in (f32, f64):
            raise DTypeError(f"[{name}] needs float32 or float64, given {t}")


def _joined_types(re: TensorType, im: TensorType) -> tuple[TensorType, ...]:
    _require_part("complex", re, im)
    dtype = common_dtype("complex", re, im).to_complex()
    shape = broadcast_shapes("complex", re, im)
    return (tensor_type(dtype, shape),)


def _joined(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    dtype = np.complex64 if re.dtype == np.float32 else np.complex128
    result = np.empty(np.broadcast_shapes(re.shape, im.shape), dtype)
    result.real, result.imag = re, im
    return result


complex = declare(
    "complex",
    "complex",
    "re im",
    infer=_joined_types,
    evaluate=_joined,
    gradients={
        "re": lambda b, g: b.real(g),
        "im": lambda b, g: b.neg(b.imag(g)),
    },
    broadcasts=True,
    doc="re + i im.",
)


def _part_types(name: str) -> Callable[..., tuple[TensorType, ...]]:
    def infer(x: TensorType) -> tuple[TensorType, ...]:
        _require_complex(name, x)
        return (x.with_dtype(x.dtype.to_real()),)

    return infer


def _part(name: str, evaluate: Rule, gradient: Rule, doc: str) -> Op:
    return declare(
        name,
        "complex",
        "x",
        infer=_part_types(name),
        evaluate=evaluate,
        gradients={"x": gradient},
        complex=True,
        doc=doc,
    )


def _zeros(b: Any, like: Any) -> Any:
    return b.full(shape=like.type.shape, value=0.0, dtype=like.type.dtype)


real = _part(
    "real",
    lambda x: x.real.copy(),
    lambda b, g: b.complex(g, _zeros(b, g)),
    "The real part.",
)
imag = _part(
    "imag",
    lambda x: x.imag.copy(),
    lambda b, g: b.complex(_zeros(b, g), b.neg(g)),
    "The imaginary part.",
)


def _conj_types(x: TensorType) -> tuple[TensorType, ...]:
    _require_complex("conj", x)
    return (x,)


conj = declare(
    "conj",
    "composite",
    "x",
    infer=_conj_types,
    evaluate=np.conjugate,
    decompose=lambda b, x: b.complex(b.real(x), b.neg(b.imag(x))),
    gradients={"x": lambda b, g: b.conj(g)},
    complex=True,
    doc="The conjugate: the imaginary part changes its sign.",
)

# Views of the memory: the parts are the last dimension --------------------------------------------


def _as_real_types(x: TensorType) -> tuple[TensorType, ...]:
    _require_complex("view_as_real", x)
    return (tensor_type(x.dtype.to_real(), (*x.shape, 2)),)


def _as_complex_types(x: TensorType) -> tuple[TensorType, ...]:
    _require_part("view_as_complex", x)
    if x.rank == 0 or x.shape[-1] != 2:
        raise ShapeError(f"[view_as_complex] the last dimension must be of size 2, given {x}")
    return (tensor_type(x.dtype.to_complex(), x.shape[:-1]),)


view_as_real = declare(
    "view_as_real",
    "composite",
    "x",
    infer=_as_real_types,
    evaluate=lambda x: np.stack([x.real, x.imag], -1),
    decompose=lambda b, x: b.stack(b.real(x), b.imag(x), dim=x.type.rank),
    gradients={"x": lambda b, g: b.conj(b.view_as_complex(g))},
    complex=True,
    doc="Real and imaginary part as a new last dimension.",
)
view_as_complex = declare(
    "view_as_complex",
    "composite",
    "x",
    infer=_as_complex_types,
    evaluate=lambda x: _joined(x[..., 0], x[..., 1]),
    decompose=lambda b, x: b.complex(
        b.select(x, dim=x.type.rank - 1, index=0), b.select(x, dim=x.type.rank - 1, index=1)
    ),
    gradients={"x": lambda b, g: b.view_as_real(b.conj(g))},
    complex=True,
    doc="The numbers whose real and imaginary parts are the last dimension, of size 2.",
)

# Polar form ---------------------------------------------------------------------------------------


def _modulus_gradient(b: Any, g: Any, x: Any) -> Any:
    """g conj(x) / |x|, and 0 at 0."""
    return b.mul(b.cast(g, dtype=x.type.dtype), b.conj(b.phase(x)))


modulus = declare(
    "modulus",
    "composite",
    "x",
    infer=_part_types("modulus"),
    evaluate=np.abs,
    decompose=lambda b, x: b.hypot(b.real(x), b.imag(x)),
    gradients={"x": _modulus_gradient},
    complex=True,
    doc="|x|, without overflow in between. The gradient at 0 is 0.",
)


def _phase(b: Any, x: Any) -> Any:
    size = b.modulus(x)
    zero = b.eq(size, 0.0)
    scale = b.cast(b.where(zero, 1.0, size), dtype=x.type.dtype)
    return b.where(zero, 0.0, b.div(x, scale))


def _phase_gradient(b: Any, g: Any, x: Any, out: Any) -> Any:
    """(g - Re(g out) conj(out)) / |x|, and 0 at 0."""
    size = b.modulus(x)
    zero = b.eq(size, 0.0)
    along = b.cast(b.real(b.mul(g, out)), dtype=x.type.dtype)
    across = b.sub(g, b.mul(along, b.conj(out)))
    found = b.div(across, b.cast(b.where(zero, 1.0, size), dtype=x.type.dtype))
    return b.where(zero, 0.0, found)


def _phase_array(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    with np.errstate(all="ignore"):
        quotient = x / np.where(size == 0, 1, size).astype(size.dtype)
    found: np.ndarray = np.where(size == 0, x.dtype.type(0), quotient)
    return found


phase = declare(
    "phase",
    "composite",
    "x",
    infer=_conj_types,
    evaluate=_phase_array,
    decompose=_phase,
    gradients={"x": _phase_gradient},
    complex=True,
    doc="x / |x|, and 0 (without a sign) at 0.",
)


def _angle_gradient(b: Any, g: Any, x: Any) -> Any:
    """d arg x = Im(dx / x): -i g / x, and 0 at 0."""
    zero = b.eq(b.modulus(x), 0.0)
    turned = b.complex(_zeros(b, g), b.neg(g))
    return b.where(zero, 0.0, b.div(turned, b.where(zero, 1.0, x)))


angle = declare(
    "angle",
    "composite",
    "x",
    infer=_part_types("angle"),
    evaluate=np.angle,
    decompose=lambda b, x: b.atan2(b.imag(x), b.real(x)),
    gradients={"x": _angle_gradient},
    complex=True,
    doc="arg x, in (-pi, pi]. The gradient at 0 is 0.",
)
