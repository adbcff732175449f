"""Lower an operation of category "host" to a call of the runtime.

Needs: a fusion body with one such operation, whose operands are inputs of the body but for reshapes
between, which change nothing in row-major memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from braze.ir.graph import Graph, Value
from braze.ir.loops import Buffer, HostArray, HostCall


def lower_host(
    name: str, body: Graph, buffers: Mapping[Value, Buffer], number: int
) -> HostCall:
    """The call of a fusion body.

    Args:
        number: of the call in its program.
    """
    (node,) = (n for n in body.nodes if n.op.is_host)
    operands = []
    for value in node.operands:
        source = value
        while source not in buffers:
            assert source.node is not None and source.node.op.is_movement
            (source,) = source.node.operands
        operands.append(HostArray(buffers[source], value.type))
    results = [HostArray(buffers.get(value), value.type) for value in node.results]
    used = [a.buffer for a in (*operands, *results) if a.buffer is not None]
    return HostCall(
        name,
        tuple(dict.fromkeys(used)),
        number,
        node.op,
        node.attributes,
        tuple(operands),
        tuple(results),
        node.location,
    )
