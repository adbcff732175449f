"""How the threads of a block multiply what lies in shared memory, and where their results are.

In: a plan.  Out: C for the products of a stretch of the sum, and C around what is done with each
result. `PlainProducts` gives each thread a few rows and columns in registers. `TensorProducts`
gives each warp a piece on tensor cores, whose results go through shared memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from braze.codegen.cuda.contraction_operand import Operand
from braze.codegen.cuda.contraction_plan import Plan
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.types import literal, memory_type, register_type
from braze.ir.dtypes import DType, f32


@dataclass(frozen=True, slots=True)
class Result:
    """A result, or some neighbouring ones, at one place of the code: C expressions.

    Attributes:
        row, column: within the tile, of the first one.
        value: with ``l`` for which of them it is.
    """

    row: str
    column: str
    value: str


ForEach = Callable[[Result], None]


class PlainProducts:
    """Products by ordinary instructions, in the dtype of the sum."""

    def __init__(
        self, made: KernelWriter, plan: Plan, dtype: DType, operands: Sequence[Operand]
    ) -> None:
        self.made = made
        self.plan = plan
        self.dtype = dtype
        self.turns = [operand.swizzle("k / 8") for operand in operands]
        self.type = register_type(dtype)
        tile = plan.tile
        most = max(16 // dtype.itemsize, 1)
        self.row_group = min(most, tile.thread_rows)
        self.column_group = min(most, tile.thread_columns)
        self.across = tile.columns // tile.thread_columns

    @property
    def widest(self) -> int:
        """Neighbouring columns that a thread has."""
        return self.column_group

    def place(self, thread: str) -> None:
        """Declare where the results of a thread are, given its number."""
        w = self.made.writer
        w.line(f"const int thread_row = {thread} / {self.across};")
        w.line(f"const int thread_column = {thread} % {self.across};")

    def declare(self) -> None:
        w, tile = self.made.writer, self.plan.tile
        self.place("threadIdx.x")
        w.line(f"{self.type} acc[{tile.thread_rows}][{tile.thread_columns}];")
        with w.unrolled("i", tile.thread_rows), w.unrolled("j", tile.thread_columns):
            w.line(f"acc[i][j] = {literal(0, self.dtype)};")

    def multiply(self) -> None:
        """Add the products of the stretch in ``tile[at]``."""
        w, tile = self.made.writer, self.plan.tile
        self.made.use("Pack")
        rows, columns = self.row_group, self.column_group
        with w.unrolled("k", tile.depth):
            w.line(f"Pack<{self.type}, {rows}> a[{tile.thread_rows // rows}];")
            w.line(f"Pack<{self.type}, {columns}> b[{tile.thread_columns // columns}];")
            for x, size, count, place, turn in (
                ("a", rows, tile.thread_rows, self._row("g"), self.turns[0]),
                ("b", columns, tile.thread_columns, self._column("g"), self.turns[1]),
            ):
                place = f"(({place}) ^ ({turn}))" if turn else place
                with w.unrolled("g", count // size):
                    w.line(f"{x}[g] = load_pack<{size}>({x}_tile[at][k] + {place});")
            with w.unrolled("i", tile.thread_rows), w.unrolled("j", tile.thread_columns):
                x, y = f"a[i / {rows}].at[i % {rows}]", f"b[j / {columns}].at[j % {columns}]"
                if self.dtype.is_floating_point:
                    w.line(f"acc[i][j] += {x} * {y};")
                else:
                    self.made.use("Sum")
                    self.made.use("Product")
                    w.line(f"acc[i][j] = Sum()(acc[i][j], Product()({x}, {y}));")

    def _row(self, group: str) -> str:
        """The first of a thread's rows in a group."""
        tile = self.plan.tile
        step = tile.rows // (tile.thread_rows // self.row_group)
        own = f"{self.row_group} * thread_row" if self.row_group > 1 else "thread_row"
        return own if tile.thread_rows == self.row_group else f"{step} * {group} + {own}"

    def _column(self, group: str) -> str:
        tile = self.plan.tile
        step = tile.columns // (tile.thread_columns // self.column_group)
        own = f"{self.column_group} * thread_column" if self.column_group > 1 else "thread_column"
        return own if tile.thread_columns == self.column_group else f"{step} * {group} + {own}"

    def each(self, width: int, body: ForEach) -> None:
        """Write `body` for all results, `width` neighbours at a time."""
        w, tile = self.made.writer, self.plan.tile
        groups = tile.thread_columns // self.column_group
        with w.unrolled("i", tile.thread_rows):
            if tile.thread_rows == self.row_group:
                row = f"{self._row('0')} + i"
            else:
                row = f"{self._row(f'(i / {self.row_group})')} + i % {self.row_group}"
            with w.unrolled("j", groups * (self.column_group // width)):
                per_group = self.column_group // width
                if per_group == 1:
                    column = self._column("j")
                else:
                    column = f"{self._column(f'(j / {per_group})')} + {width} * (j % {per_group})"
                place = "j" if width == 1 else f"{width} * j + l"
                body(Result(row, column, f"acc[i][{place}]"))


class TensorProducts:
    """Products on tensor cores."""

    widest = 4

    def __init__(self, made: KernelWriter, plan: Plan, operands: Sequence[Operand]) -> None:
        self.made = made
        self.plan = plan
        self.operands = operands
        self.type = memory_type(plan.element)
        tile = plan.tile
        self.rows, self.columns = tile.thread_rows // 16, tile.thread_columns // 16
        self.across = tile.columns // tile.thread_columns
        made.use("tensor_tf32" if plan.element is f32 else "tensor")

    def place(self, thread: str) -> None:
        """Declare where the results of a thread's warp are, given the thread's number."""
        w = self.made.writer
        w.line(f"const int warp = {thread} / 32;")
        w.line(f"const int warp_row = warp / {self.across} * {self.plan.tile.thread_rows};")
        w.line(f"const int warp_column = warp % {self.across} * {self.plan.tile.thread_columns};")

    def declare(self) -> None:
        w = self.made.writer
        orders = ", ".join(str(operand.k_is_last).lower() for operand in self.operands)
        w.line(f"typedef Tensor<{self.type}, {orders}> Tensors;")
        self.place("threadIdx.x")
        w.line(f"Tensors::C acc[{self.rows}][{self.columns}];")
        with w.unrolled("i", self.rows), w.unrolled("j", self.columns):
            w.line("Tensors::clear(acc[i][j]);")

    def multiply(self) -> None:
        w, tile = self.made.writer, self.plan.tile
        # Factors in TF32 are large: registers are for those of one step.
        w.line("#pragma unroll 1" if self.plan.element is f32 else "#pragma unroll")
        with w.block(f"for (int k = 0; k < {tile.depth}; k += Tensors::depth)"):
            w.line(f"Tensors::A a[{self.rows}];")
            w.line(f"Tensors::B b[{self.columns}];")
            for operand, count, first in zip(
                self.operands, (self.rows, self.columns), ("warp_row", "warp_column"), strict=True
            ):
                x, (_, pitch) = operand.letter, operand.tile_shape
                place = f"[k] + {first} + 16 * g"
                if operand.k_is_last:
                    place = f"[{first} + 16 * g] + k"
                with w.unrolled("g", count):
                    w.line(f"Tensors::load({x}[g], {x}_tile[at]{place}, {pitch});")
            with w.unrolled("i", self.rows), w.unrolled("j", self.columns):
                w.line("Tensors::multiply(acc[i][j], a[i], b[j]);")

    def each(self, width: int, body: ForEach) -> None:
        w = self.made.writer
        warps = self.plan.tile.threads // 32
        # In place of the tile.
        assert self.operands[0].tile_bytes * 2 >= warps * 1024
        w.line("__syncthreads();")
        type = f"float (&)[{warps}][256]"
        w.line(f"auto& pieces = reinterpret_cast<{type}>(a_tile);")
        with w.unrolled("i", self.rows), w.unrolled("j", self.columns):
            w.line("Tensors::store(pieces[warp], acc[i][j]);")
            w.line("__syncwarp();")
            with w.unrolled("e", 8 // width):
                w.line(f"const int place = {width} * (thread % 32 + 32 * e);")
                row = "warp_row + 16 * i + place / 16"
                column = "warp_column + 16 * j + place % 16"
                value = "pieces[warp][place]" if width == 1 else "pieces[warp][place + l]"
                body(Result(row, column, value))
            w.line("__syncwarp();")
