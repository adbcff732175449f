"""Multiply the weights of products by what their results are multiplied by.

Needs: primitives, in their final layout; which values depend on weights alone.  Keeps: types,
results but for rounding.

What a convolution's or a linear layer's result goes through on its own, such as the normalisation
of a batch in evaluation mode, is one factor and one summand for each channel. The factor goes into
the weights, which are multiplied when a package is made and not when it runs; of all summands one
is left. A depthwise convolution is a sum of products (`decompose`), and served alike.

In this example %w, %m and %s are weights.

Before:
    graph @g(%x: f32[8,4], %w: f32[3,4], %m: f32[3], %s: f32[3]) -> (f32[8,3]) {
      %0: f32[8,3] = contract(%x, %w; equation="mk,nk->mn")
      %1: f32[8,3] = sub(%0, %m)
      %2: f32[8,3] = mul(%1, %s)
      return %2
    }
After:
    graph @g(%x: f32[8,4], %w: f32[3,4], %m: f32[3], %s: f32[3]) -> (f32[8,3]) {
      %0: f32[1,3] = reshape(%m; shape=(1,3))
      %1: f32[1,3] = neg(%0)
      %2: f32[1,3] = reshape(%s; shape=(1,3))
      %3: f32[1,3] = mul(%1, %2)
      %4: f32[3,1] = reshape(%2; shape=(3,1))
      %5: f32[3,4] = mul(%w, %4)
      %6: f32[8,3] = contract(%x, %5; equation="mk,nk->mn")
      %7: f32[8,3] = add(%6, %3)
      return %7
    }
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from braze.ir.builder import Rewriter
from braze.ir.dtypes import f32, f64
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation
from braze.ir.ops.movement import inverse_permutation
from braze.ir.types import Shape
from braze.passes.layout import reshape_pieces
from braze.passes.weight_values import weight_values

_FACTORS, _SUMMANDS = ("mul", "div"), ("add", "sub")


def scale_weights(graph: Graph, weights: Collection[Value]) -> Graph:
    """The graph with factors in the weights.

    Args:
        weights: the inputs that are known when the graph is compiled.
    """
    known = weight_values(graph, weights)
    uses = graph.uses()
    chains = {}
    for node in graph.nodes:
        core = _core(node, known, uses)
        if core is not None:
            chain = _chain(core, known, uses, graph.outputs)
            if chain is not None:
                chains[chain.links[-1].node] = chain
    if not chains:
        return graph
    moved = {node for chain in chains.values() for node in chain.nodes()}
    new = Rewriter(graph)
    for node in graph.nodes:
        if node in chains:
            with new.at(node.location):
                new.replace(node, _emitted(new, chains[node]))
        elif node not in moved:
            new.keep(node)
    return new.done()


@dataclass(frozen=True, slots=True)
class _Core:
    """A node that is linear in a weight.

    product: what the weight is an operand of: the node itself, or what it sums.
    position: of the weight among its operands.
    places: for each dimension of the result the weight's, None where it has no such.
    """

    node: Node
    product: Node
    position: int
    places: tuple[int | None, ...]

    @property
    def weight(self) -> Value:
        return self.product.operands[self.position]


@dataclass(frozen=True, slots=True)
class _Link:
    """A step of a chain.

    operand: the weight value of an elementwise step. moves: the movements before it.
    """

    node: Node
    operand: Value | None
    moves: tuple[Node, ...]


@dataclass(slots=True)
class _Chain:
    core: _Core
    links: list[_Link] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        return [self.core.product, self.core.node, *(link.node for link in self.links)]


def _core(node: Node, known: Collection[Value], uses: dict[Value, list[Node]]) -> _Core | None:
    if len(node.results) != 1 or node.result.dtype not in (f32, f64) or node.result in known:
        return None
    if node.op.is_contract:
        left, right, out = parse_equation(str(node.attributes["equation"]))
        for position, letters in enumerate((left, right)):
            x = node.operands[position]
            if x in known and x.dtype is node.result.dtype:
                places = tuple(letters.index(c) if c in letters else None for c in out)
                return _Core(node, node, position, places)
        return None
    product = node.operands[0].node if node.op.name == "sum" else None
    if product is None or product.op.name != "mul" or node.attributes["keepdim"]:
        return None
    if len(uses[product.result]) != 1:
        return None
    summed = node.attributes["dims"]
    assert isinstance(summed, tuple)
    kept = [dim for dim in range(product.result.type.rank) if dim not in summed]
    for position, x in enumerate(product.operands):
        if x in known and x.type.rank == product.result.type.rank:
            has = tuple(dim if x.shape[dim] > 1 else None for dim in kept)
            return _Core(node, product, position, has)
    return None


def _chain(
    core: _Core,
    known: Collection[Value],
    uses: dict[Value, list[Node]],
    outputs: Sequence[Value],
) -> _Chain | None:
    """What the core's result goes through, up to the last factor; None if nothing is gained."""
    chain = _Chain(core)
    value = core.node.result
    moves: tuple[Node, ...] = ()
    worth = 0
    summands = 0
    while len(uses[value]) == 1 and value not in outputs:
        (node,) = uses[value]
        if node.op.name in ("permute", "reshape"):
            moves = (*moves, node)
            chain.links.append(_Link(node, None, moves))
        else:
            operand = _other_operand(node, value, known)
            if operand is None:
                break
            shape = _shape_before(_padded(operand.shape, value), moves)
            if shape is None or (node.op.name in _FACTORS and not _fits(core, shape)):
                break
            chain.links.append(_Link(node, operand, moves))
            summands += node.op.name in _SUMMANDS
            if node.op.name in _FACTORS or summands > 1:
                worth = len(chain.links)
        value = node.result
    del chain.links[worth:]
    return chain if worth else None


