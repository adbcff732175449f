"""Move permutations towards the outputs, so that they meet and cancel and what is stored keeps its
inner dimension.

Needs: primitives, simplified.  Keeps: types of inputs and outputs, logical shapes.

Convolutions permute to channels-last, contract, and permute back. Here every value is held as
(stored value, permutation) and each operation runs in the stored order, its dimensions renumbered;
the permutation is applied only where an operation cannot follow it. So a chain of convolutions,
pools and norms stays channels-last throughout. A contraction's result is stored in the order in
which it is wanted, or else in one that its vectors can be stored in.

Before:
    graph @g(%x: f32[2,3,4], %b: f32[4,1]) -> (f32[2,3,4]) {
      %0: f32[2,4,3] = permute(%x; dims=(0,2,1))
      %1: f32[2,4,3] = add(%0, %b)
      %2: f32[2,3,4] = permute(%1; dims=(0,2,1))
      return %2
    }
After:
    graph @g(%x: f32[2,3,4], %b: f32[4,1]) -> (f32[2,3,4]) {
      %0: f32[1,4,1] = reshape(%b; shape=(1,4,1))
      %1: f32[1,1,4] = permute(%0; dims=(0,2,1))
      %2: f32[2,3,4] = add(%x, %1)
      return %2
    }
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value
from braze.ir.op import AttributeValue
from braze.ir.ops.contract import parse_equation
from braze.ir.ops.movement import inverse_permutation
from braze.passes.access import base_of, strides_of
from braze.passes.contraction_operands import LARGE_RESULT, run_of

# A dimension of so many elements fills a vector.
FEWEST_LANES = 16
# Depthwise gradients have no more points of their own than this for each channel.
MOST_OWN_POINTS = 64

Dims = tuple[int, ...]
Stored = tuple[Value, Dims]


def layout(graph: Graph) -> Graph:
    """The graph with its permutations sunk."""
    if not any(node.op.name == "permute" for node in graph.nodes):
        return graph
    return _Layout(graph).run()


class _Layout(Rewriter):
    """Rewrites a graph with each old value held as (new value, dims): old = permute(new, dims)."""

    def __init__(self, old: Graph) -> None:
        super().__init__(old)
        self.stored: dict[Value, Stored] = {
            value: (self.replaced[value], _identity(value)) for value in old.inputs
        }
        self.readers = old.uses()
        self.plain = _plainly_wanted(old, self.readers)
        self.in_order: dict[Value, Value] = {}

    def run(self) -> Graph:
        for node in self.old.nodes:
            with self.at(node.location):
                rule = self._rule(node)
                stored = rule(node) if rule is not None else None
                if stored is None:
                    self._as_it_is(node)
                    continue
                value, dims = stored
                self.stored[node.result] = stored
                if node.result.name and not value.name and dims == _identity(value):
                    value.name = node.result.name
        outputs = []
        for value in self.old.outputs:
            with self.at(None if value.node is None else value.node.location):
                outputs.append(self.logical(value))
        return self.finish(outputs, self.old.aliases)

    def _rule(self, node: Node) -> Callable[[Node], Stored | None] | None:
        if node.op.is_pointwise:
            return self._pointwise
        if node.op.is_reduce:
            return self._reduce
        if node.op.is_contract:
            return self._contract
        found: Callable[[Node], Stored | None] | None = getattr(self, f"_on_{node.op.name}", None)
        return found

    def _as_it_is(self, node: Node) -> None:
        """Keep a node that works in logical order only."""
        operands = [self.logical(value) for value in node.operands]
        if node.op.category == "check":  # its order does not matter
            operands = [self.stored[value][0] for value in node.operands]
        copy = self.emit(node.op, operands, node.attributes)
        for before, after in zip(node.results, copy.results, strict=True):
            self.stored[before] = (after, _identity(after))
            after.name = before.name

    def logical(self, value: Value) -> Value:
        """The old value in its own order of dimensions."""
        if value not in self.in_order:
            new, dims = self.stored[value]
            self.in_order[value] = self._permuted(new, dims)
        return self.in_order[value]

    def _permuted(self, value: Value, dims: Dims) -> Value:
        if dims == _identity(value):
            return value
        result: Value = self.permute(value, dims=dims)
        return result

    def _emit(self, node: Node, *operands: Value, **changed: AttributeValue) -> Value:
        return self.emit(node.op, operands, {**node.attributes, **changed}).result

    # One rule for each operation ------------------------------------------------------------------

    def _on_permute(self, node: Node) -> Stored:
        value, dims = self.stored[node.operands[0]]
        return value, tuple(dims[d] for d in _ints(node, "dims"))

    def _pointwise(self, node: Node) -> Stored:
        dims = self._preferred(node)
        operands = [self._in_order_of(x, dims, node.result.type.rank) for x in node.operands]
        return self._emit(node, *operands), dims

    def _preferred(self, node: Node) -> Dims:
        """The stored order of a result: the one that most bytes of its operands have."""
        rank = node.result.type.rank
        plain = tuple(range(rank))
        votes: dict[Dims, int] = {}
        for operand in dict.fromkeys(node.operands):
            if operand.type.rank == rank and operand.type.numel * 4 > node.result.type.numel:
                dims = self.stored[operand][1]
                votes[dims] = votes.get(dims, 0) + operand.type.nbytes
        if not votes or (node.result in self.plain and plain in votes):
            return plain
        return max(votes, key=lambda dims: (votes[dims], dims != plain))

    def _in_order_of(self, operand: Value, dims: Dims, rank: int) -> Value:
        """An operand so that it broadcasts against a result that is stored in this order."""
        value, own = self.stored[operand]
        if operand.type.numel == 1 and operand.type.rank == 0:
            return value
        lead = rank - operand.type.rank
        if dims == tuple(range(rank)):
            return self.logical(operand)
        if lead:
            shape = (1,) * lead + operand.shape
            value = self.reshape(self.logical(operand), shape=shape)
            own = tuple(range(rank))
        order = tuple(own[i] for i in inverse_permutation(dims))
        return self._permuted(value, order)

    def _reduce(self, node: Node) -> Stored | None:
        value, dims = self.stored[node.operands[0]]
        if node.attributes["keepdim"]:
            return None
        reduced = _ints(node, "dims")
        inner = tuple(sorted(dims[d] for d in reduced))
        result = self._emit(node, value, dims=inner)
        left = [dims[d] for d in range(len(dims)) if d not in reduced]
        ranks = {place: position for position, place in enumerate(sorted(left))}
        return result, tuple(ranks[place] for place in left)

    def _contract(self, node: Node) -> Stored:
        """The permutations of the operands go into the order of their letters."""
        left, right, out = parse_equation(str(node.attributes["equation"]))
        values: list[Value] = []
        terms: list[str] = []
        for operand, letters in zip(node.operands, (left, right), strict=True):
            value, dims = self.stored[operand]
            values.append(value)
            terms.append("".join(letters[i] for i in inverse_permutation(dims)))
        order = _with_lanes_last(self._order_wanted(node.result), out, values, terms)
        stored = "".join(out[d] for d in order)
        result = self._emit(node, *values, equation=f"{terms[0]},{terms[1]}->{stored}")
        return result, inverse_permutation(order)

    def _order_wanted(self, value: Value) -> Dims:
        """The order of a permutation that a value goes through, if only that order is needed after
        it."""
        while len(readers := self.readers[value]) == 1:
            (node,) = readers
            if node.op.name == "permute":
                return _ints(node, "dims") if node.result in self.plain else _identity(value)
            if not node.op.is_pointwise or node.result.shape != value.shape:
                break
            value = node.result
        return _identity(value)

    def _on_slice(self, node: Node) -> Stored:
        return self._renumbered(node, "starts", "stops", "steps")

    def _on_pad(self, node: Node) -> Stored | None:
        # A padded copy of what the caller gives is made for a contraction anyway: then in logical
        # order, channels last.
        value, _ = self.stored[node.operands[0]]
        fed = self._contraction_fed(node.result) if value.node is None else None
        if fed is not None and not self._is_summed_along_rows(node, *fed):
            return None
        return self._renumbered(node, "low", "high", "interior")

    def _contraction_fed(self, value: Value) -> tuple[Node, int] | None:
        """A contraction that reads a value, through movements, and which operand it is of."""
        for reader in self.readers[value]:
            if reader.op.is_contract:
                return reader, reader.operands.index(value)
            if reader.op.is_movement and (found := self._contraction_fed(reader.result)):
                return found
        return None

    def _is_summed_along_rows(self, pad: Node, contraction: Node, position: int) -> bool:
        """Are both operands stored along long rows that the contraction sums over, and are there
        few products for each point that they have in common? So it is with the gradient for a
        depthwise convolution's weight, of pictures with their channels first."""
        terms = parse_equation(str(contraction.attributes["equation"]))
        left, right, out = terms
        shapes = contraction.operands[0].shape + contraction.operands[1].shape
        sizes = dict(zip(left + right, shapes, strict=True))
        if prod(sizes[c] for c in out if (c in left) != (c in right)) > MOST_OWN_POINTS:
            return False
        other = contraction.operands[1 - position]
        stored, strides = self.stored.get(base_of(other)), strides_of(other)
        if stored is None or stored[1] != _identity(stored[0]) or strides is None:
            return False
        letters = zip(terms[1 - position], strides, strict=True)
        rows = [c for c, step in letters if step == 1 and sizes[c] != 1]
        if not rows or rows[0] in out or sizes[rows[0]] < FEWEST_LANES:
            return False
        dims = self.stored[pad.operands[0]][1]
        innermost = dims.index(len(dims) - 1)
        return innermost != len(dims) - 1 and pad.result.shape[innermost] >= FEWEST_LANES

    def _renumbered(self, node: Node, *names: str) -> Stored:
        """For attributes with one number for each dimension."""
        value, dims = self.stored[node.operands[0]]
        order = inverse_permutation(dims)
        changed: dict[str, Any] = {}
        for name in names:
            numbers = _ints(node, name)
            changed[name] = tuple(numbers[i] for i in order)
        return self._emit(node, value, **changed), dims

    def _on_flip(self, node: Node) -> Stored:
        value, dims = self.stored[node.operands[0]]
        return self._emit(
            node, value, dims=tuple(sorted(dims[d] for d in _ints(node, "dims")))
        ), dims

    def _on_take(self, node: Node) -> Stored | None:
        x, index = node.operands
        if index.type.rank != 1:
            return None
        value, dims = self.stored[x]
        dim = node.attributes["dim"]
        assert isinstance(dim, int)
        return self._emit(node, value, self.logical(index), dim=dims[dim]), dims

    def _on_window(self, node: Node) -> Stored:
        value, dims = self.stored[node.operands[0]]
        result = self._emit(node, value, dims=tuple(dims[d] for d in _ints(node, "dims")))
        return result, (*dims, *range(len(dims), result.type.rank))

    def _on_unwindow(self, node: Node) -> Stored | None:
        value, dims = self.stored[node.operands[0]]
        rank = len(dims) - len(_ints(node, "dims"))
        if dims[rank:] != tuple(range(rank, len(dims))):
            return None
        result = self._emit(node, value, dims=tuple(dims[d] for d in _ints(node, "dims")))
        return result, dims

    def _on_concat(self, node: Node) -> Stored:
        votes: dict[Dims, int] = {}
        for operand in node.operands:
            dims = self.stored[operand][1]
            votes[dims] = votes.get(dims, 0) + operand.type.nbytes
        dims = max(votes, key=lambda d: votes[d])
        operands = [self._in_order_of(x, dims, len(dims)) for x in node.operands]
        dim = node.attributes["dim"]
        assert isinstance(dim, int)
        return self._emit(node, *operands, dim=dims[dim]), dims

    def _on_expand(self, node: Node) -> Stored | None:
        value, dims = self.stored[node.operands[0]]
        shape = node.result.shape
        lead = len(shape) - len(dims)
        stored = (*shape[:lead], *(shape[lead + i] for i in inverse_permutation(dims)))
        result = self._emit(node, value, shape=stored)
        return result, (*range(lead), *(lead + d for d in dims))

    def _on_reshape(self, node: Node) -> Stored | None:
        """Cut or join dimensions in place, if those that are joined lie side by side in the stored
        order."""
        value, dims = self.stored[node.operands[0]]
        if dims == _identity(value):
            return None
        pieces = reshape_pieces(node.operands[0].shape, node.result.shape)
        if pieces is None:
            return None
        # Each piece as a run of stored dimensions, in the stored order of the runs.
        runs: list[tuple[int, list[int]]] = []
        for number, (inside, _) in enumerate(pieces):
            places = [dims[d] for d in inside]
            if places != list(range(places[0], places[0] + len(places))):
                return None
            runs.append((places[0], [number]))
        runs.sort()
        shape: list[int] = []
        result_dims = [0] * node.result.type.rank
        for _, (number,) in runs:
            for d in pieces[number][1]:
                result_dims[d] = len(shape)
                shape.append(node.result.shape[d])
        result = self._emit(node, value, shape=tuple(shape))
        return result, tuple(result_dims)


