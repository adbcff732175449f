"""Composites over random bits: uniform, normal, exponential, randint, bernoulli and dropout.

Each takes `seed` and `offset`, 0-d i64 values, and uses up `counters(name, numel, dtype)` counters
of the generator: that is by how much the caller advances the offset. A composite that needs several
words for an element draws them at offset, offset + counters_used(numel), and so on.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, bf16, f16, f32, f64, i64, u32
from braze.ir.errors import AttributeTypeError, DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import Ints, as_dtype
from braze.ir.ops.creation import counters_used
from braze.ir.types import TensorType, tensor_type

# Bits of a uniform number: as many as the dtype's significand holds, so that 1.0 is never reached.
UNIFORM_BITS = {f16: 11, bf16: 8, f32: 24, f64: 53}
WORD = 32
SINGLE_DRAW_RANGE = 1 << 31  # randint: larger ranges take 63 bits
_ONE_DRAW = {"bernoulli": 1, "dropout": 1, "random_bits": 1}


def _check_state(name: str, seed: TensorType, offset: TensorType) -> None:
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[{name}] seed and offset must be i64[], given {operand}")


def _bits(b: Any, seed: Any, offset: Any, shape: Ints, draw: int) -> Any:
    """The words of the draw with this number."""
    used = counters_used(math.prod(shape))
    return b.random_bits(seed, b.add(offset, draw * used) if draw else offset, shape=shape)


def _uniform_draws(dtype: DType) -> int:
    return -(-UNIFORM_BITS[dtype] // WORD)


def _fraction(b: Any, seed: Any, offset: Any, shape: Ints, dtype: DType, draw: int) -> Any:
    """Integers 0 .. 2 ** bits - 1 as floats of `dtype`, still to be scaled by 2 ** -bits."""
    bits = UNIFORM_BITS[dtype]
    word = _bits(b, seed, offset, shape, draw)
    if bits <= WORD:
        return b.cast(b.shift_right(word, WORD - bits), dtype=dtype)
    low_bits = bits - WORD
    low = b.shift_right(_bits(b, seed, offset, shape, draw + 1), WORD - low_bits)
    high = b.mul(b.cast(word, dtype=dtype), float(1 << low_bits))
    return b.add(high, b.cast(low, dtype=dtype))


# uniform and normal -------------------------------------------------------------------------------


def _float_types(name: str) -> Any:
    def infer(
        seed: TensorType, offset: TensorType, *, shape: Ints, dtype: DType
    ) -> tuple[TensorType, ...]:
        _check_state(name, seed, offset)
        if not dtype.is_floating_point:
            raise DTypeError(f"[{name}] makes floating-point numbers, not {dtype.name}")
        return (tensor_type(dtype, shape),)

    return infer


def _uniform(b: Any, seed: Any, offset: Any, *, shape: Ints, dtype: DType) -> Any:
    fraction = _fraction(b, seed, offset, shape, dtype, 0)
    return b.mul(fraction, 2.0 ** -UNIFORM_BITS[dtype])


uniform = declare(
    "uniform",
    "composite",
    "seed offset",
    infer=_float_types("uniform"),
    decompose=_uniform,
    attributes={"shape": tuple, "dtype": DType},
    differentiable=False,
    doc="""Uniform numbers in [0, 1): the top 24 bits of a word for f32 (f16 11, bf16 8), 53 bits of
two words for f64.""",
)


def _normal(b: Any, seed: Any, offset: Any, *, shape: Ints, dtype: DType) -> Any:
    wide = f64 if dtype is f64 else f32
    scale = 2.0 ** -UNIFORM_BITS[wide]
    radius_part = _fraction(b, seed, offset, shape, wide, 0)
    angle_part = _fraction(b, seed, offset, shape, wide, _uniform_draws(wide))
    # (0, 1] under the logarithm.
    logarithm = b.log(b.mul(b.add(radius_part, 1.0), scale))
    radius = b.sqrt(b.mul(logarithm, -2.0))
    value = b.mul(radius, b.cos(b.mul(angle_part, 2.0 * math.pi * scale)))
    return as_dtype(b, value, dtype)


normal = declare(
    "normal",
    "composite",
    "seed offset",
    infer=_float_types("normal"),
    decompose=_normal,
    attributes={"shape": tuple, "dtype": DType},
    differentiable=False,
    doc="""Standard normal numbers, sqrt(-2 ln u) cos(2 pi v) of two uniform ones. Box and Muller,
