"""Lower elementwise kernels, reductions and row programs to a nest of loops.

One loop for each dimension that is kept; in it, in the order of their dependence, a `Reduce` for
each stage of reductions, a loop over the row for the values that are stored whole, and the stores
of what remains of a row. The order of the loops, their merging and their vectors are decided by
later passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.ir.dtypes import DType, f32
from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Accumulator,
    Buffer,
    Check,
    Combine,
    Expr,
    Load,
    Loop,
    Nest,
    Reduce,
    Ref,
    Statement,
    Store,
)
from braze.passes.access import Point, flat_index, reshape_point
from braze.passes.expressions import Expressions, as_i64, converted, statement_indices
from braze.passes.space import Space, gives_position, map_space, space_of
from braze.passes.splitting import Splitting

CheckCodes = Mapping[Node, int]


def lower_nest(
    name: str,
    body: Graph,
    outputs: Sequence[Value],
    buffers: Mapping[Value, Buffer],
    codes: CheckCodes,
) -> Nest | None:
    """The loops of an elementwise, reducing or row kernel; None if it has no points at all.

    Args:
        outputs: the body's outputs in the order of their stores.
        buffers: for the body's inputs and outputs.
        codes: number of the failure that each check reports.
    """
    space, stages = body_space(body), reduction_stages(body)
    lowering = NestLowering(body, outputs, buffers, codes, space, stages)
    if space.kept == 0 or (space.full == 0 and not stages):
        return None
    statements = lowering.run()
    used = [*dict.fromkeys([*body.inputs, *body.outputs])]
    return Nest(name, tuple(buffers[value] for value in used), statements)


def lower_copy(name: str, source: Buffer, target: Buffer) -> Nest | None:
    """A kernel that copies a buffer; None for an empty one."""
    if source.numel == 0:
        return None
    variable = LoopVar("i0", source.numel)
    place = Index.of(variable)
    store = Store(target, place, Load(source, place))
    return Nest(name, (source, target), [Loop(variable, [store])])


class NestLowering:
    """One kernel while it is lowered.

    Args:
        space: what its loops go through.
        stages: its reductions over rows, in rounds.
    """

    def __init__(
        self,
        body: Graph,
        outputs: Sequence[Value],
        buffers: Mapping[Value, Buffer],
        codes: CheckCodes,
        space: Space,
        stages: list[list[Node]],
    ) -> None:
        self.body = body
        self.codes = codes
        self.outputs = outputs
        self.buffers = buffers
        self.loads = {value: buffers[value] for value in body.inputs}
        self.space = space
        self.stages = stages
        self.kept = [
            LoopVar(f"i{axis}", size)
            for axis, size in enumerate(self.space.dims)
            if not self.space.reduced[axis]
        ]
        self.rows = [self.row_variables(f"r{stage}_") for stage in range(len(self.stages) + 1)]
        variables = [*self.kept, *(v for row in self.rows for v in row)]
        self.splitting = Splitting(variables)
        self.refs: dict[Node, Ref] = {}
        self.mismatches: list[tuple[Index, Index]] = []

    def row_variables(self, prefix: str) -> list[LoopVar]:
        return [
            LoopVar(f"{prefix}{axis}", size)
            for axis, size in enumerate(self.space.dims)
            if self.space.reduced[axis]
        ]

    def run(self) -> list[Statement]:
        """Build the statements, splitting variables until their addresses are as simple as they
        get."""
        while True:
            self.mismatches = []
            statements = self._build()
            indices = list(statement_indices(statements))
            indices += [index for pair in self.mismatches for index in pair]
            if not self.splitting.refine(indices):
                break
        if self.mismatches:
            got, wanted = self.mismatches[0]
            raise AssertionError(f"internal error: a reduction is read at {got}, made at {wanted}")
        return self.looped(statements)

    def looped(self, statements: list[Statement]) -> list[Statement]:
        """What is done for a row, done for all of them."""
        return loops_around(self.splitting.current(self.kept), statements)

    def points(self, row: list[LoopVar]) -> tuple[Point, Point]:
        """The kept point, and the full point with these variables in the row."""
        kept = self.splitting.point(self.kept)
        inner = iter(self.splitting.point(row))
        outer = iter(kept)
        full = tuple(next(inner) if reduced else next(outer) for reduced in self.space.reduced)
        return kept, full

    def _build(self) -> list[Statement]:
        self.expressions = Expressions(self.loads, self._leaf)
        self.refs.clear()  # of an attempt before the loops were split
        statements: list[Statement] = []
        for nodes, row in zip(self.stages, self.rows, strict=False):
            statements.append(self._reduce(nodes, row))
        whole, single = self.stores()
        if whole:
            row = self.rows[-1]
            statements.append(_nested(self.splitting.current(row), whole))
        return [*statements, *single]

    def _leaf(self, node: Node, point: Point) -> Expr:
        if node not in self.refs:
            raise AssertionError(f"internal error: {node.op.name} inside a nest")
        kept, _ = self.points(self.rows[0])
        got = flat_index(point, node.result.shape)
        wanted = flat_index(kept, self.space.kept_shape)
        if got != wanted:
            self.mismatches.append((got, wanted))
        return converted(self.refs[node], node.result.dtype)

    def _reduce(self, nodes: list[Node], row: list[LoopVar]) -> Reduce:
        _, full = self.points(row)
        accumulators: list[Accumulator] = []
        for node in nodes:
            x = node.operands[0]
            value = self.expressions.at(x, reshape_point(full, self.space.dims, x.shape))
            position = None
            if gives_position(node.op):
                own = reshape_point(full, self.space.dims, x.shape)
                dims = node.attributes["dims"]
                assert isinstance(dims, tuple)
                position = own[dims[0]]
            else:
                value = converted(value, accumulation_dtype(x.dtype))
            accumulator = Accumulator(
                f"{node.op.name}{len(self.refs)}", _combine(node), value, position
            )
            accumulators.append(accumulator)
            self.refs[node] = Ref(accumulator.name, accumulator.dtype)
        loops = [v for v in self.splitting.current(row) if v.extent != 1]
        loops = loops or self.splitting.current(row)[:1]
        return Reduce(tuple((v, "serial") for v in loops), tuple(accumulators))

    def stores(self) -> tuple[list[Statement], list[Statement]]:
        """Stores and checks: those for each point of the row, and those once for a row."""
        whole: list[Statement] = []
        single: list[Statement] = []
        kept, full = self.points(self.rows[-1])
        for value in self.outputs:
            core, chain = core_of(value)
            if _is_moved_input(core) and tuple(value.shape) == tuple(self.space.dims):
                core, chain = value, []  # read in another order, so as to be stored in this one
            point, target = self._aligned(core, kept, full, whole, single)
            expr = self.expressions.at(core, point)
            for node in reversed(chain):
                point = rearranged_point(node, point)
            target.append(Store(self.buffers[value], flat_index(point, value.shape), expr))
        for node in self.body.nodes:
            if node.op.category == "check":
                x = node.operands[0]
                point, target = self._aligned(x, kept, full, whole, single)
                low, high = node.attributes["low"], node.attributes["high"]
                assert isinstance(low, int) and isinstance(high, int)
                expr = as_i64(self.expressions.at(x, point))
                target.append(Check(expr, low, high, self.codes[node]))
        return whole, single

    def _aligned(
        self,
        value: Value,
        kept: Point,
        full: Point,
        whole: list[Statement],
        single: list[Statement],
    ) -> tuple[Point, list[Statement]]:
        """Where a value's element for the current point is, and the list that its store goes to."""
        if value.type.numel == self.space.kept:
            return reshape_point(kept, self.space.kept_shape, value.shape), single
        if value.type.numel != self.space.full:
            raise AssertionError(f"internal error: {value} is not aligned with {self.space}")
        return reshape_point(full, self.space.dims, value.shape), whole


