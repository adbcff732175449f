"""Store operands in the order in which vectors read them, where a copy costs little.

Needs: primitives, in their final layout.  Keeps: types, results.

A depthwise convolution with channels innermost multiplies a vector of channels by the weights of
one tap, which lie a whole kernel apart. The weights are few and read again at every position, so
that a copy with the taps outermost, made once, pays. The gradient for these weights is a
contraction that sums one product for each tap and channel: it needs the channels of both operands
in vectors.

Before:
    graph @g(%x: f32[9000,8], %w: f32[1,8,3]) -> (f32[8998,8]) {
      %0: f32[8998,8,3] = window(%x; dims=(0), size=(3), stride=(1), dilation=(1))
      %1: f32[8998,8,3] = mul(%0, %w)
      %2: f32[8998,8] = sum(%1; dims=(2), keepdim=false)
      return %2
    }
After:
    graph @g(%x: f32[9000,8], %w: f32[1,8,3]) -> (f32[8998,8]) {
      %0: f32[8998,8,3] = window(%x; dims=(0), size=(3), stride=(1), dilation=(1))
      %1: f32[3,1,8] = permute(%w; dims=(2,0,1))
      %2: f32[3,1,8] = cast(%1; dtype=f32)
      %3: f32[1,8,3] = permute(%2; dims=(1,2,0))
      %4: f32[8998,8,3] = mul(%0, %3)
      %5: f32[8998,8] = sum(%4; dims=(2), keepdim=false)
      return %5
    }
"""

from __future__ import annotations

from math import prod

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation
from braze.ir.ops.movement import inverse_permutation
from braze.passes.access import base_of, strides_of

# A factor is copied if it is this much smaller than what it is spread over, and that is large.
LEAST_REPETITIONS = 16
FEWEST_PRODUCTS = 1 << 15
# A contraction whose operands have no more points of their own than this, for one of a common
# dimension of at least so many, is computed with that dimension in vectors.
MOST_OWN_POINTS = 64
FEWEST_LANES = 8


def order_operands(graph: Graph) -> Graph:
    """The graph with operands that vectors would gather stored in their order."""
    chosen: dict[tuple[Node, int], tuple[int, ...]] = {}
    for node in graph.nodes:
        if node.op.is_contract and (found := _lanes_wanted(node)) is not None:
            position, order = found
            chosen[node, position] = order
        product = node.operands[0].node if node.op.name == "sum" else None
        if product is not None and product.op.name == "mul":
            for position in range(2):
                taps_first = _taps_first(node, product, position)
                if taps_first is not None:
                    chosen[product, position] = taps_first
    if not chosen:
        return graph
    new = Rewriter(graph)
    for node in graph.nodes:
        orders = [chosen.get((node, position)) for position in range(len(node.operands))]
        if not any(orders):
            new.keep(node)
            continue
        with new.at(node.location):
            operands = [
                new[x] if order is None else _stored(new, new[x], order)
                for x, order in zip(node.operands, orders, strict=True)
            ]
            new.replaced[node.result] = new.emit(node.op, operands, node.attributes).result
    return new.done()


def _taps_first(total: Node, product: Node, position: int) -> tuple[int, ...] | None:
    """The order of the factor's dimensions to store it in; None if its own will do."""
    x, result = product.operands[position], product.result
    if x.type.rank != result.type.rank or x.type.numel * LEAST_REPETITIONS > result.type.numel:
        return None
    summed = total.attributes["dims"]
    assert isinstance(summed, tuple)
    kept = [dim for dim in range(x.type.rank) if dim not in summed]
    lanes = [dim for dim in kept if result.shape[dim] > 1]
    if result.type.numel < FEWEST_PRODUCTS or not lanes or x.shape[lanes[-1]] == 1:
        return None
    if all(x.shape[dim] == 1 for dim in summed if dim > lanes[-1]):
        return None
    strides = strides_of(x)
    if strides is not None and strides[lanes[-1]] == 1:
        return None  # it lies so already
    return (*sorted(summed), *kept)


def _lanes_wanted(node: Node) -> tuple[int, tuple[int, ...]] | None:
    """The operand of a contraction to copy, and the order, so that a common dimension is the
    innermost of both; None if that gains nothing."""
    left, right, out = parse_equation(str(node.attributes["equation"]))
    sizes = dict(zip(left + right, node.operands[0].shape + node.operands[1].shape, strict=True))
    if prod(sizes[c] for c in out if (c in left) != (c in right)) > MOST_OWN_POINTS:
        return None
    if prod(sizes.values()) < FEWEST_PRODUCTS:
        return None
    places = [strides_of(x) for x in node.operands]
    for letter in out:
        if letter not in left or letter not in right or sizes[letter] < FEWEST_LANES:
            continue
        strides = [p and p[t.index(letter)] for p, t in zip(places, (left, right), strict=True)]
        for position, term in enumerate((left, right)):
            x = node.operands[position]
            if strides[1 - position] == 1 and strides[position] not in (None, 1):
                if base_of(x).type.numel != x.type.numel:
                    return None  # a view of windows has more elements than there are to copy
                at = term.index(letter)
                return position, (*(i for i in range(len(term)) if i != at), at)
    return None


def _stored(b: Rewriter, x: Value, order: tuple[int, ...]) -> Value:
    copy = b.cast(b.permute(x, dims=order), dtype=x.dtype)
    value: Value = b.permute(copy, dims=inverse_permutation(order))
    return value
