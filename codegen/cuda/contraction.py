"""Contractions in tiles: products of matrices, and convolutions as products of a matrix that is
never made.

In: a `Contraction`.  Out: one launch, or two where the sum is cut into parts. A block computes a
tile of results. While its threads multiply one stretch of the sum in shared memory, the next ones
are on their way there: by themselves, or the next one through registers (see `Operand`). The
epilogue's stores are those of an elementwise kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from braze.codegen.cuda.contraction_operand import Operand, tile_type
from braze.codegen.cuda.contraction_plan import Plan, plan_of, stages, turned
from braze.codegen.cuda.contraction_products import PlainProducts, Result, TensorProducts
from braze.codegen.cuda.contraction_rows import rows_of_products
from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.grid import extent, is_multiple, spread
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.lanes import emit_lanes
from braze.codegen.cuda.packs import fits
from braze.codegen.cuda.pointwise import emit_pointwise
from braze.codegen.cuda.rows import emit_rows
from braze.codegen.cuda.types import is_narrow_float
from braze.ir.cuda_program import SHARED_BYTES
from braze.ir.index import Index, LoopVar, flatten
from braze.ir.loops import (
    Accumulator,
    Apply,
    Buffer,
    Const,
    Contraction,
    Expr,
    Load,
    Reduce,
    Ref,
    Store,
)
from braze.ir.symint import is_symbolic

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit


def emit_contraction(kernel: Contraction, unit: Unit) -> None:
    """The launches of a contraction."""
    outer = list(kernel.dims[: len(kernel.dims) - kernel.inner])
    if extent(outer) == 0:
        return
    if extent(list(kernel.dims[len(outer) :])) == 0:
        emit_pointwise(outer, _without_sum(kernel), unit)
        return
    kernel = turned(kernel)
    plan = plan_of(kernel, unit.target, unit.decide)
    if plan is None:
        emit_rows(*rows_of_products(kernel), unit)
        return
    stores = kernel.stores
    partial: Buffer | None = None
    if plan.parts > 1:
        numel = plan.parts * plan.batch * plan.rows * plan.columns
        partial = unit.workspace(kernel.dtype, numel)
        stores = [_store_of_part(plan, partial, kernel)]
    _Tiles(kernel, plan, stores, unit).emit("parts" if partial else "")
    if partial is not None:
        _emit_total(kernel, plan, partial, unit)


def _without_sum(kernel: Contraction) -> list[Store]:
    """The stores of sums of no terms."""
    zero = Const(0, kernel.dtype)
    found = []
    for store in kernel.stores:
        made: dict[Expr, Expr] = {}
        for expr in store.value.walk():
            made[expr] = zero if isinstance(expr, Ref) else expr
            if isinstance(expr, Apply):
                made[expr] = Apply(expr.op, tuple(made[a] for a in expr.arguments), expr.dtype)
        found.append(Store(store.buffer, store.index, made[store.value], store.guard))
    return found


def _flat(plan: Plan) -> Index:
    """The number of a result: batch, row, column, the last varying fastest."""
    roles = plan.roles
    variables = [*roles.batch, *roles.rows, *roles.columns]
    return flatten(tuple(map(Index.of, variables)), tuple(v.extent for v in variables))


PART = "part"
# Of blocks of this many threads two share a multiprocessor, if each thread has 128 registers. (For
# sm_75 these are too few, and where more elements than `FEW_WAITING` wait in registers, with an
# address each.) Others are said to need one: of themselves, compilers spill a little to fit more.
TWO_AT_A_TIME = 256
FEW_WAITING = 8


def _store_of_part(plan: Plan, partial: Buffer, kernel: Contraction) -> Store:
    """Where a part's sum goes."""
    part = LoopVar(PART, plan.parts)
    size = plan.batch * plan.rows * plan.columns
    return Store(partial, Index.of(part) * size + _flat(plan), Ref("acc", kernel.dtype))


def _emit_total(kernel: Contraction, plan: Plan, partial: Buffer, unit: Unit) -> None:
    """Add the parts up, and store."""
    part = LoopVar(PART, plan.parts)
    size = plan.batch * plan.rows * plan.columns
    value = Load(partial, Index.of(part) * size + _flat(plan))
    total = Accumulator("acc", "sum", value)
    roles = plan.roles
    outer = [*roles.batch, *roles.rows, *roles.columns]
    emit_rows(outer, [Reduce(((part, "serial"),), (total,)), *kernel.stores], unit)


