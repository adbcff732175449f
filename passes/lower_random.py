"""Lower a draw of random bits, with the elementwise operations on it.

The kernel runs over blocks of 32 elements: eight counters, one to a lane, give four words each.
Everything in the body lies in the same flat order, so other operands are loaded at the same offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.ir.dtypes import i64
from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Check,
    Const,
    Expr,
    InBounds,
    IndexValue,
    Loop,
    Nest,
    Philox,
    Statement,
    Store,
)
from braze.ir.op import op_named
from braze.ir.ops.creation import BLOCK
from braze.passes.access import Bounds
from braze.passes.expressions import Expressions, as_i64
from braze.passes.lower_nest import CheckCodes, core_of

WORDS = 4
LANES = BLOCK // WORDS


def lower_random(
    name: str,
    body: Graph,
    outputs: Sequence[Value],
    buffers: Mapping[Value, Buffer],
    codes: CheckCodes,
) -> Nest | None:
    """The loops that fill a body's outputs; None if it draws nothing.

    Args:
        outputs: the body's outputs in the order of their stores.
        buffers: for the body's inputs and outputs.
        codes: number of the failure that each check reports.
    """
    numel = next(n.result.type.numel for n in body.nodes if n.op.category == "random")
    if numel == 0:
        return None
    block = LoopVar("block", -(-numel // BLOCK))
    lane = LoopVar("lane", LANES)
    statements: list[Statement] = []
    writer = _FlatBody(body, buffers, block, lane, numel)
    for word in range(WORDS):
        statements += writer.statements(word, outputs, codes)
    loop = Loop(block, [Loop(lane, statements, kind="vector")])
    values = [*dict.fromkeys([*body.inputs, *body.outputs])]
    return Nest(name, tuple(buffers[value] for value in values), [loop])


class _FlatBody:
    """Expressions of a body at flat element 32 * block + 8 * word + lane."""

    def __init__(
        self,
        body: Graph,
        buffers: Mapping[Value, Buffer],
        block: LoopVar,
        lane: LoopVar,
        numel: int,
    ) -> None:
        self.body = body
        self.buffers = buffers
        self.block = block
        self.lane = lane
        self.numel = numel
        self.scalars = Expressions({v: buffers[v] for v in body.inputs}, self._no_leaf)
        self.counters: dict[Node, Expr] = {}

    @staticmethod
    def _no_leaf(node: Node, point: tuple[Index, ...]) -> Expr:
        raise AssertionError(f"internal error: {node.op.name} among the numbers of a random kernel")

    def statements(
        self, word: int, outputs: Sequence[Value], codes: CheckCodes
    ) -> list[Statement]:
        """The stores and checks for one output word of the block's counters."""
        flat = Index.of(self.block) * BLOCK + Index.of(self.lane) + word * LANES
        inside = Bound(flat, 0, self.numel)
        guard: Bounds = () if inside.is_always_true else (inside,)
        memo: dict[Value, Expr] = {}
        made: list[Statement] = []
        for value in outputs:
            core, _ = core_of(value)
            expr = self._at(core, word, flat, guard, memo)
            made.append(Store(self.buffers[value], flat, expr, guard))
        for node in self.body.nodes:
            if node.op.category == "check":
                low, high = node.attributes["low"], node.attributes["high"]
                assert isinstance(low, int) and isinstance(high, int)
                found = as_i64(self._at(node.operands[0], word, flat, guard, memo))
                if guard:  # lanes behind the last element have read nothing that could be checked
                    passing = Const(low, i64)
                    found = Apply(op_named("where"), (InBounds(guard), found, passing), i64)
                made.append(Check(found, low, high, codes[node]))
        return made

    def _at(
        self, value: Value, word: int, flat: Index, guard: Bounds, memo: dict[Value, Expr]
    ) -> Expr:
        if value not in memo:
            memo[value] = self._make(value, word, flat, guard, memo)
        return memo[value]

    def _make(
        self, value: Value, word: int, flat: Index, guard: Bounds, memo: dict[Value, Expr]
    ) -> Expr:
        node = value.node
        if node is not None and node.op.category == "random":
            if node not in self.counters:
                self.counters[node] = self._counter(node)
            seed = self.scalars.at(node.operands[0], ())
            return Philox(word, self.counters[node], seed)
        if value.type.numel == 1 and self.numel != 1:
            return self.scalars.at(value, (Index(),) * value.type.rank)
        if node is None:
            return self.scalars.at_flat(value, flat, guard)
        arguments = tuple(self._at(x, word, flat, guard, memo) for x in node.operands)
        if node.op.is_pointwise:
            return Apply(node.op, arguments, value.dtype)
        if node.op.is_movement:
            return arguments[0]
        return self.scalars.at(value, (Index(),) * value.type.rank)

    def _counter(self, node: Node) -> Expr:
        index = IndexValue(Index.of(self.block) * LANES + Index.of(self.lane))
        offset = self.scalars.at(node.operands[1], ())
        return Apply(op_named("add"), (offset, index), i64)
