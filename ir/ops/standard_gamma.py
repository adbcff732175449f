"""Gamma numbers of scale 1, in a fixed number of steps so that they are part of a graph, and their
derivative for the concentration.

Drawing: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26
(2000). All `TRIES` candidates are made at once and the first that is accepted counts; at least 0.95
of them are, so all are refused with a probability below 2 ** -51; then the mean is the result.

Derivative: at a fixed quantile (M. Figurnov et al., "Implicit reparameterization gradients", 2018),
-(dP/da) / p(x) for the distribution function P and the density p. With t = x e^(-s), or x e^s for x
above a, it is an integral of (log t - digamma(a)) times a decaying function of s, which the double
exponential rule sums up (H. Takahasi and M. Mori, 1974).
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import f64, i64
from braze.ir.errors import DTypeError
from braze.ir.op import declare
from braze.ir.ops.composite import as_dtype
from braze.ir.ops.dropout import counters
from braze.ir.ops.poisson import chosen_candidate
from braze.ir.types import TensorType

TRIES = 12
# Of the double exponential rule, s = e^(v - e^-v): from where on, how many v and how far apart.
FIRST, NODES, STEP = -6.0, 80, 0.125
SMALLEST = 2.0**-126  # what a number of a small concentration is at least: a float32 above 0


def gamma_counters(numel: int) -> int:
    """By how much drawing `numel` numbers advances the generator."""
    return (
        counters("normal", TRIES * numel, f64)
        + counters("uniform", TRIES * numel, f64)
        + counters("uniform", numel, f64)
    )


def _types(a: TensorType, seed: TensorType, offset: TensorType) -> tuple[TensorType, ...]:
    if not a.dtype.is_floating_point:
        raise DTypeError(f"[standard_gamma] concentrations must be floating-point, given {a}")
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[standard_gamma] seed and offset must be i64[], given {operand}")
    return (a,)


def _standard_gamma(b: Any, a: Any, seed: Any, offset: Any) -> Any:
    shape, numel = a.type.shape, a.type.numel
    wide = as_dtype(b, a, f64)
    tried = (TRIES, *shape)
    x = b.normal(seed, offset, shape=tried, dtype=f64)
    after = counters("normal", TRIES * numel, f64)
    u = b.uniform(seed, b.add(offset, after), shape=tried, dtype=f64)
    after += counters("uniform", TRIES * numel, f64)
    w = b.uniform(seed, b.add(offset, after), shape=shape, dtype=f64)
    # Below 1, a number of one more times a power of a uniform number.
    small = b.lt(wide, 1.0)
    raised = b.where(small, b.add(wide, 1.0), wide)
    d = b.reshape(b.sub(raised, 1.0 / 3.0), shape=(1, *shape))
    root = b.add(b.div(x, b.sqrt(b.mul(d, 9.0))), 1.0)
    v = b.mul(b.mul(root, root), root)
    positive = b.gt(v, 0.0)
    log_v = b.log(b.where(positive, v, 1.0))
    limit = b.add(b.mul(b.mul(x, x), 0.5), b.mul(d, b.add(b.sub(1.0, v), log_v)))
    accepted = b.bitwise_and(positive, b.lt(b.log(u), limit))
    found = b.reshape(chosen_candidate(b, accepted, b.mul(d, v), d), shape=shape)
    power = b.exp(b.div(b.log(b.sub(1.0, w)), b.where(small, wide, 1.0)))
    found = b.mul(found, b.where(small, power, 1.0))
    found = b.where(b.gt(wide, 0.0), b.maximum(found, SMALLEST), math.nan)
    return as_dtype(b, found, a.type.dtype)


def _derivative(b: Any, a: Any, x: Any) -> Any:
    """d(number) / d(concentration) where its quantile stays; to a relative error below 1e-7."""
    shape = a.type.shape
    wide = [b.reshape(as_dtype(b, value, f64), shape=(1, *shape)) for value in (a, x)]
    a, x = (b.maximum(value, 1e-300) for value in wide)
    v = b.add(b.mul(b.iota(shape=(NODES,), dim=0, dtype=f64), STEP), FIRST)
    v = b.reshape(v, shape=(NODES, *(1,) * len(shape)))
    decay = b.exp(b.neg(v))
    place = b.exp(b.sub(v, decay))
    weight = b.mul(b.mul(place, b.add(decay, 1.0)), STEP)
    below = b.le(x, a)
    # How fast the integrand falls; e^s is slower to rise than a parabola where x is small.
    bend = b.minimum(b.sqrt(x), b.where(below, x, 1.0))
    rate = b.add(b.abs(b.sub(a, x)), b.where(below, bend, b.sqrt(x)))
    slow = b.div(1.0, b.sub(1.0, b.minimum(b.log(x), 0.0)))
    rate = b.where(below, rate, b.maximum(rate, slow))
    s = b.div(place, rate)
    sign = b.sub(1.0, b.mul(b.cast(below, dtype=f64), 2.0))
    moved = b.mul(s, sign)
    # below: x (1 - e^-s) - a s; above: a s - x (e^s - 1)
    falls = b.mul(sign, b.sub(b.mul(a, s), b.mul(x, b.abs(b.expm1(moved)))))
    logarithm = b.add(b.sub(b.log(x), b.digamma(a)), moved)
    terms = b.mul(b.mul(logarithm, b.exp(falls)), weight)
    total = b.div(b.sum(terms, dims=(0,), keepdim=True), rate)
    return b.reshape(b.mul(b.mul(x, sign), total), shape=shape)


def _gradient(b: Any, g: Any, a: Any, out: Any) -> Any:
    return b.mul(g, as_dtype(b, _derivative(b, a, out), out.type.dtype))


standard_gamma = declare(
    "standard_gamma",
    "composite",
    "a seed offset",
    infer=_types,
    decompose=_standard_gamma,
    gradients={"a": _gradient},
    domain=(0.5, 30.0),
    doc="Gamma numbers of these concentrations and scale 1, in their dtype; nan for those below 0.",
)
