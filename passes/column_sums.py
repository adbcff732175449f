"""Sums over rows that are made by the kernel that goes through the rows.

The gradient of a layer norm's weight is a sum over all rows of what the kernel of the gradient for
its input knows in each of them. `split_reductions` cuts such a sum into parts of some rows; here it
is decided which groups are such sums and nothing else. Their kernel (`lower_columns`) goes through
one part after the other and adds each row to the part's sums, which stay in the cache.
"""

from __future__ import annotations

from braze.ir.graph import Graph, Node
from braze.passes.groups import Group, Level
from braze.passes.lower_nest import accumulation_dtype
from braze.passes.space import Space, space_of

# Parts are what threads share, so there must not be too few of them.
FEWEST_PARTS = 8


def columns_of(group: Group, rows: Group) -> dict[Node, Level] | None:
    """The levels of a group's nodes in a kernel over rows; None if the group does anything else
    than to make sums of columns over parts of the rows, which the kernel can be cut into.
    """
    parts = _parts(group.space, rows.space)
    if parts is None or parts[0] < FEWEST_PARTS or parts_in(rows) - {parts[0]}:
        return None
    levels: dict[Node, Level] = {}
    for node, level in group.levels.items():
        if node.op.is_reduce and level == "kept":
            x, y = node.operands[0].dtype, node.result.dtype
            if node.op.name != "sum" or x is not y or accumulation_dtype(x) is not x:
                return None
            levels[node] = "columns"
        elif level in ("full", "inside"):
            levels[node] = level
        else:
            return None
    return levels


def parts_in(group: Group) -> set[int]:
    """Into how many parts a kernel over rows is cut already for the sake of sums over them."""
    sums = (node for node, level in group.levels.items() if level == "columns")
    return {space_of(node).key[0][0] for node in sums}


def _parts(columns: Space, rows: Space) -> tuple[int, int] | None:
    """Into how many parts of how many rows sums over columns cut these rows."""
    if len(columns.key) != 3 or len(rows.key) != 2:
        return None
    (parts, _), (length, reduced), (row, _) = columns.key
    fits = reduced and rows.key == ((parts * length, False), (row, True))
    return (parts, length) if fits else None


def column_sums(body: Graph) -> list[Node]:
    """The nodes of a kernel over rows that are sums over parts of the rows."""
    spaces = [(node, space_of(node)) for node in body.nodes if node.op.is_reduce]
    rows = next((s for _, s in spaces if len(s.key) == 2 and s.key[1][1]), None)
    return [node for node, space in spaces if rows and _parts(space, rows)]


def parts_of(body: Graph) -> tuple[int, int]:
    """Into how many parts of how many rows each the sums of such a kernel cut its rows."""
    (parts, _), (length, _), _ = space_of(column_sums(body)[0]).key
    return parts, length
