"""Lower a scan, with the elementwise operations before and behind it.

One loop for each dimension but the scanned one, and in it a `Scan` whose stores hold what is
computed from the running values. A scan in blocks has a loop over the blocks, which are independent
of each other, and a shorter scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from braze.ir.dtypes import DType
from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Carried,
    Const,
    Expr,
    InBounds,
    Load,
    Loop,
    Nest,
    Ref,
    Running,
    Scan,
    Statement,
    Store,
)
from braze.ir.op import op_named
from braze.ir.ops.scan import block_count, carried_dtype
from braze.passes.access import Bounds, Point, flat_index, reshape_point
from braze.passes.expressions import Expressions, converted, statement_indices
from braze.passes.lower_nest import core_of, rearranged_point
from braze.passes.splitting import Splitting

# How each scan's results combine, in order.
_RUNNING: dict[str, tuple[Running, ...]] = {
    "cumsum": ("sum",),
    "cumprod": ("prod",),
    "cummax": ("amax", "lastmax"),
    "cummin": ("amin", "lastmin"),
    "linear_recurrence": ("linear",),
}
# Points at which indices of different form are compared.
_POINTS = 50


def lower_scan(
    name: str, body: Graph, outputs: Sequence[Value], buffers: Mapping[Value, Buffer]
) -> Nest | None:
    """The loops of a scan; None if it has no points.

    Args:
        outputs: the body's outputs in the order of their stores.
        buffers: for the body's inputs and outputs.
    """
    (node,) = (n for n in body.nodes if n.op.is_scan)
    if node.operands[0].type.numel == 0:
        return None
    statements = _ScanLowering(node, body, outputs, buffers).run()
    used = [*dict.fromkeys([*body.inputs, *body.outputs])]
    return Nest(name, tuple(buffers[value] for value in used), statements)


class _Elements(Expressions):
    """Expressions in which the scan's results are the names of what it carries."""

    def __init__(self, lowering: _ScanLowering) -> None:
        super().__init__(lowering.loads, self._no_leaf)
        self.lowering = lowering

    @staticmethod
    def _no_leaf(node: Node, point: Point) -> Expr:
        raise AssertionError(f"internal error: {node.op.name} inside a scan")

    def _make(self, value: Value, point: Point, guard: Bounds) -> Expr:
        if value.node is self.lowering.node:
            return self.lowering.result(value, point)
        return super()._make(value, point, guard)


