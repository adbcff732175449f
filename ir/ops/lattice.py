"""Primitives that pass values on through the states of a lattice, step by step.

Operands are [T, N, S]: at each of T steps each of N sequences has a value in each of S states. From
one step to the next a value stays in its state, goes on by one state, or skips one. So the forward
and backward recursions of hidden Markov models without loops are computed, such as connectionist
temporal classification (A. Graves et al., ICML 2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import bool_, f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType

Array = np.ndarray
# By how many states each kind of step goes on: `stay`, `step` and `skip`.
STEPS = (0, 1, 2)


def _check_values(name: str, x: TensorType) -> None:
    if x.rank != 3:
        raise ShapeError(f"[{name}] operands must be [steps, sequences, states], given {x}")
    if x.dtype not in (f32, f64):
        raise DTypeError(f"[{name}] needs float32 or float64 operands, given {x}")


def moved(before: Array, by: int, fill: float) -> Array:
    """Of each state the value `by` states before it; `fill` where there is none."""
    out = np.full_like(before, fill)
    out[..., by:] = before[..., : before.shape[-1] - by]
    return out


# Sums ---------------------------------------------------------------------------------------------


def _sum_types(*types: TensorType) -> tuple[TensorType, ...]:
    name = "lattice_sum"
    common_dtype(name, *types)
    _check_values(name, types[0])
    if any(t.shape != types[0].shape for t in types):
        raise ShapeError(f"[{name}] operands differ in shape: {', '.join(map(str, types))}")
    return (types[0],)


def _sum(x: Array, stay: Array, step: Array, skip: Array) -> Array:
    out = x.copy()
    with np.errstate(all="ignore"):
        for t in range(1, len(x)):
            for by, factor in zip(STEPS, (stay, step, skip), strict=True):
                out[t] += factor[t] * moved(out[t - 1], min(by, x.shape[2]), 0.0)
    return out


def _later(b: Any, factor: Any, by: int) -> Any:
    """At each place the factor of the step from there, `by` states on; 0 where there is none."""
    steps, rows, states = factor.type.shape
    by = min(by, states)
    inner = b.slice(factor, starts=(1, 0, by), stops=(steps, rows, states), steps=(1, 1, 1))
    return b.pad(inner, low=(0, 0, 0), high=(1, 0, by), interior=(0, 0, 0), value=0.0)


def _earlier(b: Any, values: Any, by: int, fill: float) -> Any:
    """At each place the value from which a step leads there; `fill` where there is none."""
    steps, rows, states = values.type.shape
    by = min(by, states)
    stops = (steps - 1, rows, states - by)
    inner = b.slice(values, starts=(0, 0, 0), stops=stops, steps=(1, 1, 1))
    return b.pad(inner, low=(1, 0, by), high=(0, 0, 0), interior=(0, 0, 0), value=fill)


def _back(b: Any, g: Any, factors: tuple[Any, ...]) -> Any:
    """What comes back to each place: the lattice from its end, with steps the other way round."""
    if g.type.numel == 0:
        return g
    turned = [
        b.flip(_later(b, factor, by), dims=(0, 2))
        for by, factor in zip(STEPS, factors, strict=True)
    ]
    return b.flip(b.lattice_sum(b.flip(g, dims=(0, 2)), *turned), dims=(0, 2))


def _factor_gradient(by: int) -> Any:
    def rule(b: Any, g: Any, stay: Any, step: Any, skip: Any, out: Any) -> Any:
        if g.type.numel == 0:
            return g
        return b.mul(_back(b, g, (stay, step, skip)), _earlier(b, out, by, 0.0))

    return rule


lattice_sum = declare(
    "lattice_sum",
    "lattice",
    "x stay step skip",
    infer=_sum_types,
    evaluate=_sum,
    gradients={
        "x": lambda b, g, stay, step, skip: _back(b, g, (stay, step, skip)),
        "stay": _factor_gradient(0),
        "step": _factor_gradient(1),
        "skip": _factor_gradient(2),
    },
    doc="""out[t, n, s] = x[t, n, s] + stay[t, n, s] out[t-1, n, s] + step[t, n, s] out[t-1, n, s-1]
+ skip[t, n, s] out[t-1, n, s-2], where what lies outside counts as 0.""",
)


# Sums of logarithms -------------------------------------------------------------------------------


def _logsum_types(x: TensorType, skips: TensorType) -> tuple[TensorType, ...]:
    name = "lattice_logsum"
    _check_values(name, x)
    if skips.dtype is not bool_:
        raise DTypeError(f"[{name}] which states are skipped to must be bools, given {skips}")
    if skips.shape != x.shape[1:]:
        raise ShapeError(f"[{name}] skips must be {list(x.shape[1:])} for {x}, given {skips}")
    return (x,)


def _logsum(x: Array, skips: Array) -> Array:
    out = np.full_like(x, -np.inf)
    if not x.size:
        return out
    out[0, :, :2] = x[0, :, :2]
    with np.errstate(all="ignore"):
        for t in range(1, len(x)):
            a, b, c = (moved(out[t - 1], min(by, x.shape[2]), -np.inf) for by in STEPS)
            c = np.where(skips, c, -np.inf)
            top = np.maximum(np.maximum(a, b), c)
            top = np.where(top == -np.inf, 0, top)
            total = np.exp(a - top) + np.exp(b - top) + np.exp(c - top)
            out[t] = x[t] + (np.log(total) + top)
    return out


def _logsum_gradient(b: Any, g: Any, skips: Any, out: Any) -> Any:
    """Back along the steps, each by its share in the sum that it leads to."""
    if g.type.numel == 0:
        return g
    shape = out.type.shape
    before = [_earlier(b, out, by, -np.inf) for by in STEPS]
    mask = b.expand(b.reshape(skips, shape=(1, *shape[1:])), shape=shape)
    before[2] = b.where(mask, before[2], -np.inf)
    top = b.maximum(b.maximum(before[0], before[1]), before[2])
    top = b.where(b.eq(top, -np.inf), 0.0, top)
    sizes = [b.exp(b.sub(value, top)) for value in before]
    total = b.add(b.add(sizes[0], sizes[1]), sizes[2])
    total = b.where(b.eq(total, 0.0), 1.0, total)
    return _back(b, g, tuple(b.div(size, total) for size in sizes))


lattice_logsum = declare(
    "lattice_logsum",
    "lattice",
    "x skips",
    infer=_logsum_types,
    evaluate=_logsum,
    gradients={"x": _logsum_gradient},
    doc="""out[t, n, s] = x[t, n, s] + log(exp(out[t-1, n, s]) + exp(out[t-1, n, s-1]) +
exp(out[t-1, n, s-2]) where skips[n, s]), without overflow: the logarithm of the weights of all ways
that lead to a state. They start in one of the first two; elsewhere out[0] is -inf.""",
)
