"""Lower an operation of category "host" to a call of the runtime.

Needs: a fusion body with one such operation, whose operands are inputs of the body but for reshapes
between, which change nothing in row-major memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from braze.ir.graph import Graph, Value
from braze.ir.loops import Buffer, HostArray, HostCall


def lower_host(name: str, body: Graph, buffers: Mapping[Value, Buffer], number: int) -> HostCall:
    """The call of a fusion body.

    Args:
        number: of the call in its program.
    """
    (node,) = (n for n in body.nodes if n.op.is_host)
    operands = [HostArray(buffer_under(value, buffers), value.type) for value in node.operands]
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


def buffer_under(value: Value, buffers: Mapping[Value, Buffer]) -> Buffer:
    """The buffer that a value is, but for reshapes."""
    while value not in buffers:
        assert value.node is not None and value.node.op.is_movement
        (value,) = value.node.operands
    return buffers[value]
