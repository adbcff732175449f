"""Random numbers drawn in place, and samples from distributions that tensors describe."""

from __future__ import annotations

import functools
import math
from typing import Any

from braze.capture import Call, call_of
from braze.functions import pointwise, random_numbers
from braze.functions.indexing import check_values
from braze.functions.promotion import cast, scalar
from braze.functions.random_numbers import Generator, rand, randn
from braze.ir.dtypes import DType, f32, f64, i64
from braze.ir.op import op_named
from braze.ir.ops.binomial import binomial_counters
from braze.ir.ops.dropout import UNIFORM_BITS
from braze.ir.ops.multinomial import multinomial_counters
from braze.ir.ops.poisson import poisson_counters
from braze.ir.ops.standard_gamma import gamma_counters
from braze.ir.types import Shape, broadcast_shapes
from braze.tensors import Tensor, apply

_MULTINOMIAL = op_named("multinomial")

# In place -----------------------------------------------------------------------------------------


def _wide(dtype: DType) -> DType:
    return dtype if dtype.bits > 16 else f32


def _require_floating(name: str, self: Tensor) -> None:
    if not self.dtype.is_floating_point:
        raise RuntimeError(f'"{name}" not implemented for {self.dtype!r}')


def _fill(self: Tensor, values: Tensor) -> Tensor:
    return self._replace(cast(values, self.dtype))


def _fraction(self: Tensor, generator: Generator | None) -> Tensor:
    """Uniform numbers in [0, 1), in at least f32."""
    return rand(self.shape, dtype=_wide(self.dtype), generator=generator)


def uniform_(
    self: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    *,
    generator: Generator | None = None,
    **bounds: Any,
) -> Tensor:
    """Fill with uniform numbers in [a, b), in place. The bounds' keywords are `from` and `to`.

    Raises:
        RuntimeError: a > b, or the dtype is not floating-point.
    """
    _require_floating("uniform_", self)
    a, b = _bounds("uniform_", bounds, a, b)
    if a > b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found {a} > {b}")
    return _fill(self, rand(self.shape, dtype=self.dtype, generator=generator) * (b - a) + a)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers, in place.

    Raises:
        RuntimeError: std < 0, or the dtype is not floating-point.
    """
    if not self.dtype.is_complex:
        _require_floating("normal_", self)
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return _fill(self, randn(self.shape, dtype=self.dtype, generator=generator) * std + mean)


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers whose logarithms are normal, in place.

    Raises:
        RuntimeError: std <= 0, or the dtype is not floating-point.
    """
    _require_floating("log_normal_", self)
    if std <= 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    normal = randn(self.shape, dtype=_wide(self.dtype), generator=generator) * std + mean
    return _fill(self, pointwise.UNARY["exp"](normal))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of the density lambd * exp(-lambd * x), all above 0, in place.

    Raises:
        RuntimeError: lambd <= 0, or the dtype is not floating-point.
    """
    _require_floating("exponential_", self)
    if lambd <= 0.0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _fill(self, _waiting(self, _wide(self.dtype), generator) / lambd)


def _waiting(self: Tensor, dtype: DType, generator: Generator | None) -> Tensor:
    """Standard exponential numbers, one for each element."""
    size = {"shape": self._handle.type.shape, "dtype": dtype}
    return random_numbers.draw("exponential", self.numel(), generator=generator, **size)


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of the Cauchy distribution, in place.

    Raises:
        RuntimeError: sigma <= 0, or the dtype is not floating-point.
    """
    _require_floating("cauchy_", self)
    if sigma <= 0.0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    half = 2.0 ** -(UNIFORM_BITS[_wide(self.dtype)] + 1)  # so that no angle is a right one
    angle = (_fraction(self, generator) - (0.5 - half)) * math.pi
    return _fill(self, pointwise.UNARY["tan"](angle) * sigma + median)


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success, each of probability p, in place.

    Raises:
        RuntimeError: p is not in (0, 1).
    """
    if not 0.0 < p < 1.0:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    wide = f64 if self.dtype.bits == 64 else f32
    waiting = _waiting(self, wide, generator)
    return _fill(self, pointwise.UNARY["ceil"](waiting / -math.log1p(-p)))


def bernoulli_(
    self: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None
) -> Tensor:
    """Fill with 0 and 1, each 1 with probability p (a number or a tensor), in place.

    Raises:
        RuntimeError: a number p is not in [0, 1].
    """
    if isinstance(p, (int, float)) and not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    wide = f64 if isinstance(p, Tensor) and p.dtype is f64 else f32
    return _fill(self, rand(self.shape, dtype=wide, generator=generator) < p)


def _bounds(name: str, named: dict[str, Any], low: Any, high: Any) -> tuple[Any, Any]:
    """Bounds of which some may be given by the keywords `from` (no name in Python) and `to`.

    Raises:
        TypeError: another keyword.
    """
    low, high = named.pop("from", low), named.pop("to", high)
    if named:
        raise TypeError(f"{name}() got an unexpected keyword argument {next(iter(named))!r}")
    return low, high


def random_(
    self: Tensor, *limits: int, generator: Generator | None = None, **bounds: Any
) -> Tensor:
    """Fill with integers in [from, to - 1], in place: `random_()`, `random_(to)`, `random_(from,
    to)`. The bounds' keywords are `from` and `to`.

    Without a bound the integers go up to the largest that the dtype holds (all integers that a
    floating-point dtype represents without gaps).

    Raises:
        RuntimeError: the range is empty, or the dtype does not hold a bound.
    """
    dtype = self.dtype
    from_, to = _bounds("random_", bounds, *(*limits, None, None)[:2])
    if from_ is not None and to is None:
        from_, to = 0, from_
    if dtype.is_floating_point:
        highest = 1 << UNIFORM_BITS[dtype]
    elif dtype.kind == "bool":
        highest = 1
    else:
        highest = (1 << (dtype.bits - (dtype.kind == "int"))) - 1
    if to is None:
        low, high = 0, min(highest, (1 << 63) - 2) + 1
    else:
        low, high = 0 if from_ is None else from_, to
        if high - 1 > highest and not dtype.is_floating_point:
            raise RuntimeError(f"to - 1 is out of bounds for {dtype.public_name}")
    return _fill(self, random_numbers.randint(low, high, self.shape, generator=generator))


# New samples --------------------------------------------------------------------------------------


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates of the input.

    Raises:
        RuntimeError: the dtype is not floating-point; or, at the next sync, a rate is negative.
    """
    _require_floating("poisson", input)
    check_values("poisson", input < 0, "invalid Poisson rate, expected rate to be non-negative")
    source = random_numbers.default_generator if generator is None else generator
    key, offset = source.advance(poisson_counters(input.numel()))
    call = call_of(op_named("poisson"))
    return apply(call, input, scalar(key, i64), scalar(offset, i64))  # type: ignore[no-any-return]


