"""Cut long reductions with few results into two steps, so that cores can share them.

Needs: primitives.  Keeps: results up to the order in which terms are added; that order depends on
shapes only.

A sum of a million elements to one number keeps one core busy; sums of 64 parts, and then of these,
keep all of them busy, and are more accurate too. Sums over all rows, where rows are reduced as well
(the gradient of a layer norm's weight), are cut so that `fuse` can add them up in the kernel that
goes through the rows, however many columns there are. A contraction with few results and a long
inner dimension (the weight gradient of a first convolution) keeps one inner dimension's parts as a
batch dimension, and sums them afterwards.

Before:
    graph @g(%x: f32[1048576,3]) -> (f32[3]) {
      %0: f32[3] = sum(%x; dims=(0), keepdim=false)
      return %0
    }
After:
    graph @g(%x: f32[1048576,3]) -> (f32[3]) {
      %0: f32[64,16384,3] = reshape(%x; shape=(64,16384,3))
      %1: f32[64,3] = sum(%0; dims=(1), keepdim=false)
      %2: f32[3] = sum(%1; dims=(0), keepdim=false)
      return %2
    }
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation
from braze.passes.choices import Choices
from braze.passes.column_sums import FEWEST_PARTS
from braze.passes.space import SpaceKey, across_rows, gives_position, space_of

# So many pieces of work occupy 16 cores evenly, or the multiprocessors of a GPU.
PIECES = 64
GPU_PIECES = 512
# Below this many elements one core is done before the others have started.
FEWEST_ELEMENTS = 1 << 16
# A part shorter than this is mostly overhead.
SHORTEST_PART = 256
# The same for sums over rows in a kernel that goes through the rows: adding to a part's sums is
# cheap beside what happens along a row.
FEWEST_PART_ROWS = 16
# Rows that are added up one by one; more of them would be less accurate than sums of sums.
MOST_PART_ROWS = 512
# Columns that one vector loop handles together where the inner dimension is kept.
COLUMNS = 32
# A contraction below this many multiplications stays whole; a tile of its result is one piece of
# work.
FEWEST_PRODUCTS = 1 << 20
TILE_ROWS, TILE_COLUMNS = 8, 16
ENOUGH_TILES = 24
# With that many tiles but a result of no more elements than this, cores that share out the result
# would all go through all of the operands; they share out sums of at least so many terms instead.
SMALL_RESULT = 1 << 16
LONG_PART = 2048
MOST_LONG_PARTS = 16


def split_reductions(
    graph: Graph, choices: Choices | None = None, *, on_gpu: bool = False
) -> Graph:
    """The graph with its long reductions in two steps.

    Args:
        choices: into how many parts each of them was cut in the same graph of other sizes.
        on_gpu: for more processors; contractions are cut where they are scheduled.
    """
    pieces = GPU_PIECES if on_gpu else PIECES
    choices = choices or Choices()
    rows = {space_of(node).key for node in graph.nodes if node.op.is_reduce}
    new = Rewriter(graph)
    changed = False
    for node in graph.nodes:
        with new.at(node.location):
            result: Value | None = None
            if node.op.is_reduce:
                result = _split_reduce(new, node, choices, rows, pieces)
            elif node.op.is_contract and not on_gpu:
                result = _split_contract(new, node, choices)
            if result is None:
                new.keep(node)
            else:
                new.replace(node, result)
                changed = True
    return new.done() if changed else graph


def _split_reduce(
    b: Rewriter, node: Node, choices: Choices, others: set[SpaceKey], wanted: int
) -> Value | None:
    space = space_of(node)
    if gives_position(node.op) or node.attributes["keepdim"] or node.result.dtype.bits == 16:
        return None
    run = _longest_run(space.dims, space.reduced)
    if run is None or space.kept == 0:
        return None
    last_is_kept = not next(
        (r for size, r in zip(space.dims[::-1], space.reduced[::-1], strict=True) if size > 1),
        True,
    )
    pieces = -(-space.kept // COLUMNS) if last_is_kept else space.kept
    start, stop = run
    length = math.prod(space.dims[start:stop])
    limit = min(wanted // pieces, space.full // space.kept // SHORTEST_PART)
    if last_is_kept and across_rows(space.key) in others:
        limit = min(wanted, max(length // FEWEST_PART_ROWS, FEWEST_PARTS))
        limit = max(limit, length // MOST_PART_ROWS)
    # Parts of which there are as many as a size that changes would be others for each.
    own = _divisor(choices.fixed_part(length), limit) if space.full >= FEWEST_ELEMENTS else 1
    parts = choices.choose(node.op.name, own, lambda n: length % n == 0)
    if parts < 2:
        return None
    before, after = space.dims[:start], space.dims[stop:]
    cut = b.reshape(b[node.operands[0]], shape=(*before, parts, length // parts, *after))
    dims = [axis for axis in range(start) if space.reduced[axis]]
    dims.append(start + 1)
    dims += [
        axis - stop + start + 2 for axis in range(stop, len(space.dims)) if space.reduced[axis]
    ]
    partial = b.emit(node.op, [cut], {"dims": tuple(dims), "keepdim": False}).result
    place = sum(not space.reduced[axis] for axis in range(start))
    return b.emit(node.op, [partial], {"dims": (place,), "keepdim": False}).result


def _longest_run(dims: tuple[int, ...], reduced: tuple[bool, ...]) -> tuple[int, int] | None:
    """The neighbouring reduced dimensions with the largest product; the outer ones of two equal
    runs."""
    best: tuple[int, int] | None = None
    best_size = 1
    start = 0
    while start < len(dims):
        stop = start
        while stop < len(dims) and reduced[stop]:
            stop += 1
        size = math.prod(dims[start:stop])
        if stop > start and size > best_size:
            best, best_size = (start, stop), size
        start = stop + 1
    return best


def _divisor(number: int, limit: int) -> int:
    """The largest divisor that is not above the limit; 1 if there is none."""
    return next((d for d in range(min(limit, number), 1, -1) if number % d == 0), 1)


def _split_contract(b: Rewriter, node: Node, choices: Choices) -> Value | None:
    left, right, out = parse_equation(str(node.attributes["equation"]))
    x, y = node.operands
    sizes = dict(zip(left + right, x.shape + y.shape, strict=True))
    inner = [c for c in left if c in right and c not in out]
    if not inner or node.result.dtype.bits == 16:
        return None
    limit = _contract_limit(node, sizes, left, right, out)
    fixed = {c: choices.fixed_part(sizes[c]) for c in inner}
    own = max(((c, _divisor(fixed[c], limit)) for c in inner), key=lambda item: item[1])
    letter, parts = choices.choose(
        "contract", own, lambda choice: choice[0] in inner and sizes[choice[0]] % choice[1] == 0
    )
    if parts < 2:
        return None
    fresh = next(c for c in string.ascii_letters if c not in sizes)
    terms: list[str] = []
    operands: list[Value] = []
    for operand, letters in ((x, left), (y, right)):
        at = letters.index(letter)
        shape = (*operand.shape[:at], parts, sizes[letter] // parts, *operand.shape[at + 1 :])
        operands.append(b.reshape(b[operand], shape=shape))
        terms.append(letters.replace(letter, fresh + letter))
    equation = f"{terms[0]},{terms[1]}->{fresh}{out}"
    attributes = {**node.attributes, "equation": equation}
    partial = b.emit(node.op, operands, attributes).result
    total: Value = b.sum(partial, dims=(0,), keepdim=False)
    return total


def _contract_limit(
    node: Node, sizes: Mapping[str, int], left: str, right: str, out: str
) -> int:
    """The most parts of a contraction's sum."""
    length = math.prod(size for c, size in sizes.items() if c not in out)
    if node.result.type.numel * length < FEWEST_PRODUCTS:
        return 1
    rows = math.prod(sizes[c] for c in out if c not in right)
    columns = math.prod(sizes[c] for c in out if c not in left)
    batch = math.prod(sizes[c] for c in out if c in left and c in right)
    tiles = batch * -(-rows // TILE_ROWS) * -(-columns // TILE_COLUMNS)
    if tiles < ENOUGH_TILES:
        return min(PIECES // tiles, length // SHORTEST_PART)
    if node.result.type.numel > SMALL_RESULT or min(rows, columns) == 1:
        return 1
    return min(MOST_LONG_PARTS, length // LONG_PART)
