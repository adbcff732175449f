"""Make weights of one element constants, which later passes look into: a scale, a limit.

Needs: a graph, and the arrays of the inputs that are known.  Keeps: results, the other inputs.

In this example the array of %limit is 6.0.

Before:
    graph @g(%x: f32[4], %limit: f32[1]) -> (f32[4]) {
      %0: f32[4] = expand(%limit; shape=(4))
      %1: f32[4] = minimum(%x, %0)
      return %1
    }
After:
    graph @g(%x: f32[4]) -> (f32[4]) {
      %0: f32[] = constant(value=6.0, dtype=f32)
      %1: f32[1] = reshape(%0; shape=(1))
      %2: f32[4] = expand(%1; shape=(4))
      %3: f32[4] = minimum(%x, %2)
      return %3
    }
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph


def numbers_as_constants(graph: Graph, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Graph:
    """The graph with weights of one element as constants.

    Args:
        arrays: the weights, by the names of inputs.
    """
    single = {
        v: arrays[v.name]
        for v in graph.inputs
        if v.name and v.name in arrays and arrays[v.name].size == 1 and not v.dtype.is_complex
    }
    if not single:
        return graph
    new = Rewriter(graph)
    for value, array in single.items():
        number = new.constant(value=array.item(), dtype=value.dtype)
        new.replaced[value] = new.reshape(number, shape=value.shape) if value.shape else number
    for node in graph.nodes:
        new.keep(node)
    made = new.done()
    kept = [(v, r) for v, r in zip(graph.inputs, graph.roles, strict=True) if v not in single]
    made.inputs, made.roles = [value for value, _ in kept], [role for _, role in kept]
    return made
