"""ONNX's gathers and scatters."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.onnx.rules import imports
from braze.tensors import Tensor


def wrapped(index: Tensor, size: int) -> Tensor:
    """An index as int64, counted from the beginning."""
    index = index.to(braze.int64)
    return braze.where(index < 0, index + size, index)


@imports("Gather", since=1, raw=True)
def gather(node: Any, x: Any, index: Any) -> Tensor:
    x = node.tensor(x)
    axis = node.get("axis", 0) % x.dim()
    if isinstance(index, np.ndarray) and index.ndim == 0:
        return x.select(axis, int(index))
    index = node.tensor(index)
    places = wrapped(index, x.shape[axis]).reshape(-1)
    found = x.index_select(axis, places)
    return found.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


@imports("GatherElements", since=11)
def gather_elements(node: Any, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    return braze.gather(x, axis, wrapped(index, x.shape[axis]))


def _flat(index: Tensor, sizes: list[int]) -> Tensor:
    """Tuples in the last dimension as places in the flattened dimensions that they index."""
    place = None
    for i, size in enumerate(sizes):
        own = wrapped(index.select(-1, i), size)
        place = own if place is None else place * size + own
    assert place is not None
    return place


@imports("GatherND", since=11)
def gather_nd(node: Any, x: Tensor, index: Tensor) -> Tensor:
    batch, width = node.get("batch_dims", 0), index.shape[-1]
    place = _flat(index, list(x.shape[batch : batch + width]))
    rest = list(x.shape[batch + width :])
    outer = int(np.prod(x.shape[:batch]))
    inner = int(np.prod(x.shape[batch : batch + width]))
    # Batches lie one after the other, so that one index tells batch and place.
    first = braze.arange(outer).reshape(-1, 1) * inner
    places = (first + place.reshape(outer, -1)).reshape(-1)
    found = x.reshape([outer * inner, *rest]).index_select(0, places)
    return found.reshape([*index.shape[:-1], *rest])


_COMBINES = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter(x: Tensor, dim: int, index: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return braze.scatter(x, dim, index, updates)
    return braze.scatter_reduce(x, dim, index, updates, _COMBINES[reduction], include_self=True)


@imports("ScatterElements", "Scatter", since=9)
def scatter_elements(node: Any, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    return _scatter(x, axis, wrapped(index, x.shape[axis]), updates, node.get("reduction", "none"))


@imports("ScatterND", since=11)
def scatter_nd(node: Any, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    width = index.shape[-1]
    rest = list(x.shape[width:])
    rows, columns = int(np.prod(x.shape[:width])), int(np.prod(rest))
    place = _flat(index, list(x.shape[:width])).reshape(-1, 1)
    place = place.expand(place.shape[0], columns)
    result = _scatter(
        x.reshape(rows, columns),
        0,
        place,
        updates.reshape(place.shape),
        node.get("reduction", "none"),
    )
    return result.reshape(x.shape)


@imports("TensorScatter", since=24)
def tensor_scatter(node: Any, past: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -2) % past.dim()
    length, count = past.shape[axis], update.shape[axis]
    place = braze.arange(count).reshape(1, -1)
    if starts is not None:
        place = place + starts.to(braze.int64).reshape(-1, 1)
    if node.get("mode", "linear") == "circular":
        place = place % length
    sizes = [1] * past.dim()
    sizes[0], sizes[axis] = place.shape[0], count
    return braze.scatter(past, axis, place.reshape(sizes).expand(update.shape), update)


@imports("OneHot", since=9, read=(1,))
def one_hot(node: Any, index: Tensor, depth: np.ndarray, values: Tensor) -> Tensor:
    count = int(depth.reshape(()))
    axis = node.get("axis", -1) % (index.dim() + 1)
    places = index.to(braze.int64)
    places = braze.where(places < 0, places + count, places).unsqueeze(axis)
    sizes = [1] * places.dim()
    sizes[axis] = count
    hot = braze.arange(count).reshape(sizes) == places
    return braze.where(hot, values.select(0, 1), values.select(0, 0))


@imports("NonZero", since=9, raw=True)
def nonzero(node: Any, x: Any) -> np.ndarray:
    # How many there are depends on the values, so this is never part of a compiled graph.
    array = np.atleast_1d(node.read(x, "operand 0"))
    return np.array(np.nonzero(array), dtype=np.int64)


@imports("EyeLike", since=9, raw=True)
def eye_like(node: Any, x: Any) -> np.ndarray:
    from braze.onnx.protos import dtype_of

    dtype = node.get("dtype")
    own = x.dtype if isinstance(x, np.ndarray) else x.dtype.numpy
    kind = own if dtype is None else dtype_of(dtype, "the result of EyeLike").numpy
    rows, columns = x.shape
    return np.eye(rows, columns, k=node.get("k", 0)).astype(kind)
