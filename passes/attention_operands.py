"""Where the operands of attention lie in memory: at places that are sums of strides.

Its kernel steps through an operand by one stride for each dimension. So the movements above it fold
into strides where they can, as those that a layer cuts its heads with do.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.ir.graph import Node, Value
from braze.ir.index import Index, LoopVar
from braze.passes.access import Point, flat_index, loop_variables, point_of, source_index


def deepest_in_memory(node: Node, position: int, is_base: Callable[[Value], bool]) -> Value:
    """The value that an operand can be read from: itself or what it is moved from."""
    found = value = node.operands[position]
    variables = loop_variables("i", value.shape)
    point: Point | None = point_of(variables)
    while not is_base(value) and point is not None:
        point = _one_below(value, point)
        if point is not None:
            assert value.node is not None
            (value,) = value.node.operands
            if flat_index(point, value.shape).is_affine:
                found = value
    return found


def place_of(value: Value, stop: Value) -> tuple[tuple[int, ...], int]:
    """Strides and offset of a value as it is read from `stop`."""
    variables = loop_variables("i", value.shape)
    point = point_of(variables)
    while value is not stop:
        below = _one_below(value, point)
        assert below is not None and value.node is not None, "it has no constant strides"
        point = below
        (value,) = value.node.operands
    index = flat_index(point, value.shape)
    return strides_of(index, variables), index.constant


def strides_of(index: Index, variables: tuple[LoopVar, ...]) -> tuple[int, ...]:
    """The factors of the variables in an affine index."""
    factors = {str(atom): factor for atom, factor in index.terms}
    return tuple(factors.get(variable.name, 0) for variable in variables)


def _one_below(value: Value, point: Point) -> Point | None:
    """The place in what the value is moved from; None unless it is moved from one place."""
    node = value.node
    if node is None or not node.op.is_movement or len(node.operands) != 1:
        return None
    sources = source_index(node, point)
    if len(sources) != 1 or sources[0].bounds:
        return None
    return sources[0].index
