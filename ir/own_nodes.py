"""Which operations of a kernel it was made for, and which it only shares with others.

A constant, or arithmetic of single numbers, is captured once and used by many kernels, each of
which may compute it again: the user's line of its first use says nothing about the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.ir.graph import Node, Value
from braze.ir.symint import is_symbolic


def own_nodes(nodes: Sequence[Node]) -> list[Node]:
    """The nodes but for those that make single numbers of single numbers, or constants; all where
    there are no others."""
    own = [
        node
        for node in nodes
        if node.op.name != "constant" and not all(map(_is_single, [*node.operands, *node.results]))
    ]
    return own or list(nodes)


def _is_single(value: Value) -> bool:
    return not is_symbolic(*value.shape) and value.type.numel == 1
