"""Poisson numbers, in a fixed number of steps so that they are part of a graph.

Rates below 10 invert the distribution function by search (Devroye, "Non-uniform random variate
generation", 1986, chapter X.3). Others use the transformed rejection of W. Hoermann ("The
transformed rejection method for generating Poisson random variables", 1993): all `TRIES` candidates
are made at once and the first that is accepted counts. At least 0.75 of them are accepted, so all
are refused with a probability below 2 ** -48; then the rate, rounded, is the result.
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import f64, i64
from braze.ir.errors import DTypeError
from braze.ir.op import declare
from braze.ir.ops.composite import as_dtype, both
from braze.ir.ops.creation import counters_used
from braze.ir.ops.gamma_functions import lgamma_of_positive
from braze.ir.types import TensorType

LIMIT = 10.0  # between the two methods
STEPS = 64  # of the search; P(X >= 64) < 2 ** -90 at the limit
TRIES = 24


def poisson_counters(numel: int) -> int:
    """By how much drawing `numel` numbers advances the generator: two f64 a try, and one more."""
    return 4 * counters_used(TRIES * numel) + 2 * counters_used(numel)


def _poisson_types(
    rate: TensorType, seed: TensorType, offset: TensorType
) -> tuple[TensorType, ...]:
    if not rate.dtype.is_floating_point:
        raise DTypeError(f"[poisson] the rates must be floating-point, given {rate}")
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[poisson] seed and offset must be i64[], given {operand}")
    return (rate,)


def _search(b: Any, rate: Any, u: Any) -> Any:
    """How many terms of the distribution it takes to exceed u."""
    term = b.exp(b.neg(rate))
    below, count = term, b.mul(rate, 0.0)
    for k in range(1, STEPS):
        count = b.add(count, b.cast(b.gt(u, below), dtype=f64))
        term = b.mul(term, b.mul(rate, 1.0 / k))
        below = b.add(below, term)
    return count


def _rejection(b: Any, rate: Any, u: Any, v: Any) -> Any:
    """Hoermann's PTRS for rates (of shape [1, ...]) from 10 on, u and v of shape [TRIES, ...]."""
    spread = b.add(b.mul(b.sqrt(rate), 2.53), 0.931)
    a = b.sub(b.mul(spread, 0.02483), 0.059)
    inverse_alpha = b.add(b.div(1.1328, b.sub(spread, 3.4)), 1.1239)
    accepted_below = b.sub(0.9277, b.div(3.6224, b.sub(spread, 2.0)))
    centred = b.sub(u, 0.5)
    side = b.sub(0.5, b.abs(centred))
    slope = b.add(b.div(b.mul(a, 2.0), side), spread)
    k = b.floor(b.add(b.add(b.mul(slope, centred), rate), 0.43))
    quick = b.bitwise_and(b.ge(side, 0.07), b.le(v, accepted_below))
    hopeless = b.bitwise_or(b.lt(k, 0.0), b.bitwise_and(b.lt(side, 0.013), b.gt(v, side)))
    weight = b.div(b.mul(v, inverse_alpha), b.add(b.div(a, b.mul(side, side)), spread))
    chance = b.sub(b.mul(k, b.log(rate)), rate)
    chance = b.sub(chance, lgamma_of_positive(b, b.add(b.maximum(k, 0.0), 1.0)))
    slow = both(b, b.bitwise_not(hopeless), b.le(b.log(weight), chance))
    return chosen_candidate(b, b.bitwise_or(quick, slow), k, b.round(rate))


def chosen_candidate(b: Any, accepted: Any, candidates: Any, default: Any) -> Any:
    """The first candidate (of dimension 0) that is accepted, or the default."""
    number = b.iota(shape=candidates.type.shape, dim=0, dtype=f64)
    none = float(candidates.type.shape[0])
    first = b.amin(b.where(accepted, number, none), dims=(0,), keepdim=True)
    chosen = b.sum(b.where(b.eq(number, first), candidates, 0.0), dims=(0,), keepdim=True)
    return b.where(b.eq(first, none), default, chosen)


def _poisson(b: Any, rate: Any, seed: Any, offset: Any) -> Any:
    shape, dtype = rate.type.shape, rate.type.dtype
    wide = as_dtype(b, rate, f64)
    tried, lead = (TRIES, *shape), (1, *shape)
    step = 2 * counters_used(math.prod(tried))
    u = b.uniform(seed, offset, shape=tried, dtype=f64)
    v = b.uniform(seed, b.add(offset, step), shape=tried, dtype=f64)
    w = b.uniform(seed, b.add(offset, 2 * step), shape=shape, dtype=f64)
    large = b.reshape(b.maximum(wide, LIMIT), shape=lead)
    rejected = b.reshape(_rejection(b, large, u, v), shape=shape)
    found = b.where(b.lt(wide, LIMIT), _search(b, b.minimum(wide, LIMIT), w), rejected)
    return as_dtype(b, b.where(b.ge(wide, 0.0), found, math.nan), dtype)


poisson = declare(
    "poisson",
    "composite",
    "rate seed offset",
    infer=_poisson_types,
    decompose=_poisson,
    gradients={"rate": lambda b, g: b.mul(g, 0.0)},
    domain=(0.5, 30.0),
    doc="Poisson numbers with these rates, in their dtype; nan for negative rates.",
)
