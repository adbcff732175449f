"""Where a movement operation reads: the one place that knows the index arithmetic of each.

In: a movement node and the index of one of its result's elements. Out: the `Source`s that element
may come from. An element outside every source's bounds is the node's fill value.

    slice(x; start 2, step 3) at i      -> x at 3*i + 2
    pad(x; low 1) at i                  -> x at i - 1, where 0 <= i - 1 < size
    window(x; stride 2) at (o, k)       -> x at 2*o + k
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from braze.ir.graph import Node, Value
from braze.ir.index import Index, LoopVar, flatten, unflatten
from braze.ir.loops import Bound
from braze.ir.types import Shape

Point = tuple[Index, ...]
Bounds = tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Element `index` of operand number `operand`, if all the bounds hold."""

    operand: int
    index: Point
    bounds: Bounds = ()


def source_index(node: Node, index: Point) -> list[Source]:
    """The places that element `index` of a movement node's result may come from.

    The first source whose bounds hold is the one; if none does, the element is `fill_value(node)`.
    """
    rule = _RULES.get(node.op.name)
    if rule is None:
        raise ValueError(f"movement operation {node.op.name} has no index rule")
    return rule(node, index)


def fill_value(node: Node) -> float | None:
    """The value of a movement node's elements that come from no operand; None if there are none."""
    if node.op.name == "pad":
        value = node.attributes["value"]
        assert isinstance(value, (int, float))
        return value
    return 0.0 if node.op.name == "unwindow" else None


def broadcast_point(index: Point, shape: Shape) -> Point:
    """Index into an operand of `shape` that broadcasts to the space that `index` runs over."""
    lead = len(index) - len(shape)
    return tuple(
        Index() if size == 1 else place for place, size in zip(index[lead:], shape, strict=True)
    )


def reshape_point(index: Point, shape: Shape, new: Shape) -> Point:
    """The multi-index under `new` of the element at `index` under `shape` (row-major order).

    Runs of dimensions with equal products are treated apart, so that what is not reshaped is not
    divided.
    """
    if shape == new:
        return index
    if 0 in shape:
        return (Index(),) * len(new)
    result: list[Index] = []
    i = j = 0
    while i < len(shape) or j < len(new):
        start_i, start_j = i, j
        left = right = 1
        while True:
            if i < len(shape) and (left <= right or j == len(new)):
                left *= shape[i]
                i += 1
            elif j < len(new):
                right *= new[j]
                j += 1
            else:
                raise AssertionError(f"internal error: {shape} is not a reshape of {new}")
            if left == right and not (
                (i < len(shape) and shape[i] == 1) or (j < len(new) and new[j] == 1)
            ):
                break
        if shape[start_i:i] == new[start_j:j]:
            result += index[start_i:i]
        else:
            flat = flatten(index[start_i:i], shape[start_i:i])
            result += unflatten(flat, new[start_j:j])
    return tuple(result)


def flat_index(index: Point, shape: Shape) -> Index:
    """Element offset in the row-major buffer of a value."""
    return flatten(index, shape)


def loop_variables(prefix: str, shape: Shape) -> tuple[LoopVar, ...]:
    """A loop variable for each dimension."""
    return tuple(LoopVar(f"{prefix}{axis}", size) for axis, size in enumerate(shape))


def point_of(variables: tuple[LoopVar, ...]) -> Point:
    return tuple(Index.of(variable) for variable in variables)


# One rule for each operation
# -----------------------------------------------------------------------


def _ints(node: Node, name: str) -> tuple[int, ...]:
    value = node.attributes[name]
    assert isinstance(value, tuple)
    return value


def _reshape(node: Node, index: Point) -> list[Source]:
    x = node.operands[0]
    return [Source(0, reshape_point(index, node.result.shape, x.shape))]


def _permute(node: Node, index: Point) -> list[Source]:
    dims = _ints(node, "dims")
    places = [Index()] * len(dims)
    for place, d in zip(index, dims, strict=True):
        places[d] = place
    return [Source(0, tuple(places))]


def _expand(node: Node, index: Point) -> list[Source]:
    return [Source(0, broadcast_point(index, node.operands[0].shape))]


