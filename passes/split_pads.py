"""Cut pads in two: the borders that a contraction needs in memory, and those it leaves out.

Needs: primitives, in their final layout.  Keeps: types, results.  Leaves: at each contraction of
padded operands, the letters along which borders are left out; so the decision is made once, and is
the same for graphs that differ in a size where that is wanted.

`guards` says which borders are left out of a contraction's sums. Each contraction gets pads of its
own, so that the gradient for a weight, say, can read an image that has no border at all. Here a
border is left out along h alone, since there is one image, and the tiles have their rows along w.

Before:
    graph @g(%x: f32[1,8,8,4], %w: f32[3,3,4,4]) -> (f32[1,8,8,4]) {
      %0: f32[1,10,10,4] = pad(%x; low=(0,1,1,0), high=(0,1,1,0), interior=(0,0,0,0), value=0.0)
      %1: f32[1,8,8,4,3,3] = window(%0; dims=(1,2), size=(3,3), stride=(1,1), dilation=(1,1))
      %2: f32[1,8,8,4] = contract(%1, %w; equation="nhwcij,ijco->nhwo")
      return %2
    }
After:
    graph @g(%x: f32[1,8,8,4], %w: f32[3,3,4,4]) -> (f32[1,8,8,4]) {
      %0: f32[1,8,10,4] = pad(%x; low=(0,0,1,0), high=(0,0,1,0), interior=(0,0,0,0), value=0.0)
      %1: f32[1,10,10,4] = pad(%0; low=(0,1,0,0), high=(0,1,0,0), interior=(0,0,0,0), value=0.0)
      %2: f32[1,8,8,4,3,3] = window(%1; dims=(1,2), size=(3,3), stride=(1,1), dilation=(1,1))
      %3: f32[1,8,8,4] = contract(%2, %w; equation="nhwcij,ijco->nhwo", left_out="h")
      return %3
    }
"""

from __future__ import annotations

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation
from braze.passes.choices import Choices
from braze.passes.dce import dce
from braze.passes.guards import (
    contraction_letters,
    is_left_out,
    left_out,
    padded,
    summed_letters,
)

Dims = frozenset[int]


def split_pads(
    graph: Graph, choices: Choices | None = None, *, everywhere: bool = False
) -> Graph:
    """The graph in which every pad is left out of a contraction wholly or not at all.

    Args:
        choices: which borders are left out in the same graph of other sizes.
        everywhere: all borders are that can be. On a GPU each thread decides for itself what it
            reads, so that no border has to be in memory.
    """
    choices = choices or Choices()
    chosen = {
        node: found
        for node in graph.nodes
        if (found := _letters(node, choices, everywhere)) is not None
    }
    if not chosen:
        return graph
    new = Rewriter(graph)
    for node in graph.nodes:
        if node not in chosen:
            new.keep(node)
            continue
        decided = Node(
            node.op,
            node.operands,
            {**node.attributes, "left_out": chosen[node]},
            [node.result.type],
            node.location,
        )
        operands = [_moved(new, x, _cut(decided, i)) for i, x in enumerate(node.operands)]
        with new.at(node.location):
            new.replaced[node.result] = new.emit(node.op, operands, decided.attributes).result
    return dce(new.done())


def _letters(node: Node, choices: Choices, everywhere: bool) -> str | None:
    """Along which letters borders are left out; None if there are none."""
    if not node.op.is_contract or "left_out" in node.attributes:
        return None
    letters = contraction_letters(node)
    if not any([*padded(node, position, letters)] for position in range(2)):
        return None
    out = parse_equation(str(node.attributes["equation"]))[2]
    own = {v for position in range(2) for v in left_out(node, position, letters)}
    if everywhere:
        own = {letters[c] for c in out}
    return choices.choose("left_out", "".join(sorted(map(str, own))), lambda c: set(c) <= set(out))


def _cut(node: Node, position: int) -> dict[Node, Dims]:
    """The pads of an operand that are left out in part, and the dimensions in which they are."""
    letters = contraction_letters(node)
    chosen, summed = left_out(node, position, letters), summed_letters(node, letters)
    found: dict[Node, Dims] = {}
    for pad, bounds in padded(node, position, letters):
        dims = frozenset(d for d, bound in bounds.items() if is_left_out(bound, chosen, summed))
        if 0 < len(dims) < len(bounds):
            found[pad] = dims
    return found


def _moved(b: Rewriter, value: Value, cuts: dict[Node, Dims]) -> Value:
    """An operand once more, by pads that are cut in two."""
    if not cuts:
        return b[value]
    node = value.node
    assert node is not None
    rest = {pad: dims for pad, dims in cuts.items() if pad is not node}
    source = _moved(b, node.operands[0], rest)
    with b.at(node.location):
        if node in cuts:
            kept = frozenset(range(value.type.rank)) - cuts[node]
            return _padded(b, _padded(b, source, node, kept), node, cuts[node])
        return b.emit(node.op, [source], node.attributes).result


def _padded(b: Rewriter, x: Value, pad: Node, dims: Dims) -> Value:
    """A pad in some of the dimensions."""
    amounts = {}
    for word in ("low", "high", "interior"):
        values = pad.attributes[word]
        assert isinstance(values, tuple)
        amounts[word] = tuple(n if dim in dims else 0 for dim, n in enumerate(values))
    value: Value = b.pad(x, **amounts, value=0.0)
    return value