def reshape_pieces(shape: Dims, new: Dims) -> list[tuple[list[int], list[int]]] | None:
    """Groups of dimensions with equal products, at least one old and one new in each; None if there
    are none such."""
    if 0 in shape:
        return None
    pieces: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) and j < len(new):
        inside, outside = [i], [j]
        left, right = shape[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= shape[i]
                inside.append(i)
                i += 1
            else:
                right *= new[j]
                outside.append(j)
                j += 1
        pieces.append((inside, outside))
    # What is left on one side has size 1.
    if not pieces:
        return None
    pieces[-1][0].extend(range(i, len(shape)))
    pieces[-1][1].extend(range(j, len(new)))
    return pieces


def _plainly_wanted(graph: Graph, uses: dict[Value, list[Node]]) -> set[Value]:
    """Values that end up, through elementwise operations, where only the logical order will do."""
    wanted: set[Value] = set()
    outputs = set(graph.outputs)
    for node in reversed(graph.nodes):
        for result in node.results:
            readers = uses[result]
            if all(_needs_order(reader, wanted) for reader in readers) and (
                readers or result in outputs
            ):
                wanted.add(result)
    return wanted


def _needs_order(reader: Node, wanted: set[Value]) -> bool:
    if reader.op.is_pointwise:
        return reader.result in wanted
    if not reader.op.is_movement or "shape" not in reader.attributes:
        return False
    x, result = reader.operands[0], reader.result
    pieces = reshape_pieces(x.shape, result.shape) if x.type.numel == result.type.numel else None
    if pieces is None:
        return False
    real = [[d for d in inside if x.shape[d] != 1] for inside, _ in pieces]
    return any(len(group) > 1 for group in real)


def _with_lanes_last(order: Dims, out: str, values: list[Value], terms: list[str]) -> Dims:
    """The order of a contraction's result, with a dimension that fills vectors innermost if the one
    that is there does not: results that vectors store across lie in many cache lines, and it costs
    less to have them turned over by who reads them.

    Args:
        out, terms: letters of the result before, and of the operands as they are.
    """
    sizes = dict(zip("".join(terms), values[0].shape + values[1].shape, strict=True))
    real = [d for d in order if sizes[out[d]] != 1]
    if prod(sizes[out[d]] for d in real) < LARGE_RESULT:
        return order
    strides = [strides_of(x) for x in values]
    if None in strides:
        return order

    def steps(d: int) -> list[int]:
        return [
            s[term.index(out[d])] if s is not None and out[d] in term else 0
            for s, term in zip(strides, terms, strict=True)
        ]

    if not run_of((sizes[out[d]], steps(d)) for d in reversed(order)).is_short:
        return order
    for d in real:
        if 1 in steps(d) and sizes[out[d]] >= FEWEST_LANES:
            return (*(other for other in order if other != d), d)
    return order


def _identity(value: Value) -> Dims:
    return tuple(range(value.type.rank))


def _ints(node: Node, name: str) -> tuple[int, ...]:
    value = node.attributes[name]
    assert isinstance(value, tuple)
    return value
