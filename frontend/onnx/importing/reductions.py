"""ONNX's reductions, scans and sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import braze
from braze.onnx.known import axes_of
from braze.onnx.rules import imports
from braze.tensors import Tensor

_SAME = ("ReduceMax", "ReduceMin")


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return braze.logsumexp(x, dims, keepdim)


def _prod(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = braze.prod(x, dim, keepdim, dtype=x.dtype)
    return x


def _extreme(name: str) -> Callable[..., Tensor]:
    largest = name == "ReduceMax"

    def reduce(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
        if x.dtype is braze.bool:
            whole = reduce(x.to(braze.uint8), dims, keepdim)
            return whole.to(braze.bool)
        if not all(x.shape[d] for d in dims):
            kept = [i for i in range(x.dim()) if keepdim or i not in dims]
            sizes = [1 if i in dims else x.shape[i] for i in kept]
            return braze.full(sizes, _neutral(x, largest), dtype=x.dtype)
        return (braze.amax if largest else braze.amin)(x, dims, keepdim)

    return reduce


def _neutral(x: Tensor, largest: bool) -> float:
    """What the maximum, or the minimum, of nothing is."""
    if x.dtype.is_floating_point:
        return -np.inf if largest else np.inf
    info = np.iinfo(x.dtype.numpy)
    return int(info.min if largest else info.max)


REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceL1": lambda x, d, k: braze.sum(braze.abs(x), d, k, dtype=x.dtype),
    "ReduceL2": lambda x, d, k: _root(braze.sum(x * x, d, k, dtype=x.dtype)),
    "ReduceLogSum": lambda x, d, k: braze.log(braze.sum(x, d, k)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme("ReduceMax"),
    "ReduceMean": lambda x, d, k: braze.mean(x, d, k),
    "ReduceMin": _extreme("ReduceMin"),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, d, k: braze.sum(x, d, k, dtype=x.dtype),
    "ReduceSumSquare": lambda x, d, k: braze.sum(x * x, d, k, dtype=x.dtype),
}


def _root(x: Tensor) -> Tensor:
    if x.dtype.is_floating_point:
        return braze.sqrt(x)
    return braze.sqrt(x.to(braze.float64)).to(x.dtype)


# What they do to each element alone.
_SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "ReduceL1": braze.abs,
    "ReduceL2": braze.abs,
    "ReduceLogSum": braze.log,
    "ReduceSumSquare": lambda x: x * x,
}


@imports(*REDUCTIONS, since=1, read=(1,))
def reduction(node: Any, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    dims = axes_of(node, axes, x.dim())
    if not dims:
        if node.get("noop_with_empty_axes", 0):
            return _SINGLE.get(node.op, lambda y: y)(x)
        dims = tuple(range(x.dim()))
    if not x.dim():
        return REDUCTIONS[node.op](x.reshape(1), (0,), False)
    return REDUCTIONS[node.op](x, dims, bool(node.get("keepdims", 1)))


@imports("ArgMax", "ArgMin", since=1)
def arg_extreme(node: Any, x: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    find = braze.argmax if node.op == "ArgMax" else braze.argmin
    keep = bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return find(x, axis, keep)
    return x.shape[axis] - 1 - find(braze.flip(x, (axis,)), axis, keep)


@imports("CumSum", "CumProd", since=11, read=(1,))
def scan(node: Any, x: Tensor, axis: np.ndarray) -> Tensor:
    dim = int(axis.reshape(())) % x.dim()
    reverse = node.get("reverse", 0)
    x = braze.flip(x, (dim,)) if reverse else x
    product = node.op == "CumProd"
    if node.get("exclusive", 0):
        first = x.narrow(dim, 0, 1)
        first = braze.ones_like(first) if product else braze.zeros_like(first)
        x = braze.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    y = (braze.cumprod if product else braze.cumsum)(x, dim, dtype=x.dtype)
    return braze.flip(y, (dim,)) if reverse else y


@imports("TopK", since=1, read=(1,))
def top_k(node: Any, x: Tensor, k: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    count = node.get("k") if k is None else int(k.reshape(()))
    found = braze.topk(x, count, node.get("axis", -1), bool(node.get("largest", 1)))
    return found[0], found[1]


@imports("Unique", since=11)
def unique(node: Any, x: Tensor) -> tuple[Tensor, ...]:
    # How many there are depends on the values, so this is never part of a compiled graph.
    array = node.read(x, "operand 0")
    axis = node.get("axis")
    found = np.unique(array, True, True, True, axis=axis)
    values, first, inverse, counts = found[0], found[1], found[2].reshape(-1), found[3]
    if not node.get("sorted", 1):
        order = np.argsort(first)
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        values, first, counts = np.take(values, order, axis or 0), first[order], counts[order]
        inverse = places[inverse]
    return tuple(
        braze.from_numpy(np.array(v, dtype=d))
        for v, d in (
            (values, array.dtype),
            (first, np.int64),
            (inverse, np.int64),
            (counts, np.int64),
        )
    )
