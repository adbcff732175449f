"""Cut the scans of few long rows into blocks, so that cores can share them.

Needs: primitives.  Keeps: results up to the order in which terms are combined; that order depends
on shapes only.

First every block but the last is scanned for what it comes to, then these few numbers are scanned,
and then every block from where it starts. The operand is read twice, which two cores make up for.

Before:
    graph @g(%x: f32[1048576]) -> (f32[1048576]) {
      %0: f32[1048576] = cumsum(%x; dim=0, reverse=false)
      return %0
    }
After:
    graph @g(%x: f32[1048576]) -> (f32[1048576]) {
      %0: f64[63] = cumsum_ends(%x; dim=0, reverse=false, length=16384)
      %1: f64[63] = cumsum(%0; dim=0, reverse=false)
      %2: f32[1048576] = cumsum_from(%x, %1; dim=0, reverse=false, length=16384)
      return %2
    }
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node
from braze.ir.op import all_ops

# Into so many blocks all rows together are cut.
PIECES = 64
# Rows, or vectors of neighbouring rows, from which on they are enough work to share out whole.
ENOUGH_ROWS = 8
COLUMNS = 32
# Below this many elements one core is done before the others have started.
FEWEST_ELEMENTS = 1 << 16
SHORTEST_BLOCK = 1024
# Where a row has no suitable divisor, blocks begin at whole vectors, and every access is guarded.
GRAIN = 64


def split_scans(graph: Graph) -> Graph:
    """The graph with its long scans in two steps."""
    if not any(node.op.is_scan for node in graph.nodes):
        return graph
    new = Rewriter(graph)
    splits = {op.name.removesuffix("_ends") for op in all_ops() if op.name.endswith("_ends")}
    for node in graph.nodes:
        length = _block_length(node) if node.op.name in splits else None
        if length is None:
            new.keep(node)
            continue
        with new.at(node.location):
            new.replace(node, _split(new, node, length))
    return new.done()


def _block_length(node: Node) -> int | None:
    """The length of the blocks; None to leave a scan whole."""
    x = node.operands[0].type
    dim = node.attributes["dim"]
    assert isinstance(dim, int)
    size = x.shape[dim]
    inner = math.prod(x.shape[dim + 1 :])
    rows = math.prod(x.shape[:dim]) * -(-inner // COLUMNS)
    if x.numel < FEWEST_ELEMENTS or rows >= ENOUGH_ROWS:
        return None
    most = min(PIECES // rows, size // SHORTEST_BLOCK)
    if most < 2:
        return None
    for blocks in range(most, most // 2, -1):
        if size % blocks == 0:
            return size // blocks
    return -(-size // (most * GRAIN)) * GRAIN


def _split(b: Rewriter, node: Node, length: int) -> Any:
    name, dim = node.op.name, node.attributes["dim"]
    x = b[node.operands[0]]
    cut = {**node.attributes, "length": length}
    ends = getattr(b, f"{name}_ends")(x, **cut)
    if len(node.results) == 1:
        starts = [getattr(b, name)(ends, dim=dim, reverse=False)]
    else:
        values, blocks = getattr(b, name)(ends[0], dim=dim, reverse=False)
        starts = [values, b.take_along(ends[1], blocks, dim=dim)]
    return getattr(b, f"{name}_from")(x, *starts, **cut)
