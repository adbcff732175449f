"""Operators on values that are known: what a model computes about shapes, with NumPy.

A rule takes arrays and gives an array, or NotImplemented where it cannot say; the operator's rule
for tensors then serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from braze.onnx.protos import dtype_of

Array = np.ndarray
KNOWN: dict[str, Callable[..., Any]] = {}

# Beyond, arrays are data rather than shapes, and belong into the graph.
_LARGE = 1 << 16


def known(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the rule of some operators."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(node: Any, *operands: Array | None) -> Any:
            if any(x is not None and x.size > _LARGE for x in operands):
                return NotImplemented
            with np.errstate(all="ignore"):
                result = function(node, *operands)
            if result is NotImplemented or isinstance(result, tuple):
                return result
            return np.asarray(result)

        for name in names:
            KNOWN[name] = checked
        return function

    return enter


def axes_of(node: Any, given: Array | None, rank: int) -> tuple[int, ...]:
    """The axes of a node, an operand or, in older versions, an attribute; not negative."""
    axes = given if given is not None else node.get("axes")
    if axes is None:
        return ()
    return tuple(int(axis) % max(rank, 1) for axis in np.atleast_1d(axes))


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
}


@known(*_BINARY)
def binary(node: Any, x: Array, y: Array) -> Any:
    if node.version < 7 and node.get("axis") is not None:
        return NotImplemented
    return _BINARY[node.op](x, y)


@known("Div")
def div(node: Any, x: Array, y: Array) -> Any:
    if x.dtype.kind not in "iu":
        return np.divide(x, y)
    if (y == 0).any():
        return NotImplemented  # which raises the error of any such division
    quotient = np.floor_divide(np.abs(x), np.abs(y))
    return (np.sign(x) * np.sign(y) * quotient).astype(x.dtype)


@known("Mod")
def mod(node: Any, x: Array, y: Array) -> Any:
    if x.dtype.kind in "iu" and (y == 0).any():
        return NotImplemented
    return np.fmod(x, y) if node.get("fmod", 0) else np.mod(x, y)


_UNARY: dict[str, Callable[[Array], Any]] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sqrt": np.sqrt,
    "Identity": lambda x: x,
    "Sign": np.sign,
}


@known(*_UNARY)
def unary(node: Any, x: Array) -> Any:
    return _UNARY[node.op](x)


_VARIADIC: dict[str, Callable[[Array, Array], Any]] = {"Max": np.maximum, "Min": np.minimum}


@known(*_VARIADIC)
def variadic(node: Any, *xs: Array) -> Any:
    result = xs[0]
    for x in xs[1:]:
        result = _VARIADIC[node.op](result, x)
    return result


@known("Where")
def where(node: Any, condition: Array, x: Array, y: Array) -> Any:
    return np.where(condition, x, y)


@known("Cast")
def cast(node: Any, x: Array) -> Any:
    wanted = dtype_of(node.get("to"), "the result of a Cast")
    if wanted.is_integer and x.dtype.kind not in "iub":
        x = np.trunc(np.where(np.isfinite(x), x, 0))
    return x.astype(wanted.numpy)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


@known(*_REDUCTIONS)
def reduction(node: Any, x: Array, axes: Array | None = None) -> Any:
    over = axes_of(node, axes, x.ndim)
    if not x.size or x.dtype.kind not in "iuf":
        return NotImplemented
    if not over:
        if node.get("noop_with_empty_axes", 0):
            return x
        over = tuple(range(x.ndim))
    keep = bool(node.get("keepdims", 1))
    return _REDUCTIONS[node.op](x, axis=over, keepdims=keep).astype(x.dtype)


# Movement -----------------------------------------------------------------------------------------


@known("Concat")
def concat(node: Any, *xs: Array) -> Any:
    return np.concatenate(xs, axis=node.get("axis", 1))


@known("Gather")
def gather(node: Any, x: Array, index: Array) -> Any:
    return np.take(x, index, axis=node.get("axis", 0))


@known("Unsqueeze")
def unsqueeze(node: Any, x: Array, axes: Array | None = None) -> Any:
    given = np.atleast_1d(axes if axes is not None else node.get("axes"))
    return np.expand_dims(x, axes_of(node, axes, x.ndim + len(given)))


@known("Squeeze")
def squeeze(node: Any, x: Array, axes: Array | None = None) -> Any:
    if axes is None and node.get("axes") is None:
        return np.squeeze(x)
    return np.squeeze(x, axes_of(node, axes, x.ndim))


@known("Slice")
def slice_(node: Any, x: Array, *bounds: Array | None) -> Any:
    index = [slice(None)] * x.ndim
    for axis, start, stop, step in slices_of(node, x.ndim, bounds):
        index[axis] = bounded_slice(x.shape[axis], start, stop, step)
    return x[tuple(index)]


def slices_of(
    node: Any, rank: int, bounds: tuple[Array | None, ...]
) -> list[tuple[int, int, int, int]]:
    """Axis, start, stop and step for each axis that a Slice names."""
    given: list[Any] = [None if b is None else [int(v) for v in np.atleast_1d(b)] for b in bounds]
    if node.version < 10:
        given = [node.get("starts"), node.get("ends"), node.get("axes")]
    starts, stops, axes, steps = [*given, None, None][:4]
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return [
        (axis % max(rank, 1), start, stop, step)
        for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True)
    ]


def bounded_slice(size: int, start: int, stop: int, step: int) -> slice:
    """Python's slice for ONNX's, whose bounds are clamped after counting from the end."""
    start, stop = (v + size if v < 0 else v for v in (start, stop))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(stop, 0), size), step)
    start, stop = min(max(start, -1), size - 1), min(max(stop, -1), size - 1)
    return slice(start if start >= 0 else -size - 1, None if stop < 0 else stop, step)


@known("Reshape")
def reshape(node: Any, x: Array, shape: Array) -> Any:
    return x.reshape(target_shape(x.shape, shape, bool(node.get("allowzero", 0))))


def target_shape(old: tuple[int, ...], new: Array, allow_zero: bool) -> tuple[int, ...]:
    """The sizes that a Reshape asks for, but for at most one of -1."""
    sizes = [int(v) for v in new]
    if not allow_zero:
        sizes = [old[i] if v == 0 else v for i, v in enumerate(sizes)]
    return tuple(sizes)


@known("Transpose")
def transpose(node: Any, x: Array) -> Any:
    return np.transpose(x, node.get("perm"))


@known("Expand")
def expand(node: Any, x: Array, shape: Array) -> Any:
    result = np.broadcast_shapes(x.shape, tuple(int(v) for v in shape))
    if int(np.prod(result)) > _LARGE:
        return NotImplemented
    return np.broadcast_to(x, result).copy()


@known("Tile")
def tile(node: Any, x: Array, repeats: Array) -> Any:
    return np.tile(x, repeats)


# Making -------------------------------------------------------------------------------------------


@known("Range")
def range_(node: Any, start: Array, stop: Array, step: Array) -> Any:
    start, stop, step = (v.reshape(()) for v in (start, stop, step))
    if start.dtype.kind not in "iu":
        return NotImplemented
    count = max(-((int(start) - int(stop)) // int(step)), 0)
    if count > _LARGE:
        return NotImplemented
    return (start + step * np.arange(count, dtype=start.dtype)).astype(start.dtype)


@known("ConstantOfShape")
def constant_of_shape(node: Any, shape: Array) -> Any:
    value = node.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    if int(np.prod(shape)) > _LARGE:
        return NotImplemented
    return np.full(tuple(int(v) for v in shape), value.reshape(()), dtype=value.dtype)


@known("NonZero")
def nonzero(node: Any, x: Array) -> Any:
    return np.array(np.nonzero(np.atleast_1d(x)), dtype=np.int64)


@known("Shape")
def shape(node: Any, x: Array) -> Any:
    return sizes(node, x.shape)


@known("Size")
def size(node: Any, x: Array) -> Any:
    return np.array(x.size, dtype=np.int64)


def sizes(node: Any, given: tuple[int, ...]) -> Array:
    """The result of a Shape node."""
    rank = len(given)
    start, stop = node.get("start", 0), node.get("end", rank)
    start, stop = (min(max(v + rank if v < 0 else v, 0), rank) for v in (start, stop))
    return np.array(given[start:stop], dtype=np.int64)
