"""Kernels over rows: reductions, and what is computed from their results, in one launch.

In: loops over rows around a list of `Reduce`, loops along the row, and stores for each row.
Out: one launch. The lanes of a row take turns at its elements. What several stages need of an
element stays in the registers of its lane where a row is short enough for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from braze.codegen.cuda.combining import declare, share, take
from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.grid import ENOUGH_THREADS, extent, int_type, quotient, spread
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.lanes import emit_flat
from braze.codegen.cuda.row_layout import Layout, layout_of
from braze.codegen.cuda.statements import is_flat, outer_loops, values_of
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import register_type
from braze.ir.dtypes import i64
from braze.ir.index import DataIndex, Index, LoopVar, flatten
from braze.ir.loops import (
    Accumulator,
    Apply,
    Check,
    Expr,
    Load,
    Loop,
    Philox,
    Reduce,
    Ref,
    Statement,
    Store,
)
from braze.ir.symint import is_always, is_symbolic

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit
    from braze.codegen.cuda.kernel import KernelWriter

# Rows are cut into parts in which a lane has at least so many elements, if there are several.
SHORTEST_PART = 16
FEWEST_PARTS = 4
# Elements of a row that one lane may keep, and 4-byte registers that it may keep them in.
MOST_STEPS = 16
MOST_REGISTERS = 48


def emit_rows(kept: list[LoopVar], body: list[Statement], unit: Unit) -> None:
    """The launches for rows that do not depend on each other, and write nothing that they read."""
    layout = unit.decide(lambda: layout_of(kept, body))
    parts = unit.decide(lambda: parts_of(kept, body, layout))
    if parts > 1:
        _emit_parts(kept, body, layout, parts, unit)
        return
    made = unit.writer(layout.threads)
    rows = RowWriter(made, layout, kept)
    rows.keep_registers(body)
    rows.statements(body)
    unit.launch(made, (rows.blocks, 1, 1), layout.block)


def parts_of(kept: list[LoopVar], body: list[Statement], layout: Layout) -> int:
    """Into how many parts rows are cut that are too long and few for one launch to keep a GPU busy.
    Their results must be all that is wanted: of one reduction, once for each row."""
    reduce, *rest = body
    if not isinstance(reduce, Reduce) or not is_flat(rest):
        return 1
    length = extent([v for v, _ in reduce.loops])
    busy = -(-extent(kept) // layout.rows) * layout.threads
    wanted = min(ENOUGH_THREADS // busy, length // (layout.lanes * SHORTEST_PART))
    return int(wanted) if wanted >= FEWEST_PARTS else 1


def _emit_parts(
    kept: list[LoopVar], body: list[Statement], layout: Layout, parts: int, unit: Unit
) -> None:
    """Two launches: the accumulators of each part of a row, and what they come to."""
    reduce, *rest = body
    assert isinstance(reduce, Reduce)
    length = extent([v for v, _ in reduce.loops])
    part = LoopVar("part", parts)
    place = flatten((*map(Index.of, kept), Index.of(part)), (*(v.extent for v in kept), parts))
    stores: list[Statement] = []
    again: list[Accumulator] = []
    for a in reduce.accumulators:
        values = unit.workspace(a.value.dtype, extent(kept) * parts)
        best = Ref(f"{a.name}.value" if a.position is not None else a.name, a.value.dtype)
        stores.append(Store(values, place, best))
        position = None
        if a.position is not None:
            places = unit.workspace(i64, extent(kept) * parts)
            stores.append(Store(places, place, Ref(a.name, i64)))
            extent_of = a.position.span[1] + 1
            position = Index.of(DataIndex(Load(places, place), extent_of))
        again.append(Accumulator(a.name, a.combine, Load(values, place), position))
    made = unit.writer(layout.threads)
    rows = RowWriter(made, layout, [*kept, part], Part(part, quotient(length, parts)))
    rows.statements([reduce, *stores])
    unit.launch(made, (rows.blocks, 1, 1), layout.block, suffix="parts")
    total = Reduce(((part, "serial"),), tuple(again))
    emit_rows(kept, [total, *rest], unit)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a row is gone through: `number` counts them, each has `length` points, or what
    is left."""

    number: LoopVar
    length: int