def _slice(node: Node, index: Point) -> list[Source]:
    starts, steps = _ints(node, "starts"), _ints(node, "steps")
    places = (i * s + a for i, a, s in zip(index, starts, steps, strict=True))
    return [Source(0, tuple(places))]


def _pad(node: Node, index: Point) -> list[Source]:
    places: list[Index] = []
    bounds: list[Bound] = []
    shape = node.operands[0].shape
    for i, low, gap, size in zip(
        index, _ints(node, "low"), _ints(node, "interior"), shape, strict=True
    ):
        place = i - low
        if gap and size > 1:
            bounds.append(Bound(place % (gap + 1), 0, 1))
            place = place // (gap + 1)
        bounds.append(Bound(place, 0, size))
        places.append(place)
    return [Source(0, tuple(places), _needed(bounds))]


def _flip(node: Node, index: Point) -> list[Source]:
    dims = _ints(node, "dims")
    shape = node.operands[0].shape
    places = (
        Index((), shape[axis] - 1) - i if axis in dims else i for axis, i in enumerate(index)
    )
    return [Source(0, tuple(places))]


def _concat(node: Node, index: Point) -> list[Source]:
    dim = node.attributes["dim"]
    assert isinstance(dim, int)
    sources: list[Source] = []
    start = 0
    for position, x in enumerate(node.operands):
        size = x.shape[dim]
        place = index[dim] - start
        point = (*index[:dim], place, *index[dim + 1 :])
        sources.append(Source(position, point, _needed([Bound(place, 0, size)])))
        start += size
    return [source for source in sources if node.operands[source.operand].shape[dim]]


def _window(node: Node, index: Point) -> list[Source]:
    rank = node.operands[0].type.rank
    places = list(index[:rank])
    taps = zip(_ints(node, "dims"), _ints(node, "stride"), _ints(node, "dilation"), strict=True)
    for (d, stride, gap), tap in zip(taps, index[rank:], strict=True):
        places[d] = places[d] * stride + tap * gap
    return [Source(0, tuple(places))]


def _unwindow(node: Node, index: Point) -> list[Source]:
    x = node.operands[0]
    rank = node.result.type.rank - len(_ints(node, "dims"))
    places = list(index)
    bounds: list[Bound] = []
    taps = zip(_ints(node, "dims"), _ints(node, "stride"), _ints(node, "dilation"), strict=True)
    for (d, stride, gap), tap in zip(taps, index[rank:], strict=True):
        place = places[d] - tap * gap
        if stride > 1:
            bounds.append(Bound(place % stride, 0, 1))
            place = place // stride
        bounds.append(Bound(place, 0, x.shape[d]))
        places[d] = place
    return [Source(0, tuple(places), _needed(bounds))]


def _as_strided(node: Node, index: Point) -> list[Source]:
    offset = node.attributes["offset"]
    assert isinstance(offset, int)
    place = Index((), offset)
    for i, stride in zip(index, _ints(node, "strides"), strict=True):
        place = place + i * stride
    return [Source(0, (place,))]


def _needed(bounds: list[Bound]) -> Bounds:
    return tuple(bound for bound in bounds if not bound.is_always_true)


_RULES: dict[str, Callable[[Node, Point], list[Source]]] = {
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "pad": _pad,
    "flip": _flip,
    "concat": _concat,
    "window": _window,
    "unwindow": _unwindow,
    "as_strided": _as_strided,
}


def base_of(x: Value) -> Value:
    """What a value is a view of."""
    while x.node is not None and x.node.op.is_movement and len(x.node.operands) == 1:
        sources = source_index(x.node, point_of(loop_variables("v", x.shape)))
        if len(sources) != 1 or sources[0].bounds:
            break
        x = x.node.operands[0]
    return x


def strides_of(x: Value) -> tuple[int, ...] | None:
    """How far apart a view's elements lie along each dimension; None if it is not affine."""
    variables = loop_variables("v", x.shape)
    point, base = point_of(variables), base_of(x)
    while x is not base:
        assert x.node is not None
        (source,) = source_index(x.node, point)
        point, x = source.index, x.node.operands[0]
    address = flat_index(point, x.shape)
    return tuple(address.coefficient(v) for v in variables) if address.is_affine else None