"A note on the generation of random normal deviates", 1958.""",
)


def _exponential(b: Any, seed: Any, offset: Any, *, shape: Ints, dtype: DType) -> Any:
    """0 becomes half a step above it, so that all numbers are above 0."""
    u = b.uniform(seed, offset, shape=shape, dtype=dtype)
    return b.maximum(b.neg(b.log1p(b.neg(u))), 2.0 ** -(UNIFORM_BITS[dtype] + 1))


exponential = declare(
    "exponential",
    "composite",
    "seed offset",
    infer=_float_types("exponential"),
    decompose=_exponential,
    attributes={"shape": tuple, "dtype": DType},
    differentiable=False,
    doc="Numbers of the density e ** -x, -log(1 - u) of uniform ones, all above 0.",
)

# Integers and coin flips --------------------------------------------------------------------------


def _randint_types(
    seed: TensorType, offset: TensorType, *, shape: Ints, low: int, high: int
) -> tuple[TensorType, ...]:
    _check_state("randint", seed, offset)
    if low >= high:
        raise ShapeError(f"[randint] low must be less than high: {low} and {high}")
    if high - low >= 1 << 63:
        raise ShapeError(f"[randint] the range is too large: {low} to {high}")
    return (tensor_type(i64, shape),)


def _randint(b: Any, seed: Any, offset: Any, *, shape: Ints, low: int, high: int) -> Any:
    span = high - low
    word = b.cast(_bits(b, seed, offset, shape, 0), dtype=i64)
    if span <= SINGLE_DRAW_RANGE:
        value = b.shift_right(b.mul(word, span), WORD)
    else:
        other = b.cast(_bits(b, seed, offset, shape, 1), dtype=i64)
        joined = b.bitwise_or(b.shift_left(word, WORD - 1), b.shift_right(other, 1))
        value = b.remainder(joined, span)
    return b.add(value, low)


randint = declare(
    "randint",
    "composite",
    "seed offset",
    infer=_randint_types,
    decompose=_randint,
    attributes={"shape": tuple, "low": int, "high": int},
    differentiable=False,
    doc="""Integers (i64) in low .. high - 1. Ranges up to 2 ** 31 scale a word: w * range >> 32, so
that probabilities differ by less than range * 2 ** -32 from each other, relatively; larger ones
take 63 bits modulo the range.""",
)


def _bernoulli_types(p: TensorType, seed: TensorType, offset: TensorType) -> tuple[TensorType, ...]:
    _check_state("bernoulli", seed, offset)
    if not p.dtype.is_floating_point:
        raise DTypeError(f"[bernoulli] the probabilities must be floating-point, given {p}")
    return (p,)


def _bernoulli(b: Any, p: Any, seed: Any, offset: Any) -> Any:
    draw = b.uniform(seed, offset, shape=p.type.shape, dtype=f32)
    return b.cast(b.lt(draw, as_dtype(b, p, f32)), dtype=p.type.dtype)


bernoulli = declare(
    "bernoulli",
    "composite",
    "p seed offset",
    infer=_bernoulli_types,
    decompose=_bernoulli,
    differentiable=False,
    doc="1 with probability p[i], else 0, in p's dtype; p is resolved to 24 bits.",
)

# dropout ------------------------------------------------------------------------------------------


def _dropout_types(
    x: TensorType, seed: TensorType, offset: TensorType, *, p: float
) -> tuple[TensorType, ...]:
    _check_state("dropout", seed, offset)
    if not x.dtype.is_floating_point:
        raise DTypeError(f"[dropout] needs a floating-point operand, given {x}")
    if not 0.0 <= p <= 1.0:
        raise AttributeTypeError(f"[dropout] the probability must be between 0 and 1, given {p}")
    return (x,)


def _dropout(b: Any, x: Any, seed: Any, offset: Any, *, p: float) -> Any:
    dropped = round(p * 2**WORD)
    if dropped == 0:
        return x
    if dropped == 2**WORD:
        return b.full(shape=x.type.shape, value=0.0, dtype=x.type.dtype)
    threshold = b.constant(value=float(dropped), dtype=u32)
    keep = b.ge(b.random_bits(seed, offset, shape=x.type.shape), threshold)
    return b.where(keep, b.mul(x, 1.0 / (1.0 - p)), 0.0)


dropout = declare(
    "dropout",
    "composite",
    "x seed offset",
    infer=_dropout_types,
    decompose=_dropout,
    attributes={"p": float},
    gradients={"x": lambda b, g, seed, offset, p: b.dropout(g, seed, offset, p=p)},
    doc="""Each element is 0 with probability p, else x / (1 - p). The gradient applies the same
mask, made again from the same seed and offset. Srivastava et al., JMLR 15, 2014.""",
)


def counters(name: str, numel: int, dtype: DType = f32, span: int = 1) -> int:
    """By how much an operation over `numel` elements advances the generator's offset.

    Args:
        name: "random_bits" or one of this module's operations.
        dtype: of the result of `uniform`, `normal` and `exponential`.
        span: high - low of `randint`.

    Example:
        >>> counters("dropout", 100), counters("normal", 100), counters("uniform", 100, f64)
        (32, 64, 64)
    """
    if name in ("uniform", "exponential"):
        draws = _uniform_draws(dtype)
    elif name == "normal":
        draws = 2 * _uniform_draws(f64 if dtype is f64 else f32)
    elif name == "randint":
        draws = 1 if span <= SINGLE_DRAW_RANGE else 2
    else:
        draws = _ONE_DRAW[name]
    return draws * counters_used(numel)
