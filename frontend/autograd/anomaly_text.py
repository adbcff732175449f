"""What a node of the tape was given when its gradient turned out to be a NaN, in words.

In: a node, the gradients that arrived at it, the one with the NaN.  Out: text: the operation, and
for each value that its gradient is computed from, and each other operand that is still known, a
summary, by which to see whether it was a zero, an inf or a NaN already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.autograd.tape import TapeNode
from braze.handle import NUMBER, STALE, Handle, SparseHandle
from braze.ir.types import TensorType

if TYPE_CHECKING:
    from braze.tensors import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def describe(
    node: TapeNode, position: int, gradient: Tensor, arrived: Sequence[Tensor | None]
) -> str:
    """The operation and its operands.

    Args:
        position: of the operand whose gradient has the NaN.
        arrived: the gradient of each result, or None. A sync point.
    """
    array = values_of(gradient)
    place = first_nan(array)
    lines = [f"gradient {_named(node, position)}: {_of(gradient, place, array.shape)}"]
    lines += _known(node, place, array.shape)
    for number, upstream in enumerate(arrived):
        if upstream is not None:
            name = result_name(node, number)
            lines.append(f"gradient that arrived at {name}: {_of(upstream, place, array.shape)}")
    return "".join(f"\n  {line}" for line in lines)


def values_of(tensor: Tensor) -> Array:
    """A tensor's elements as floats or complex numbers; of a sparse one, those that it has. A sync
    point."""
    handle = tensor._handle
    values = handle.values if isinstance(handle, SparseHandle) else tensor
    array: Array = values._numpy()
    if array.dtype.kind in "cf" and array.dtype.itemsize > 2:
        return array
    return array.astype(np.float64 if array.dtype.kind in "iub" else np.float32)


def summary(array: Array, place: tuple[int, ...] | None = None) -> str:
    """An array in numbers.

    Args:
        place: of an element to show.

    Example:
        >>> summary(np.array([0.0, 1.0, np.inf]), (0,))
        'min 0, max 1, mean 0.5, 1 zero, 1 inf; at [0] it is 0.0'
    """
    sizes = np.abs(array) if array.dtype.kind == "c" else array
    finite = sizes[np.isfinite(sizes)].astype(np.float64)
    parts = []
    if finite.size:
        kind = "|min| {:.6g}, |max| {:.6g}, mean size {:.6g}"
        if array.dtype.kind != "c":
            kind = "min {:.6g}, max {:.6g}, mean {:.6g}"
        parts.append(kind.format(finite.min(), finite.max(), finite.mean()))
    zeros = int((finite == 0).sum())
    if zeros:
        parts.append(f"{zeros} zero" + "s" * (zeros > 1))
    infinite = int(np.isinf(array).sum())
    if infinite:
        parts.append(f"{infinite} inf")
    nans = int(np.isnan(array).sum())
    if nans:
        parts.append(f"{nans} nan")
    text = ", ".join(parts) or "no elements"
    if place is not None and array.size:
        text += f"; at [{', '.join(map(str, place))}] it is {array[place].item()!r}"
    return text


def first_nan(array: Array) -> tuple[int, ...]:
    """Where the first NaN is."""
    return tuple(int(i) for i in np.argwhere(np.isnan(array))[0])


def _of(tensor: Tensor, place: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The type and a summary, with the element that belongs to the NaN if the shape is the same."""
    array = values_of(tensor)
    type = tensor._current().type
    return f"{type}, {summary(array, place if array.shape == shape else None)}"


