"""Binomial numbers, in a fixed number of steps so that they are part of a graph.

Where the mean is below 10 the distribution function is inverted by search (Devroye, "Non-uniform
random variate generation", 1986, chapter X.4). Others use the transformed rejection BTRS of
W. Hoermann ("The generation of binomial random variates", 1993): all `TRIES` candidates are made at
once and the first that is accepted counts; should all be refused, the mean, rounded, is the result.
Probabilities above a half count the failures.
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
from braze.ir.ops.poisson import LIMIT, TRIES, chosen_candidate
from braze.ir.ops.rules import floating
from braze.ir.types import TensorType

STEPS = 64  # of the search; P(X >= 64) < 2 ** -90 where the mean is below the limit


def binomial_counters(numel: int) -> int:
    """By how much drawing `numel` numbers advances the generator: two f64 a try, and one more."""
    return 4 * counters_used(TRIES * numel) + 2 * counters_used(numel)


def _binomial_types(
    count: TensorType, prob: TensorType, seed: TensorType, offset: TensorType
) -> tuple[TensorType, ...]:
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[binomial] seed and offset must be i64[], given {operand}")
    return floating("binomial")(count, prob)


def _search(b: Any, count: Any, prob: Any, u: Any) -> Any:
    """How many terms of the distribution it takes to exceed u; prob is at most a half."""
    term = b.exp(b.mul(count, b.log1p(b.neg(prob))))
    odds = b.div(prob, b.sub(1.0, prob))
    below, found = term, b.mul(count, 0.0)
    for k in range(1, STEPS):
        found = b.add(found, b.cast(b.gt(u, below), dtype=f64))
        term = b.mul(term, b.mul(odds, b.mul(b.sub(count, k - 1.0), 1.0 / k)))
        below = b.add(below, term)
    return b.minimum(found, count)


def _rejection(b: Any, count: Any, prob: Any, u: Any, v: Any) -> Any:
    """Hoermann's BTRS for means (of operands of shape [1, ...]) from 10 on; u and v of shape
    [TRIES, ...]."""
    mean = b.mul(count, prob)
    deviation = b.sqrt(b.mul(mean, b.sub(1.0, prob)))
    spread = b.add(b.mul(deviation, 2.53), 1.15)
    a = b.add(b.sub(b.mul(spread, 0.0248), 0.0873), b.mul(prob, 0.01))
    centre = b.add(mean, 0.5)
    alpha = b.mul(b.add(b.div(5.1, spread), 2.83), deviation)
    accepted_below = b.sub(0.92, b.div(4.2, spread))
    top = b.floor(b.mul(b.add(count, 1.0), prob))
    centred = b.sub(u, 0.5)
    side = b.sub(0.5, b.abs(centred))
    slope = b.add(b.div(b.mul(a, 2.0), side), spread)
    k = b.floor(b.add(b.mul(slope, centred), centre))
    possible = b.bitwise_and(b.ge(k, 0.0), b.le(k, count))
    quick = b.bitwise_and(b.ge(side, 0.07), b.le(v, accepted_below))
    safe = b.minimum(b.maximum(k, 0.0), count)
    weight = b.div(b.mul(v, alpha), b.add(b.div(a, b.mul(side, side)), spread))
    chance = b.sub(_log_ways(b, count, top), _log_ways(b, count, safe))
    odds = b.log(b.div(prob, b.sub(1.0, prob)))
    chance = b.add(b.neg(chance), b.mul(b.sub(safe, top), odds))
    accepted = both(b, possible, b.bitwise_or(quick, b.le(b.log(weight), chance)))
    return chosen_candidate(b, accepted, k, b.round(mean))


def _log_ways(b: Any, count: Any, k: Any) -> Any:
    """-log(k! (count - k)!)."""
    first = lgamma_of_positive(b, b.add(k, 1.0))
    return b.neg(b.add(first, lgamma_of_positive(b, b.add(b.sub(count, k), 1.0))))


def _binomial(b: Any, count: Any, prob: Any, seed: Any, offset: Any) -> Any:
    dtype = count.type.dtype
    n, p = as_dtype(b, count, f64), as_dtype(b, prob, f64)
    known = both(b, b.ge(n, 0.0), b.ge(p, 0.0), b.le(p, 1.0))
    n, p = b.where(known, n, 0.0), b.where(known, p, 0.0)
    shape = n.type.shape
    mirrored = b.gt(p, 0.5)
    small_p = b.where(mirrored, b.sub(1.0, p), p)
    tried, lead = (TRIES, *shape), (1, *shape)
    step = 2 * counters_used(math.prod(tried))
    u = b.uniform(seed, offset, shape=tried, dtype=f64)
    v = b.uniform(seed, b.add(offset, step), shape=tried, dtype=f64)
    w = b.uniform(seed, b.add(offset, 2 * step), shape=shape, dtype=f64)
    few = b.lt(b.mul(n, small_p), LIMIT)
    large_n = b.reshape(b.where(few, 4.0 * LIMIT, n), shape=lead)
    large_p = b.reshape(b.where(few, 0.5, small_p), shape=lead)
    rejected = b.reshape(_rejection(b, large_n, large_p, u, v), shape=shape)
    searched = _search(b, n, b.where(few, small_p, 0.0), w)
    found = b.where(few, searched, rejected)
    found = b.where(mirrored, b.sub(n, found), found)
    return as_dtype(b, b.where(known, found, math.nan), dtype)


binomial = declare(
    "binomial",
    "composite",
    "count prob seed offset",
    infer=_binomial_types,
    decompose=_binomial,
    gradients={"prob": lambda b, g: b.mul(g, 0.0), "count": lambda b, g: b.mul(g, 0.0)},
    broadcasts=True,
    domain=(0.1, 0.9),
    doc="""The number of successes in `count` trials of probability `prob`; nan for a negative count
or what is no probability.""",
)