class _Tiles:
    """Writes the launch of a block for each tile."""

    def __init__(
        self, kernel: Contraction, plan: Plan, stores: Sequence[Store], unit: Unit
    ) -> None:
        self.kernel = kernel
        self.plan = plan
        self.stores = stores
        self.unit = unit
        self.made: KernelWriter = unit.writer(plan.tile.threads)
        if plan.blocks >= 2**31:
            raise CodegenError(f"[cuda] a contraction of {plan.blocks} tiles is too large")
        self.operands = [
            Operand(self.made, kernel, plan, letter, is_left=letter == "a") for letter in "ab"
        ]
        nbytes = sum(operand.tile_bytes for operand in self.operands)
        is_async = any(operand.is_async for operand in self.operands)
        self.stages = stages(plan, unit.target, nbytes) if is_async else 2
        # What no function has without asking for it is dynamic.
        self.shared_bytes = nbytes * self.stages if nbytes * self.stages > SHARED_BYTES else 0
        self.products: PlainProducts | TensorProducts
        if plan.tile.method == "tensor":
            self.products = TensorProducts(self.made, plan, self.operands)
        else:
            self.products = PlainProducts(self.made, plan, kernel.dtype, self.operands)

    def emit(self, suffix: str) -> None:
        made, plan = self.made, self.plan
        w, tile = made.writer, plan.tile
        made.has_barriers = True
        waiting = sum(operand.waiting for operand in self.operands)
        has_two = tile.threads == TWO_AT_A_TIME and waiting <= FEW_WAITING
        made.blocks = 2 if has_two and made.target.capability >= 80 else 1
        self._tiles()
        variables = self._place("blockIdx.x")
        if plan.parts > 1:
            w.line(f"const int start = part * {made.number(plan.part)};")
            w.line(
                f"const int end = min(start + {made.number(plan.part)}, {made.number(plan.inner)});"
            )
        emitter = made.expressions(variables)
        for operand, first in zip(self.operands, ("first_row", "first_column"), strict=True):
            operand.declare(emitter, first)
        self.products.declare()
        end = self._ends()
        with w.block("auto fetch = [&](int k0, int to)"):
            for operand in self.operands:
                operand.fetch(emitter.fork(), end)
        w.lines[-1] += ";"
        if not all(operand.is_async for operand in self.operands):
            with w.block("auto keep = [&](int to)"):
                for operand in self.operands:
                    operand.keep()
            w.lines[-1] += ";"
        start, stop = ("start", "end") if plan.parts > 1 else ("0", made.number(plan.inner))
        self._loop(start, stop)
        self._epilogue()
        self.unit.launch(
            made,
            (plan.blocks, 1, 1),
            (tile.threads, 1, 1),
            suffix=suffix,
            shared_bytes=self.shared_bytes,
        )

    def _tiles(self) -> None:
        """Declare the tiles in shared memory, one behind the other."""
        made, type = self.made, tile_type(self.plan)
        w = made.writer
        shapes = [(self.stages, *operand.tile_shape) for operand in self.operands]
        if self.shared_bytes:
            w.line("extern __shared__ __align__(128) unsigned char tiles[];")
        at = 0
        for operand, shape in zip(self.operands, shapes, strict=True):
            x, sizes = operand.letter, "".join(f"[{n}]" for n in shape)
            if self.shared_bytes:
                bits = f"tiles[{at}]"
                at += self.stages * operand.tile_bytes
            elif is_narrow_float(self.plan.element) and type != "float":
                # of a class, with a constructor
                bits = f"{x}_bits"
                w.line(f"__shared__ __align__(32) unsigned short {bits}{sizes};")
            else:
                w.line(f"__shared__ __align__(32) {type} {x}_tile{sizes};")
                continue
            w.line(f"auto& {x}_tile = reinterpret_cast<{type} (&){sizes}>({bits});")

    def _loop(self, start: str, stop: str) -> None:
        """The sum: in each turn a stretch is multiplied, and another one is sent for, which takes
        the place of the stretch before."""
        w, depth, ahead = self.made.writer, self.plan.tile.depth, self.stages - 1
        are_async = [operand.is_async for operand in self.operands]

        def bring(k0: str, to: str) -> None:
            w.line(f"if ({k0} < {stop}) fetch({k0}, {to});")

        def keep(k0: str, to: str) -> None:
            if not all(are_async):
                w.line(f"if ({k0} < {stop}) keep({to});")

        def end_copies() -> None:
            if any(are_async):
                w.line("end_copies();")

        with w.unrolled("s", ahead):
            k0 = f"{start} + {depth} * s" if start != "0" else f"{depth} * s"
            bring(k0, "s")
            keep(k0, "s")
            end_copies()
        w.line("int at = 0;")
        if self.plan.element.itemsize == 8:
            # Written out, as compilers do with a short sum, its stretches wait for each other in
            # more registers than there are.
            w.line("#pragma unroll 1")
        with w.block(f"for (int k0 = {start}; k0 < {stop}; k0 += {depth})"):
            if any(are_async):
                w.line(f"wait_for_copies<{ahead - 1}>();")
            w.line("__syncthreads();")
            w.line(f"const int next = k0 + {depth * ahead}, to = at == 0 ? {ahead} : at - 1;")
            bring("next", "to")
            end_copies()
            self.products.multiply()
            keep("next", "to")
            w.line(f"at = at == {ahead} ? 0 : at + 1;")

    def _place(self, block: str) -> dict[LoopVar, str]:
        """Which tile this block computes, of which batch and part of the sum, by its number."""
        w, plan, number = self.made.writer, self.plan, self.made.number
        across, down = number(plan.column_tiles), number(plan.row_tiles)
        w.line(f"const int first_column = {block} % {across} * {plan.tile.columns};")
        w.line(f"const int first_row = {block} / {across} % {down} * {plan.tile.rows};")
        rest = f"{block} / {number(plan.column_tiles * plan.row_tiles)}"
        variables = {LoopVar("batch", plan.batch): "0", LoopVar(PART, plan.parts): "0"}
        if plan.batch > 1:
            w.line(f"const int batch = {rest} % {number(plan.batch)};")
            variables[LoopVar("batch", plan.batch)] = "batch"
        if plan.parts > 1:
            tiles = number(plan.column_tiles * plan.row_tiles * plan.batch)
            w.line(f"const int part = {block} / {tiles};")
            variables[LoopVar(PART, plan.parts)] = "part"
        return variables

    def _ends(self) -> str | None:
        """Where a block's sum ends, if its last stretch goes beyond."""
        plan = self.plan
        if is_multiple(plan.inner, plan.tile.depth) and (
            plan.parts == 1 or not is_symbolic(plan.inner)
        ):
            return None
        return "end" if plan.parts > 1 else self.made.number(plan.inner)

    def _epilogue(self) -> None:
        """Store the results. Where they go is computed anew, so that it takes no registers in the
        loop before."""
        made = self.made
        made.use("again")
        with made.writer.block():
            made.writer.line("const int thread = thread_again(), block = block_again();")
            variables = self._place("block")
            self.products.place("thread")
            self._store(made.expressions(variables))

    def _store(self, emitter: Expressions) -> None:
        made, plan = self.made, self.plan
        width = self._width()
        statements, row, column, lane = self._statements(width)
        conditions = []
        if not is_multiple(plan.rows, plan.tile.rows):
            conditions.append(f"row < {made.number(plan.rows)}")
        if not is_multiple(plan.columns, plan.tile.columns):
            conditions.append(f"column < {made.number(plan.columns // width)}")

        def body(result: Result) -> None:
            made.writer.line(f"const int row = first_row + {result.row};")
            text = f"first_column + {result.column}"
            made.writer.line(f"const int column = {f'({text}) / {width}' if width > 1 else text};")
            inner = emitter.fork({row: "row", column: "column"}, {"acc": result.value})
            if conditions:
                with made.writer.block(f"if ({' && '.join(conditions)})"):
                    emit_lanes(made, inner, statements, lane)
            else:
                emit_lanes(made, inner, statements, lane)

        self.products.each(width, body)

    def _statements(self, width: int) -> tuple[list[Store], LoopVar, LoopVar, LoopVar]:
        """The stores over rows and packs of columns."""
        plan = self.plan
        row = LoopVar("row", plan.rows)
        column = LoopVar("column", plan.columns // width)
        lane = LoopVar("l", width)
        place = Index.of(column) * width + Index.of(lane)
        replacements = {
            **spread(Index.of(LoopVar("batch", plan.batch)), list(plan.roles.batch)),
            **spread(Index.of(row), list(plan.roles.rows)),
            **spread(place, list(plan.roles.columns)),
        }
        rewriting = Interner().rewriting(replacements)
        return [rewriting.store(store) for store in self.stores], row, column, lane

    def _width(self) -> int:
        """How many neighbouring columns are stored at once."""
        width = self.products.widest
        while width > 1:
            if is_multiple(self.plan.columns, width):
                statements, _, _, lane = self._statements(width)
                if fits(statements, lane, width, self.made.alignment):
                    return width
            width //= 2
        return 1
