"""Run composite operations both ways: by their own evaluation and decomposed into primitives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import braze.ir as ir
from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Value
from braze.ir.interpreter import interpret
from braze.ir.verifier import verify


def one_op(name: str, operands: Sequence[Any], attributes: dict[str, Any]) -> Graph:
    """A graph that holds one operation."""
    b = ir.Builder(name)
    types = [ir.tensor_type(ir.from_numpy(a.dtype), a.shape) for a in operands]
    node = b.emit(ir.op_named(name), [b.input(t) for t in types], attributes)
    return verify_and_return(b.finish(node.results))


def verify_and_return(graph: Graph) -> Graph:
    verify(graph)
    return graph


def to_primitives(graph: Graph) -> Graph:
    """Replace composites by their decompositions until none is left."""
    while any(not node.op.is_primitive for node in graph.nodes):
        r = Rewriter(graph)
        for node in graph.nodes:
            if node.op.decompose is None:
                r.keep(node)
                continue
            found = node.op.decompose(r, *r.operands(node), **node.attributes)
            results = (found,) if isinstance(found, Value) else tuple(found)
            for made, declared in zip(results, node.results, strict=True):
                assert made.type == declared.type, f"{node.op.name}: {made.type}, {declared.type}"
            r.replace(node, results)
        graph = verify_and_return(r.done())
    return graph


def run_op(
    name: str, *operands: Any, tolerance: float = 1e-6, **attributes: Any
) -> np.ndarray | list[np.ndarray]:
    """The results of an operation; checks that both ways of running it agree.

    Returns:
        An array, or a list where the operation has several results.
    """
    arrays = [np.asarray(operand) for operand in operands]
    graph = one_op(name, arrays, attributes)
    direct = interpret(graph, arrays)
    decomposed = interpret(to_primitives(graph), arrays)
    for result, a, p in zip(ir.op_named(name).results, direct, decomposed, strict=True):
        np.testing.assert_allclose(a, p, rtol=tolerance, atol=tolerance, err_msg=f"{name} {result}")
    return direct[0] if len(direct) == 1 else direct