def _other_operand(node: Node, value: Value, known: Collection[Value]) -> Value | None:
    """The known operand of a factor or summand."""
    if node.op.name not in (*_FACTORS, *_SUMMANDS) or node.result.type != value.type:
        return None
    others = [x for x in node.operands if x is not value]
    if len(others) != 1 or others[0] not in known:
        return None
    if node.op.name == "div" and node.operands[0] is not value:
        return None
    return others[0]


def _fits(core: _Core, shape: Shape) -> bool:
    """Whether a factor is the same for all that one element of the weight goes into."""
    return all(n == 1 or place is not None for n, place in zip(shape, core.places, strict=True))


def _padded(shape: Shape, value: Value) -> Shape:
    """The shape with as many dimensions as the value, against which it is broadcast."""
    return (1,) * (value.type.rank - len(shape)) + shape


def _shape_before(shape: Shape, moves: Sequence[Node]) -> Shape | None:
    """The shape that is broadcast against the core's result as this one is against what the
    movements make of it; None if there is none."""
    for node in reversed(moves):
        if node.op.name == "permute":
            dims = _dims(node)
            shape = tuple(shape[dims.index(d)] for d in range(len(dims)))
            continue
        before, after = node.operands[0].shape, node.result.shape
        pieces = reshape_pieces(before, after)
        if pieces is None:
            return None
        found = [1] * len(before)
        for inside, outside in pieces:
            if all(shape[d] == 1 for d in outside):
                continue
            if any(shape[d] != after[d] for d in outside):
                return None
            for d in inside:
                found[d] = before[d]
        shape = tuple(found)
    return shape


def _dims(node: Node) -> tuple[int, ...]:
    dims = node.attributes["dims"]
    assert isinstance(dims, tuple)
    return dims


# The new nodes ------------------------------------------------------------------------------------


def _emitted(b: Rewriter, chain: _Chain) -> Value:
    core = chain.core
    scale: Value | None = None
    shift: Value | None = None
    for link in chain.links:
        if link.operand is None:
            continue
        other = _moved_back(b, link)
        name = link.node.op.name
        if name in _FACTORS:
            emit = b.mul if name == "mul" else b.div
            shift = None if shift is None else emit(shift, other)
            one = other if name == "mul" else b.div(b.constant(value=1.0, dtype=other.dtype), other)
            scale = one if scale is None else b.mul(scale, one)
            continue
        if name == "sub" and link.node.operands[0] is link.operand:
            minus = b.constant(value=-1.0, dtype=other.dtype)
            shift = other if shift is None else b.sub(other, shift)
            scale = minus if scale is None else b.neg(scale)
        elif name == "sub":
            shift = b.neg(other) if shift is None else b.sub(shift, other)
        else:
            shift = other if shift is None else b.add(shift, other)
    value: Value = _product(b, core, scale)
    if shift is not None:
        value = b.add(value, shift)
    for link in chain.links:
        if link.operand is None:
            value = b.emit(link.node.op, [value], link.node.attributes).result
    return value


def _product(b: Rewriter, core: _Core, scale: Value | None) -> Value:
    """The core with its weight multiplied."""
    weight = b[core.weight]
    if scale is not None:
        weight = b.mul(weight, _along_weight(b, core, scale))
    operands = [b[x] for x in core.product.operands]
    operands[core.position] = weight
    value = b.emit(core.product.op, operands, core.product.attributes).result
    if core.product is not core.node:
        value = b.emit(core.node.op, [value], core.node.attributes).result
    return value


def _moved_back(b: Rewriter, link: _Link) -> Value:
    """A link's operand, to be broadcast against the core's result."""
    assert link.operand is not None
    x = b[link.operand]
    rest = list(link.moves)
    x = _reshaped(b, x, _padded(x.shape, link.node.result))
    while rest:
        node = rest.pop()
        shape = _shape_before(x.shape, [node])
        assert shape is not None
        if node.op.name == "permute":
            x = b.permute(x, dims=inverse_permutation(_dims(node)))
        x = _reshaped(b, x, shape)
    return x


def _along_weight(b: Rewriter, core: _Core, scale: Value) -> Value:
    """A factor of the core's result, to be broadcast against its weight."""
    own = [i for i, n in enumerate(scale.shape) if n > 1]
    order = sorted(own, key=lambda i: core.places[i] or 0)
    shape = [1] * core.weight.type.rank
    for i in own:
        place = core.places[i]
        assert place is not None
        shape[place] = scale.shape[i]
    if order != own:
        rest = [i for i in range(scale.type.rank) if i not in own]
        scale = b.permute(scale, dims=(*order, *rest))
    return _reshaped(b, scale, tuple(shape))


def _reshaped(b: Rewriter, x: Value, shape: Shape) -> Value:
    if x.shape == shape:
        return x
    value: Value = b.reshape(x, shape=shape)
    return value