def _known(node: TapeNode, place: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[str]:
    """The operation, and what is known of its operands and results."""
    kept = _kept(node)
    saving = getattr(node, "saving", None)
    if saving is None:  # a function of the user's own
        for number, value in enumerate(kept.values()):
            yield f"saved tensor {number}: {_of_kept(value, place, shape)}"
        return
    types: Sequence[TensorType] = node.state.operand_types
    names = [node.call.op.operand_name(at) for at in range(len(types))]
    yield f"operation {operation(node)}"
    for at, name in enumerate(names):
        handle = kept.get(("operand", at)) or _operand(node, at)
        edge = node.edges[at]
        if handle is not None:
            yield f"operand {name}: {_of_kept(handle, place, shape)}"
        elif edge is not None and not isinstance(edge[0], TapeNode):
            yield f"operand {name}, as it is now: {_of(edge[0], place, shape)}"
        else:
            yield f"operand {name}: not known, as it was not kept when the operation ran"
    for (kind, at), value in kept.items():
        if kind == "result":
            yield f"result {result_name(node, at)}: {_of_kept(value, place, shape)}"


def _kept(node: TapeNode) -> dict[tuple[str, int], Handle]:
    """The values that the node keeps, by where they come from."""
    values = node.values if isinstance(node.values, list) else []
    saving = getattr(node, "saving", None)
    if saving is None:
        return {("saved", at): handle for at, handle in enumerate(values)}
    return dict(zip(saving.kept, values, strict=True)) if values else {}  # else it was freed


def _operand(node: TapeNode, position: int) -> Handle | None:
    """An operand that was kept for this message, if it has not been overwritten since."""
    operands = getattr(node, "operands", None)
    if operands is None or operands[position].flags & STALE:
        return None
    handle: Handle = operands[position]
    return handle


def _of_kept(handle: Handle, place: tuple[int, ...], shape: tuple[int, ...]) -> str:
    from braze.tensors import wrap

    if handle.flags & NUMBER:
        return f"{handle.type}, the number {handle.storage!r}"
    return _of(wrap(handle, None, 0), place, shape)


def _named(node: TapeNode, position: int) -> str:
    if getattr(node, "saving", None) is None:
        return f"of argument {position}"
    return f"of operand {node.call.op.operand_name(position)}"


def result_name(node: TapeNode, number: int) -> str:
    """What a result is called."""
    if getattr(node, "saving", None) is None:
        return f"result {number}"
    return node.call.op.results[number]


# For the forward pass -----------------------------------------------------------------------------

Known = Any  # a handle, or a tensor as it is now


def operation(node: TapeNode) -> str:
    """The operation with the types of its operands."""
    if getattr(node, "saving", None) is None:
        return node.name()
    types: Sequence[TensorType] = node.state.operand_types
    names = [node.call.op.operand_name(at) for at in range(len(types))]
    shown = ", ".join(f"{name}: {type}" for name, type in zip(names, types, strict=True))
    return f"{node.call.op.name}({shown})"


def operand_name(node: TapeNode, at: int) -> str:
    """What an operand is called."""
    if getattr(node, "saving", None) is None:
        return f"argument {at}"
    return node.call.op.operand_name(at)


def known_operand(node: TapeNode, at: int) -> Known | None:
    """What an operand was, if that was kept."""
    if getattr(node, "saving", None) is None:
        return None
    handle = _kept(node).get(("operand", at))
    if handle is not None and not handle.flags & STALE:
        return handle
    return _operand(node, at)


def known_results(node: TapeNode) -> Iterator[tuple[int, Known]]:
    """The results that are kept, by number."""
    for (kind, at), handle in _kept(node).items():
        if kind == "result" and not handle.flags & STALE:
            yield at, handle


def values_of_known(known: Known) -> Array:
    """Its elements. A sync point."""
    from braze.tensors import wrap

    if not isinstance(known, Handle):
        return values_of(known)
    if known.flags & NUMBER:
        return np.asarray(known.storage, np.float64)
    return values_of(wrap(known, None, 0))


def nan_count(known: Known) -> int:
    """How many elements are NaN."""
    return int(np.isnan(values_of_known(known)).sum())


def text_of(known: Known, place: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The type and a summary, with the element that belongs to the NaN if the shape is the same."""
    if isinstance(known, Handle):
        return _of_kept(known, place, shape)
    return _of(known, place, shape)