def _standard_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Gamma numbers with the concentrations of the input and scale 1; they have a gradient.

    Raises:
        RuntimeError: the dtype is not floating-point.
    """
    _require_floating("_standard_gamma", input)
    source = random_numbers.default_generator if generator is None else generator
    key, offset = source.advance(gamma_counters(input.numel()))
    call = call_of(op_named("standard_gamma"))
    return apply(call, input, scalar(key, i64), scalar(offset, i64))  # type: ignore[no-any-return]


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """The numbers of successes in `count` trials of probability `prob`, broadcast.

    Raises:
        ValueError: the dtype is not floating-point. RuntimeError: the dtypes differ.
    """
    for word, operand in (("count", count), ("prob", prob)):
        if not operand.dtype.is_floating_point:
            raise ValueError(
                f"binomial only supports floating-point dtypes for {word}, got: {operand.dtype!r}"
            )
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"Found dtype {prob.dtype!r} but expected {count.dtype!r}")
    source = random_numbers.default_generator if generator is None else generator
    numel = math.prod(broadcast_shapes("binomial", count._handle.type, prob._handle.type))
    key, offset = source.advance(binomial_counters(numel))
    call = call_of(op_named("binomial"))
    return apply(call, count, prob, scalar(key, i64), scalar(offset, i64))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256, typed=True)
def _drawing(shape: Shape, dtype: DType, count: int, replacement: bool) -> tuple[Call, int]:
    """The operation that draws categories, and by how much it advances the generator."""
    call = call_of(_MULTINOMIAL, count=count, replacement=replacement)
    return call, multinomial_counters(shape, dtype, count, replacement)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices of categories, drawn with probabilities in proportion to the input's rows.

    Args:
        input: floating-point weights, [n] or [rows, n]; they need not sum to one.
        replacement: whether a category can be drawn again.

    Shape:
        [num_samples] or [rows, num_samples], int64.

    Raises:
        RuntimeError: the input has another dtype or rank, or fewer categories than are drawn; or,
            at the next sync, a weight is negative, infinite or nan, or all of a row are zero.
    """
    dtype, shape = input._handle.type.dtype, input._handle.type.shape
    if not dtype.is_floating_point:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {dtype!r}"
        )
    if len(shape) not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > shape[-1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    source = random_numbers.default_generator if generator is None else generator
    call, counters = _drawing(shape, dtype, num_samples, bool(replacement))
    key, offset = source.advance(counters)
    return apply(call, input, scalar(key, i64), scalar(offset, i64))  # type: ignore[no-any-return]
