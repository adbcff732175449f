"""Common divisors and multiples of integers, and floating-point numbers taken apart.

`gcd` is a primitive, since the number of its steps depends on the numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bool_, f32, f64, i32
from braze.ir.errors import DTypeError
from braze.ir.op import declare
from braze.ir.ops.composite import as_dtype, require_floating, widened
from braze.ir.ops.logarithms import BITS_AS
from braze.ir.ops.rules import Infer, same
from braze.ir.types import TensorType


def _integers(name: str) -> Infer:
    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        for t in types:
            if t.dtype.is_floating_point or t.dtype is bool_:
                raise DTypeError(f"[{name}] needs integer operands, given {t}")
        return same(name)(*types)

    return infer


gcd = declare(
    "gcd",
    "pointwise",
    "x y",
    infer=_integers("gcd"),
    evaluate=np.gcd,
    differentiable=False,
    broadcasts=True,
    cost=200,
    doc="The greatest common divisor of |x| and |y|; gcd(0, 0) is 0.",
)


def _lcm(b: Any, x: Any, y: Any) -> Any:
    part = b.floor_divide(x, b.gcd(x, y))
    if x.type.dtype.bits < 32:  # where the result wraps, it is PyTorch's, which multiplies ints
        return b.mul(b.abs(part), b.abs(y))
    return b.abs(b.mul(part, y))


lcm = declare(
    "lcm",
    "composite",
    "x y",
    infer=_integers("lcm"),
    decompose=_lcm,
    differentiable=False,
    broadcasts=True,
    doc="The least common multiple of |x| and |y|, which may wrap around; 0 where either is 0.",
)

# frexp --------------------------------------------------------------------------------------------

# Bits after the point, the exponent's bits, its bias, and a lift above the subnormal numbers.
FORMAT: dict[DType, tuple[int, int, int, int]] = {f32: (23, 8, 127, 25), f64: (52, 11, 1023, 54)}


def _frexp_types(x: TensorType) -> tuple[TensorType, ...]:
    require_floating("frexp", x)
    return x, x.with_dtype(i32)


def _frexp(b: Any, x: Any) -> tuple[Any, Any]:
    dtype = x.type.dtype
    wide = widened(b, x)
    shift, width, bias, lift = FORMAT[wide.type.dtype]
    whole = BITS_AS[wide.type.dtype.bits]
    size = b.abs(wide)
    subnormal = b.lt(size, 2.0 ** (1 - bias))
    bits = b.bitcast(b.where(subnormal, b.mul(wide, 2.0**lift), wide), dtype=whole)
    mask = (1 << width) - 1
    biased = b.bitwise_and(b.shift_right(bits, shift), mask)
    plain = b.bitwise_and(b.ne(size, 0.0), b.lt(biased, mask))
    exponent = b.sub(biased, bias - 1)
    exponent = b.where(subnormal, b.sub(exponent, lift), exponent)
    half = b.bitwise_or(b.bitwise_and(bits, ~(mask << shift)), (bias - 1) << shift)
    mantissa = b.where(plain, b.bitcast(half, dtype=wide.type.dtype), wide)
    exponent = b.where(plain, exponent, 0)
    return as_dtype(b, mantissa, dtype), as_dtype(b, exponent, i32)


frexp = declare(
    "frexp",
    "composite",
    "x",
    infer=_frexp_types,
    decompose=_frexp,
    results="mantissa exponent",
    gradients={
        "x": lambda b, g_mantissa, x_type, exponent: b.div(
            g_mantissa, b.exp2(b.cast(exponent, dtype=x_type.dtype))
        )
    },
    doc="""x = mantissa * 2 ** exponent with 0.5 <= |mantissa| < 1 and the exponent as int32. Zeros,
infinities and nans are their own mantissa, with exponent 0.""",
)
