"""Have windows of 16-bit pixels read along their channels, on GPUs that copy asynchronously.

Needs: primitives, in their final layout.  Keeps: types, results up to the order in which terms are
added.

A convolution sums over channels and taps in the order in which its weight lies, the taps innermost.
Neighbours in the sum are then pixels of different places, and each of two bytes is fetched alone.
With the channels innermost in the sum, and where the image has them innermost, too, 16 bytes go to
shared memory by themselves. The weight, which is small, is copied in that order. (A sum runs in the
order of the left operand's dimensions.)

Before:
    graph @g(%x: f16[8,34,34,64], %w: f16[8,64,3,3]) -> (f16[8,32,32,8]) {
      %0: f16[8,32,32,64,3,3] = window(%x; dims=(1,2), size=(3,3), stride=(1,1), dilation=(1,1))
      %1: f16[8,32,32,8] = contract(%0, %w; equation="nhwckl,ockl->nhwo")
      return %1
    }
After:
    graph @g(%x: f16[8,34,34,64], %w: f16[8,64,3,3]) -> (f16[8,32,32,8]) {
      %0: f16[8,32,32,64,3,3] = window(%x; dims=(1,2), size=(3,3), stride=(1,1), dilation=(1,1))
      %1: f16[8,3,3,64] = permute(%w; dims=(0,2,3,1))
      %2: f16[8,3,3,64] = cast(%1; dtype=f16)
      %3: f16[8,32,32,8] = contract(%2, %0; equation="oklc,nhwckl->nhwo")
      return %3
    }
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from braze.ir.builder import Rewriter
from braze.ir.dtypes import bf16, f16
from braze.ir.gpu_limits import ASYNC_CAPABILITY
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation
from braze.ir.target import Target
from braze.passes.access import flat_index, loop_variables, point_of, source_index
from braze.passes.cache_jumps import is_window
from braze.passes.choices import Choices

# 16-bit numbers that are copied at once.
PACK = 8
# Products for each element of a weight from where a copy is little beside them, and pixels of all
# windows from where a launch is.
WORTH_A_COPY = 64
FEWEST_PIXELS = 1 << 22


@dataclass(frozen=True, slots=True)
class _Order:
    """How a contraction is to read its operand that is no window.

    Attributes:
        weight: its position.
        dims: the order of its dimensions.
        is_copied: whether it does not lie so.
    """

    weight: int
    dims: tuple[int, ...]
    is_copied: bool


def sum_channels_last(graph: Graph, target: Target, choices: Choices | None = None) -> Graph:
    """The graph with the sums of such convolutions in the order of their images.

    Args:
        choices: which weights were copied in the same graph of other sizes.
    """
    if not target.is_gpu or target.capability < ASYNC_CAPABILITY:
        return graph
    choices = choices or Choices()
    wanted = {node: order for node in graph.nodes if (order := _order_of(node, choices))}
    if not wanted:
        return graph
    new = Rewriter(graph)
    for node in graph.nodes:
        if node not in wanted:
            new.keep(node)
            continue
        order = wanted[node]
        terms = parse_equation(str(node.attributes["equation"]))
        left, right = terms[order.weight], terms[1 - order.weight]
        equation = f"{''.join(left[d] for d in order.dims)},{right}->{terms[2]}"
        with new.at(node.location):
            weight = new.permute(new[node.operands[order.weight]], dims=order.dims)
            if order.is_copied:
                weight = new.cast(weight, dtype=weight.dtype)
            operands = [weight, new[node.operands[1 - order.weight]]]
            changed = {**node.attributes, "equation": equation}
            new.replaced[node.result] = new.emit(node.op, operands, changed).result
    return new.done()


def _order_of(node: Node, choices: Choices) -> _Order | None:
    """How to read a contraction's weight; None if that gains nothing, or it has none."""
    if not node.op.is_contract or {x.dtype for x in node.operands} not in ({f16}, {bf16}):
        return None
    *terms, out = parse_equation(str(node.attributes["equation"]))
    sizes = dict(zip("".join(terms), [n for x in node.operands for n in x.shape], strict=True))
    summed = [c for c in terms[0] if c in terms[1] and c not in out and sizes[c] != 1]
    places = [_place_of(x) for x in node.operands]
    for weight, term in enumerate(terms):
        image = 1 - weight
        if not places[image].is_window or places[weight].is_window:
            continue
        channels = [c for c in summed if places[image].strides[terms[image].index(c)] == 1]
        if len(channels) != 1 or len(summed) == 1 or sizes[channels[0]] % PACK:
            return None
        last = term.index(channels[0])
        lies_so = places[weight].strides[last] == 1
        if lies_so and summed[-1] == channels[0]:
            return None
        products = prod(sizes[c] for c in out if c not in term)
        pays = products >= WORTH_A_COPY and node.operands[image].type.numel >= FEWEST_PIXELS
        if not choices.choose("sum_channels_last", lies_so or pays, lambda _: True):
            return None
        return _Order(weight, (*(d for d in range(len(term)) if d != last), last), not lies_so)
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value lies in memory, or what it is moved from.

    Attributes:
        strides: from one element to the next along each dimension.
        is_window: whether windows are cut from it on the way.
    """

    strides: tuple[int, ...]
    is_window: bool


def _place_of(x: Value) -> _Place:
    variables = loop_variables("v", x.shape)
    point, has_window = point_of(variables), False
    while x.node is not None and x.node.op.is_movement:
        sources = source_index(x.node, point)
        if len(sources) != 1:
            break
        has_window |= is_window(x)
        (source,) = sources
        point, x = source.index, x.node.operands[source.operand]
    address = flat_index(point, x.shape)
    return _Place(tuple(address.coefficient(v) for v in variables), has_window)