class _ScanLowering:
    def __init__(
        self,
        node: Node,
        body: Graph,
        outputs: Sequence[Value],
        buffers: Mapping[Value, Buffer],
    ) -> None:
        self.node = node
        self.outputs = outputs
        self.buffers = buffers
        self.loads = {value: buffers[value] for value in body.inputs}
        self.scan, _, self.form = node.op.name.partition("_")
        if self.scan not in _RUNNING:
            self.scan, self.form = node.op.name, ""
        self.shape = node.operands[0].shape
        dim = node.attributes["dim"]
        assert isinstance(dim, int)
        self.dim = dim
        self.size = self.shape[dim]
        length = node.attributes.get("length", self.size)
        assert isinstance(length, int)
        self.length = length
        blocks = block_count(self.size, length) - (self.form == "ends")
        self.others = [
            LoopVar(f"i{axis}", blocks if axis == dim else size)
            for axis, size in enumerate(self.shape)
        ]
        self.inner = LoopVar("r", length)
        self.splitting = Splitting([*self.others, self.inner])
        self.mismatches: list[tuple[Index, Index]] = []

    def run(self) -> list[Statement]:
        while True:
            self.mismatches = []
            statements = self._build()
            indices = list(statement_indices(statements))
            indices += [index for pair in self.mismatches for index in pair]
            if not self.splitting.refine(indices):
                break
        for got, wanted in self.mismatches:
            if _agree(got, wanted, self.guard):
                continue
            raise AssertionError(f"internal error: a scan is read at {got}, made at {wanted}")
        for variable in reversed(self.splitting.current(self.others)):
            if variable.extent != 1:
                statements = [Loop(variable, statements)]
        return statements

    def _points(self) -> None:
        """Where the current point is: in the operand (`full`), and among blocks (`block`)."""
        others = self.splitting.point(self.others)
        (inner,) = self.splitting.point([self.inner])
        place = others[self.dim] * self.length + inner
        inside = Bound(place, 0, self.size)
        self.guard: Bounds = () if inside.is_always_true else (inside,)
        if self.node.attributes["reverse"]:
            place = Index((), self.size - 1) - place
        self.place = place
        self.full: Point = (*others[: self.dim], place, *others[self.dim + 1 :])
        self.block: Point = others

    def _build(self) -> list[Statement]:
        self._points()
        self.elements = _Elements(self)
        used = [value for value in self.node.results if self._is_used(value)]
        self.names = {value: f"{self.scan}{value.index}" for value in used}
        carried = tuple(self._carried(value) for value in used)
        stores: list[Store] = []
        ends: list[Statement] = []
        target = ends if self.form == "ends" else stores
        point, guard = (self.block, ()) if self.form == "ends" else (self.full, self.guard)
        for value in self.outputs:
            core, chain = core_of(value)
            at = reshape_point(point, self.node.results[0].shape, core.shape)
            expr = self.elements.at(core, at, guard)
            for node in reversed(chain):
                at = rearranged_point(node, at)
            store = Store(self.buffers[value], flat_index(at, value.shape), expr, guard)
            target.append(store)
        loops = [v for v in self.splitting.current([self.inner]) if v.extent != 1]
        loops = loops or self.splitting.current([self.inner])[:1]
        return [Scan(tuple((v, "serial") for v in loops), carried, stores), *ends]

    def _is_used(self, value: Value) -> bool:
        """Is a result of the scan stored, or read behind it?"""
        stack = list(self.outputs)
        seen: set[Value] = set()
        while stack:
            found = stack.pop()
            if found is value:
                return True
            if found not in seen and found.node is not None:
                seen.add(found)
                stack += found.node.operands
        return False

    @property
    def _dtype(self) -> DType:
        return carried_dtype(self.scan, self.node.operands[0].dtype)

    def _carried(self, value: Value) -> Carried:
        combine = _RUNNING[self.scan][value.index]
        count = 2 if combine == "linear" else 1
        values = tuple(
            converted(self.elements.at(x, self.full, self.guard), self._dtype)
            for x in self.node.operands[:count]
        )
        positioned = combine.startswith("last")
        return Carried(
            self.names[value],
            combine,
            values,
            self.place if positioned else None,
            self._starts(value, positioned) if self.form == "from" else (),
        )

    def _starts(self, value: Value, positioned: bool) -> tuple[Expr, ...]:
        """What the current block starts from: the first one from nothing."""
        at = list(self.block)
        at[self.dim] = at[self.dim] - 1
        known = Bound(self.block[self.dim], 1, block_count(self.size, self.length))
        found: list[Expr] = []
        for position, start in enumerate(self.node.operands[1:]):
            if position == 0 or positioned:
                load = self.elements.at(start, tuple(at), (known,))
                first = Const(_nothing(_RUNNING[self.scan][0], load.dtype), load.dtype)
                if position:
                    first = Const(0, load.dtype)
                is_zero = isinstance(load, Load) and first.value == 0
                condition = InBounds((known,))
                choice = Apply(op_named("where"), (condition, load, first), load.dtype)
                found.append(load if is_zero else choice)
        return tuple(found)

    def result(self, value: Value, point: Point) -> Expr:
        """The running value, where the scan stands."""
        wanted = self.block if self.form == "ends" else self.full
        pair = flat_index(point, value.shape), flat_index(wanted, value.shape)
        if pair[0] != pair[1]:
            self.mismatches.append(pair)
        combine = _RUNNING[self.scan][value.index]
        dtype = value.dtype if combine.startswith("last") else self._dtype
        return converted(Ref(self.names[value], dtype), value.dtype)


def _agree(left: Index, right: Index, guard: Bounds) -> bool:
    """Are two indices equal, as far as some points inside the guard show?

    Divisions that undo each other do not always cancel in their text.
    """
    random = Random(0)
    indices = [left, right, *(bound.index for bound in guard)]
    variables = sorted({v for i in indices for v in i.variables()}, key=lambda v: v.name)
    for _ in range(_POINTS):
        at = {v: Index((), random.randrange(v.extent)) for v in variables}
        inside = all(b.low <= b.index.substitute(at.get).constant < b.high for b in guard)
        if inside and left.substitute(at.get) != right.substitute(at.get):
            return False
    return True


def _nothing(combine: Running, dtype: DType) -> float | int:
    """What combining no values gives."""
    if combine in ("sum", "prod"):
        return 0 if combine == "sum" else 1
    largest = combine == "amax"
    if dtype.is_floating_point:
        return float("-inf") if largest else float("inf")
    if dtype.kind == "uint":
        return 0 if largest else (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)) if largest else (1 << (dtype.bits - 1)) - 1