def loops_around(variables: list[LoopVar], body: list[Statement]) -> list[Statement]:
    """A loop for each variable of more than one value, the first outermost."""
    for variable in reversed(variables):
        if variable.extent != 1:
            body = [Loop(variable, body)]
    return body


def _nested(variables: list[LoopVar], body: list[Statement]) -> Statement:
    loops = [v for v in variables if v.extent != 1] or variables[:1]
    for variable in reversed(loops):
        body = [Loop(variable, body)]
    return body[0]


def accumulation_dtype(dtype: DType) -> DType:
    """In what a sum of values of this dtype is kept."""
    return f32 if dtype.is_floating_point and dtype.bits < f32.bits else dtype


def _combine(node: Node) -> Combine:
    """A reduction's name says how it combines."""
    name: Combine = node.op.name  # type: ignore[assignment]
    return name


def reduction_stages(body: Graph) -> list[list[Node]]:
    """The reductions in rounds: each reads results of earlier rounds only."""
    depth: dict[Value, int] = dict.fromkeys(body.inputs, 0)
    stages: list[list[Node]] = []
    for node in body.nodes:
        level = max((depth[x] for x in node.operands), default=0)
        if node.op.is_reduce:
            if level == len(stages):
                stages.append([])
            stages[level].append(node)
            level += 1
        for result in node.results:
            depth[result] = level
    return stages


def body_space(body: Graph) -> Space:
    """The iteration space of a body without contractions."""
    for node in body.nodes:
        if node.op.is_reduce:
            return space_of(node)
    cores = [core_of(value) for value in body.outputs]
    for core, chain in cores:
        if not chain:
            return map_space(core.shape)
    if cores:
        return map_space(cores[0][0].shape)
    check = next(node for node in body.nodes if node.op.category == "check")
    return map_space(check.operands[0].shape)


def core_of(value: Value) -> tuple[Value, list[Node]]:
    """What a value is a rearrangement of, and the movements between, outermost first."""
    chain: list[Node] = []
    while value.node is not None and is_rearrangement(value.node):
        chain.append(value.node)
        value = value.node.operands[0]
    return value, chain


def _is_moved_input(value: Value) -> bool:
    """Is a value elements of an input in some other order, so that reading it computes nothing?"""
    while value.node is not None and value.node.op.is_movement and len(value.node.operands) == 1:
        value = value.node.operands[0]
    return value.node is None


def is_rearrangement(node: Node) -> bool:
    """A movement that only renumbers the elements: reshape or permute."""
    if not node.op.is_movement or len(node.operands) != 1:
        return False
    same = node.operands[0].type.numel == node.result.type.numel
    return same and ("shape" in node.attributes or node.op.name == "permute")


def rearranged_point(node: Node, point: Point) -> Point:
    """Where a rearrangement puts the operand's element at `point`."""
    dims = node.attributes.get("dims")
    if isinstance(dims, tuple):
        return tuple(point[d] for d in dims)
    return reshape_point(point, node.operands[0].shape, node.result.shape)
