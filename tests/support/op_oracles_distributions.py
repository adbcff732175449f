"""Oracles of what distributions are made of: regions, categories, draws by weight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from op_oracles import ORACLES, oracle
from op_oracles_random import BITS, _unit


@oracle("check_truth")
def _check_truth(x: np.ndarray, *, wanted: bool, message: str) -> tuple[()]:
    assert (x == wanted).all()
    return ()


@oracle("check_interval", "check_simplex")
def _check(x: np.ndarray, **attributes: Any) -> tuple[()]:
    """Samples satisfy it; for others see test_composites_checks."""
    return ()


@oracle("exponential")
def _exponential(seed: Any, offset: Any, *, shape: Any, dtype: Any) -> np.ndarray:
    bits = BITS[dtype.name]
    u = _unit(seed, offset, shape, bits) / 2.0**bits
    return np.maximum(-np.log1p(-u), 0.5 / 2.0**bits)


@oracle("multinomial")
def _multinomial(
    weights: np.ndarray, seed: Any, offset: Any, *, count: int, replacement: bool
) -> np.ndarray:
    """Row by row: the first category whose running sum is above the number, or a race."""
    out = np.empty((*weights.shape[:-1], count), np.int64)
    shape = out.shape if replacement else weights.shape
    bits = 53 if replacement or weights.itemsize == 8 else 24
    u = _unit(seed, offset, shape, bits) / 2.0**bits
    for row in np.ndindex(*out.shape[:-1]):
        own = weights[row].astype(np.float64)
        if replacement:
            sums = np.cumsum(own)
            out[row] = [next(i for i, s in enumerate(sums) if s > n * sums[-1]) for n in u[row]]
        else:
            with np.errstate(divide="ignore"):
                times = np.where(own > 0, -np.log1p(-u[row]) / own, math.inf)
            out[row] = np.argsort(times, kind="stable")[:count]
    return out


def _log_clamped_grad(out: np.ndarray, x: np.ndarray, *, low: float, high: float) -> np.ndarray:
    return np.where((low <= x) & (x <= high), out / x, 0.0)


def _pick(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    rows = np.broadcast_shapes(x.shape[:-1], index.shape)
    table, chosen = np.broadcast_to(x, (*rows, x.shape[-1])), np.broadcast_to(index, rows)
    return np.take_along_axis(table, chosen[..., None], -1)[..., 0]


@oracle("pick_grad")
def _pick_grad(out: np.ndarray, index: np.ndarray, *, shape: Any) -> np.ndarray:
    made = np.zeros(shape, out.dtype)
    lead = [1] * (out.ndim - len(shape) + 1) + list(shape[:-1])
    for row in np.ndindex(*out.shape):
        place = tuple(0 if n == 1 else i for i, n in zip(row, lead, strict=True))
        own = place[out.ndim - len(shape) + 1 :]
        made[(*own, np.broadcast_to(index, out.shape)[row])] += out[row]
    return made


ORACLES |= {
    "proportions": lambda x, *, dim: x / x.sum(dim, keepdims=True),
    "proportions_grad": lambda out, x, y, *, dim: (
        (out - (out * y).sum(dim, keepdims=True)) / x.sum(dim, keepdims=True)
    ),
    "log_clamped": lambda x, *, low, high: np.log(np.clip(x, low, high)),
    "log_clamped_grad": _log_clamped_grad,
    "pick": _pick,
}
