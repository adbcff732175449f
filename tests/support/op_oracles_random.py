"""Oracles of random numbers: the generator in Python's integers, and what is made of its words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.stats
from op_oracles import ORACLES, oracle

MASK = 2**32 - 1


def _philox(counter: int, key: int) -> list[int]:
    """Philox4x32-10 in Python's integers (Salmon et al., SC 2011, section 3.3)."""
    c = [counter & MASK, counter >> 32 & MASK, 0, 0]
    k = [key & MASK, key >> 32 & MASK]
    for _ in range(10):
        left, right = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [right >> 32 ^ c[1] ^ k[0], right & MASK, left >> 32 ^ c[3] ^ k[1], left & MASK]
        k = [k[0] + 0x9E3779B9 & MASK, k[1] + 0xBB67AE85 & MASK]
    return c


def words(seed: Any, offset: Any, count: int) -> list[int]:
    made = []
    for i in range(count):
        block, j = divmod(i, 32)
        counter = (int(offset) + 8 * block + j % 8) % 2**64
        made.append(_philox(counter, int(seed) % 2**64)[j // 8])
    return made


def _draws(seed: Any, offset: Any, shape: Any, number: int) -> np.ndarray:
    count = math.prod(shape)
    start = int(offset) + number * 8 * -(-count // 32)
    return np.array(words(seed, start, count), np.uint64).reshape(shape)


def _unit(seed: Any, offset: Any, shape: Any, bits: int, number: int = 0) -> np.ndarray:
    """Integers of so many bits."""
    high = _draws(seed, offset, shape, number)
    if bits <= 32:
        return high >> np.uint64(32 - bits)
    low = _draws(seed, offset, shape, number + 1) >> np.uint64(64 - bits)
    return (high << np.uint64(bits - 32)) + low


BITS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}


@oracle("normal")
def _normal(seed: Any, offset: Any, *, shape: Any, dtype: Any) -> np.ndarray:
    bits = 53 if dtype.name == "f64" else 24
    u = (_unit(seed, offset, shape, bits) + np.uint64(1)) / 2.0**bits
    v = _unit(seed, offset, shape, bits, 2 if bits == 53 else 1) / 2.0**bits
    return np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


@oracle("randint")
def _randint(seed: Any, offset: Any, *, shape: Any, low: int, high: int) -> np.ndarray:
    span = high - low
    first = _draws(seed, offset, shape, 0).astype(object)
    if span <= 2**31:
        return np.array(low + (first * span >> 32), np.int64)
    both = first * 2**31 + (_draws(seed, offset, shape, 1).astype(object) >> 1)
    return np.array(low + both % span, np.int64)


@oracle("bernoulli")
def _bernoulli(p: np.ndarray, seed: Any, offset: Any) -> np.ndarray:
    return _unit(seed, offset, p.shape, 24) / 2.0**24 < p.astype(np.float32)


@oracle("dropout")
def _dropout(x: np.ndarray, seed: Any, offset: Any, *, p: float) -> np.ndarray:
    keep = _draws(seed, offset, x.shape, 0) >= round(p * 2**32)
    return np.where(keep, x / (1 - p if p < 1 else 1), 0.0)


@oracle("poisson")
def _poisson(rate: np.ndarray, seed: Any, offset: Any) -> np.ndarray:
    """SciPy's quantiles below 10, and from there on Hoermann's PTRS, candidate by candidate."""
    tries = 24
    shape = (tries, *rate.shape)
    u, v = (_unit(seed, offset, shape, 53, n) / 2.0**53 for n in (0, 2))
    after = 4 * 8 * -(-math.prod(shape) // 32)
    w = _unit(seed, int(offset) + after, rate.shape, 53) / 2.0**53
    out = np.asarray(scipy.stats.poisson.ppf(w, rate))
    for place in np.ndindex(*rate.shape):
        mu = float(rate[place])
        if mu < 10:
            continue
        b = 0.931 + 2.53 * math.sqrt(mu)
        a = -0.059 + 0.02483 * b
        inverse, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
        for number in range(tries):
            centred, height = u[(number, *place)] - 0.5, v[(number, *place)]
            side = 0.5 - abs(centred)
            k = math.floor((2 * a / side + b) * centred + mu + 0.43)
            if side >= 0.07 and height <= v_r:
                break
            if k < 0 or (side < 0.013 and height > side):
                continue
            chance = k * math.log(mu) - mu - math.lgamma(k + 1)
            if math.log(height * inverse / (a / side**2 + b)) <= chance:
                break
        out[place] = k
    return out


@oracle("standard_gamma")
def _standard_gamma(a: np.ndarray, seed: Any, offset: Any) -> np.ndarray:
    """Marsaglia and Tsang, candidate by candidate."""
    tries = 12
    shape = (tries, *a.shape)
    step = 8 * -(-math.prod(shape) // 32)
    u, v = (_unit(seed, offset, shape, 53, n) for n in (0, 2))
    x = np.sqrt(-2 * np.log((u + np.uint64(1)) / 2.0**53)) * np.cos(2 * np.pi * (v / 2.0**53))
    u = _unit(seed, int(offset) + 4 * step, shape, 53) / 2.0**53
    w = _unit(seed, int(offset) + 6 * step, a.shape, 53) / 2.0**53
    out = np.empty(a.shape)
    for place in np.ndindex(*a.shape):
        alpha = float(a[place])
        d = (alpha if alpha >= 1 else alpha + 1) - 1 / 3
        found = d
        for number in range(tries):
            draw, height = x[(number, *place)], u[(number, *place)]
            cube = (1 + draw / math.sqrt(9 * d)) ** 3
            if cube > 0 and math.log(height or 1e-300) < draw**2 / 2 + d * (
                1 - cube + math.log(cube)
            ):
                found = d * cube
                break
        power = (1 - w[place]) ** (1 / alpha) if alpha < 1 else 1.0
        out[place] = max(found * power, 2.0**-126)
    return out


ORACLES |= {
    "random_bits": lambda seed, offset, *, shape: _draws(seed, offset, shape, 0),
    "uniform": lambda seed, offset, *, shape, dtype: (
        _unit(seed, offset, shape, BITS[dtype.name]) / 2.0 ** BITS[dtype.name]
    ),
}


@oracle("binomial")
def _binomial(count: np.ndarray, prob: np.ndarray, seed: Any, offset: Any) -> np.ndarray:
    """SciPy's quantiles below a mean of 10, and from there on Hoermann's BTRS, candidate by
    candidate; above one half the failures are counted."""
    counts, chances = np.broadcast_arrays(count, prob)
    tries = 24
    shape = (tries, *counts.shape)
    u, v = (_unit(seed, offset, shape, 53, n) / 2.0**53 for n in (0, 2))
    after = 4 * 8 * -(-math.prod(shape) // 32)
    w = _unit(seed, int(offset) + after, counts.shape, 53) / 2.0**53
    out = np.zeros(counts.shape)
    for place in np.ndindex(*counts.shape):
        n, p = float(counts[place]), float(chances[place])
        small = 1 - p if p > 0.5 else p
        if n * small < 10:
            found = float(scipy.stats.binom.ppf(w[place], n, small))
        else:
            found = _btrs(n, small, u[(slice(None), *place)], v[(slice(None), *place)])
        out[place] = n - found if p > 0.5 else found
    return out


def _btrs(n: float, p: float, u: np.ndarray, v: np.ndarray) -> float:
    """The first candidate that is accepted; the comparison is of exact probabilities."""
    deviation = math.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    alpha, v_r = (2.83 + 5.1 / b) * deviation, 0.92 - 4.2 / b
    mode = math.floor((n + 1) * p)
    for centred, height in zip(u - 0.5, v, strict=True):
        side = 0.5 - abs(centred)
        k = math.floor((2 * a / side + b) * centred + n * p + 0.5)
        if not 0 <= k <= n:
            continue
        ratio = scipy.stats.binom.pmf(k, n, p) / scipy.stats.binom.pmf(mode, n, p)
        if (side >= 0.07 and height <= v_r) or height * alpha / (a / side**2 + b) <= ratio:
            return k
    raise AssertionError("no candidate was accepted")