class RowWriter:
    """Writes what is done for a row, by its lanes together.

    Args:
        kept: the loops over rows, or over parts of them.
        part: what of a row is gone through; None for all of it.
    """

    def __init__(
        self,
        made: KernelWriter,
        layout: Layout,
        kept: list[LoopVar],
        part: Part | None = None,
    ) -> None:
        self.made = made
        self.part = part
        self.layout = layout
        self.count = extent(kept)
        self.blocks = quotient(self.count, layout.rows)
        self.row = LoopVar("row", self.count)
        self.interner = Interner()
        self.replacements = spread(Index.of(self.row), kept)
        self.kept_values: dict[Expr, str] = {}
        self.computed: set[Expr] = set()
        self._open()
        self.emitter = made.expressions({self.row: "row"})

    def _open(self) -> None:
        """Which row this thread works at, and which of its lanes it is."""
        w, layout = self.made.writer, self.layout
        type = int_type(self.count * layout.rows)
        block = "blockIdx.x" if type == "int" else "(long long)blockIdx.x"
        number, lane = "0", "threadIdx.x"
        if layout.across:
            number, lane = "threadIdx.x", "threadIdx.y"
        elif layout.rows > 1:
            number, lane = f"threadIdx.x / {layout.lanes}", f"threadIdx.x % {layout.lanes}"
        if layout.lanes > 1:
            w.line(f"const int lane = {lane};")
        else:
            number = "threadIdx.x"
        place = f"{block} * {layout.rows} + {number}" if layout.rows > 1 else block
        self.is_whole = is_always(self.blocks * layout.rows - self.count, 0)
        count = self.made.number(self.count)
        if self.is_whole:
            w.line(f"const {type} row = {place};")
            return
        if layout.lanes == 1:
            w.line(f"const {type} row = {place};")
            w.line(f"if (row >= {count}) return;")
            self.is_whole = True
            return
        # The threads behind the last row do its work too, since they meet the others at barriers.
        w.line(f"const bool is_inside = {place} < {count};")
        w.line(f"const {type} row = is_inside ? {place} : {self.made.number(self.count - 1)};")

    @contextmanager
    def _inside(self, *conditions: str) -> Iterator[None]:
        """Where something is stored: by rows that exist, and if all of these hold."""
        wanted = [c for c in ("" if self.is_whole else "is_inside", *conditions) if c]
        if not wanted:
            yield
            return
        with self.made.writer.block(f"if ({' && '.join(wanted)})"):
            yield

    # Stages ---------------------------------------------------------------------------------------

    def statements(self, body: Sequence[Statement]) -> None:
        """Write statements in order; stores for the row are written by its first lane."""
        place = 0
        while place < len(body):
            statement = body[place]
            if isinstance(statement, Reduce):
                self.reduce(statement)
            elif isinstance(statement, Loop):
                loops, inner = outer_loops([statement])
                if not is_flat(inner):
                    raise CodegenError("[cuda] loops along a row hold stores alone")
                self.along(loops, [s for s in inner if isinstance(s, (Store, Check))])
            else:
                single: list[Store | Check] = []
                while place < len(body) and isinstance(s := body[place], (Store, Check)):
                    single.append(s)
                    place += 1
                if not single:
                    raise CodegenError(f"[cuda] a row holds no {type(statement).__name__}")
                self.once(single)
                continue
            place += 1

    def once(self, statements: Sequence[Store | Check]) -> None:
        """Stores and checks for the row as a whole."""
        rewriting = self.interner.rewriting(self.replacements)
        made = [rewriting.flat(statement) for statement in statements]
        with self._inside("lane == 0" if self.layout.lanes > 1 else ""):
            emit_flat(self.made, self.emitter.fork(), made)

    def reduce(self, reduce: Reduce) -> None:
        """A reduction along the row; all lanes get its results."""
        loops = [v for v, _ in reduce.loops]
        point, replacements = self._point(loops)
        accumulators = self.interner.rewriting(replacements).reduce(reduce)
        running = [declare(self.made, accumulator) for accumulator in accumulators]

        def body(emitter: Expressions) -> None:
            emitter.plan(accumulator.value for accumulator in accumulators)
            for one in running:
                take(self.made, one, emitter)

        self.each(point, [a.value for a in accumulators], body)
        for one in running:
            if self.layout.reduction:
                share(self.made, one, self.layout.reduction)
                self.made.has_barriers |= not self.layout.reduction.startswith("lanes")
            self.emitter.refs[one.accumulator.name] = one.result
            if one.is_placed:
                self.emitter.refs[f"{one.accumulator.name}.value"] = f"{one.name}.value"

    def along(self, loops: list[LoopVar], statements: Sequence[Store | Check]) -> None:
        """Stores and checks at every point of the row."""
        point, replacements = self._point(loops)
        rewriting = self.interner.rewriting(replacements)
        made = [rewriting.flat(statement) for statement in statements]
        values = [value for s in made for value in values_of(s)]
        with self._inside():
            self.each(point, values, lambda emitter: emit_flat(self.made, emitter, made))

    def _point(self, loops: list[LoopVar]) -> tuple[LoopVar, dict[LoopVar, Index]]:
        """A variable over the points of loops along the row, and what the variables are there."""
        point = LoopVar("p", extent(loops))
        return point, {**self.replacements, **spread(Index.of(point), loops)}

    # Points of a row ------------------------------------------------------------------------------

    def each(
        self, point: LoopVar, values: Sequence[Expr], body: Callable[[Expressions], None]
    ) -> None:
        """Write `body` for every point that is this lane's.

        Args:
            values: what is computed there.
        """
        if self.part is not None:
            self._each_of_part(point, self.part, body)
            return
        w, lanes, size = self.made.writer, self.layout.lanes, point.extent
        steps = quotient(size, lanes)
        kept = {e: n for e, n in self.kept_values.items() if point in e.variables()}
        if size == 1 and lanes == 1:
            body(self.emitter.fork({point: "0"}))
        elif kept or (steps <= MOST_STEPS and lanes > 1 and not is_symbolic(steps)):
            with w.unrolled("s", steps):
                with w.constant("int", "p", f"lane + {lanes} * s" if lanes > 1 else "s"):
                    if steps * lanes != size:
                        with w.block(f"if (p < {size})"):
                            self._at(point, values, body, kept)
                    else:
                        self._at(point, values, body, kept)
        else:
            start, step = ("lane", f"p += {lanes}") if lanes > 1 else ("0", "++p")
            w.line("#pragma unroll 4")
            type = int_type(size)
            with w.block(f"for ({type} p = {start}; p < {self.made.number(size)}; {step})"):
                body(self.emitter.fork({point: "p"}))

    def _each_of_part(
        self, point: LoopVar, part: Part, body: Callable[[Expressions], None]
    ) -> None:
        """The same for the points of a part."""
        w, lanes = self.made.writer, self.layout.lanes
        type = int_type(point.extent + part.length)
        number = self.emitter.index(self.replacements[part.number])
        length, size = self.made.number(part.length), self.made.number(point.extent)
        w.line(f"const {type} start = {length} * {type}({number});")
        w.line(f"const {type} end = min(start + {length}, ({type}){size});")
        first, step = ("start + lane", f"p += {lanes}") if lanes > 1 else ("start", "++p")
        w.line("#pragma unroll 4")
        with w.block(f"for ({type} p = {first}; p < end; {step})"):
            body(self.emitter.fork({point: "p"}))

    def _at(
        self,
        point: LoopVar,
        values: Sequence[Expr],
        body: Callable[[Expressions], None],
        kept: dict[Expr, str],
    ) -> None:
        """One point: what was kept of it is there, what later stages need is kept."""
        emitter = self.emitter.fork({point: "p"})
        here = {e for value in values for e in value.walk()}
        for expr, name in kept.items():
            if expr in self.computed:
                emitter.provide(expr, f"{name}[s]")
        new = [e for e in kept if e in here and e not in self.computed]
        if new:
            emitter.plan(values)
        for expr in sorted(new, key=lambda e: sum(1 for _ in e.walk())):
            if not emitter.knows(expr) or not emitter.value(expr).endswith("[s]"):
                name = kept[expr]
                self.made.writer.line(f"{name}[s] = {bare(emitter.value(expr))};")
                emitter.provide(expr, f"{name}[s]")
        body(emitter)
        self.computed |= set(new)

    def keep_registers(self, body: Sequence[Statement]) -> None:
        """Decide which values of an element are kept for later stages, and declare them."""
        stages = list(self._stages(body))
        seen: set[Expr] = set()
        found: dict[Expr, LoopVar] = {}
        for point, values in stages:
            for value in values:
                for expr in _largest_known(value, seen, point):
                    found[expr] = point
            seen |= {e for value in values for e in value.walk()}
        if is_symbolic(*(v.extent for v in found.values())):
            return  # nobody knows how many registers
        steps = max((quotient(v.extent, self.layout.lanes) for v in found.values()), default=0)
        registers = sum(max(e.dtype.itemsize, 4) // 4 for e in found) * steps
        if not found or steps > MOST_STEPS or registers > MOST_REGISTERS:
            return
        for expr in found:
            name = self.made.writer.fresh("kept")
            self.kept_values[expr] = name
            self.made.writer.line(f"{register_type(expr.dtype)} {name}[{steps}];")

    def _stages(self, body: Sequence[Statement]) -> Iterator[tuple[LoopVar, list[Expr]]]:
        """The points and values of each stage that goes along the row."""
        for statement in body:
            if isinstance(statement, Reduce):
                point, replacements = self._point([v for v, _ in statement.loops])
                rewriting = self.interner.rewriting(replacements)
                yield point, [a.value for a in rewriting.reduce(statement)]
            elif isinstance(statement, Loop):
                loops, inner = outer_loops([statement])
                point, replacements = self._point(loops)
                rewriting = self.interner.rewriting(replacements)
                flat = [s for s in inner if isinstance(s, (Store, Check))]
                yield point, [v for s in flat for v in values_of(rewriting.flat(s))]


def _largest_known(value: Expr, seen: set[Expr], point: LoopVar) -> Iterator[Expr]:
    """The largest subexpressions that an earlier stage has computed for the same point."""
    waiting, visited = [value], set()
    while waiting:
        expr = waiting.pop()
        if expr in visited:
            continue
        visited.add(expr)
        if expr in seen and isinstance(expr, (Load, Apply, Philox)) and point in expr.variables():
            yield expr
        else:
            waiting += expr.parts()
