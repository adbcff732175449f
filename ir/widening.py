"""The same graph in double precision: what it means, with next to no rounding.

In: a graph.  Out: a copy in which every float is an f64 and every complex number a c128.

Two graphs that differ only in how they round then agree to many digits, so a pass that changed what
is computed shows. Casts to narrow floats round no longer, and constants keep all their digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.dtypes import DType, c128, f64
from braze.ir.graph import Graph, Node, Value
from braze.ir.op import AttributeValue
from braze.ir.types import TensorType, tensor_type

Array = np.ndarray[Any, np.dtype[Any]]


def widened(graph: Graph) -> Graph:
    """The graph in double precision.

    Some operations have no such form, for example those that take a float's bits: interpreting
    them raises.
    """
    known: dict[Value, Value] = {}
    wide = Graph(graph.name, roles=list(graph.roles), aliases=dict(graph.aliases))
    for value in graph.inputs:
        known[value] = Value(_type(value.type), name=value.name)
        wide.inputs.append(known[value])
    for node in graph.nodes:
        copy = Node(
            node.op,
            [known[x] for x in node.operands],
            {name: _attribute(value) for name, value in node.attributes.items()},
            [_type(x.type) for x in node.results],
            node.location,
            None if node.body is None else widened(node.body),
        )
        for old, new in zip(node.results, copy.results, strict=True):
            new.name = old.name
            known[old] = new
        wide.nodes.append(copy)
    wide.outputs = [known[value] for value in graph.outputs]
    return wide


def widened_inputs(graph: Graph, inputs: Sequence[Array | int | float]) -> list[Any]:
    """A graph's inputs, for its widened form."""
    return [
        item if isinstance(item, (int, float)) else item.astype(_wide(value.dtype).numpy)
        for value, item in zip(graph.inputs, inputs, strict=True)
    ]


def _wide(dtype: DType) -> DType:
    if dtype.is_complex:
        return c128
    return f64 if dtype.is_floating_point else dtype


def _type(type: TensorType) -> TensorType:
    return tensor_type(_wide(type.dtype), type.shape, type.device)


def _attribute(value: AttributeValue) -> AttributeValue:
    return _wide(value) if isinstance(value, DType) else value
