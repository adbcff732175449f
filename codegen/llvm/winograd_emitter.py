"""What both of Winograd's kernels are made from: areas of a thread's memory, and tiles of products.

In: a `KernelFunction` and one of the two schedules.  Out: pointers, and the function of a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import ContractionShape, Dim
from braze.codegen.llvm.control import Number, add, as_i64, decode, element_pointer, multiply
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction
from braze.codegen.llvm.microkernel import TileEmitter
from braze.codegen.llvm.schedule_contraction import Panels, Schedule
from braze.codegen.llvm.schedule_parts import Pieces
from braze.codegen.llvm.schedule_winograd import Axis, WinogradSchedule
from braze.codegen.llvm.schedule_winograd_gradient import WinogradGradientSchedule
from braze.codegen.llvm.tile import Tile, epilogue_buffers
from braze.codegen.llvm.types import F32, I8, I64, POINTER
from braze.codegen.llvm.winograd import RESULTS
from braze.codegen.llvm.winograd_patches import Bounds, internal_function
from braze.ir.dtypes import f32
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Ref, Store
from braze.ir.target import Target


class WinogradEmitter:
    """The frame of a kernel.

    Attributes:
        buffers, epilogue: what the epilogue reads and writes, and where it is.
        areas: the parts of the thread's memory that the schedule's `scratch_offsets` tell.
    """

    def __init__(
        self,
        frame: KernelFunction,
        plan: WinogradSchedule | WinogradGradientSchedule,
        target: Target,
        scratch_stride: int,
    ) -> None:
        self.frame, self.target = frame, target
        self.builder = builder = frame.builder
        self.buffers = epilogue_buffers(plan.contraction.stores)
        self.epilogue = [frame.pointer(buffer) for buffer in self.buffers]
        before = builder.mul(frame.thread, as_i64(scratch_stride))
        base = element_pointer(builder, frame.scratch(), before, I8)
        self.areas = [
            element_pointer(builder, base, place, I8) for place in plan.scratch_offsets[:-1]
        ]
        # In indices, of what the window's dimensions are in phases.
        self.phases = [LoopVar(f"phase {axis.tap.name}", axis.phases) for axis in plan.axes]
        self._contraction, self._lane = plan.contraction, plan.lane
        self._panels = Panels(plan.lanes, plan.width, plan.vectors)

    def _at(self, pointer: ir.Value, offset: Number) -> ir.Value:
        return element_pointer(self.builder, pointer, offset, F32)

    def _begin(self, axis: Axis, tile: Number) -> Number:
        """The place where a tile's results begin."""
        rows, first = decode(self.builder, tile, [axis.tiles // axis.dilation, axis.dilation])
        step = RESULTS * axis.dilation
        return add(self.builder, first, multiply(self.builder, rows, step))

    def _bounds(self, axes: tuple[Axis, Axis], phases: Sequence[Number]) -> tuple[Bounds, Bounds]:
        """Places that are in memory, of these phases down and across."""

        def chosen(values: Sequence[int], phase: Number) -> Number:
            found: Number = values[0]
            for number, value in enumerate(values):
                if value != found:
                    here = self.builder.icmp_signed("==", as_i64(phase), as_i64(number))
                    found = self.builder.select(here, as_i64(value), as_i64(found))
            return found

        def of(axis: Axis, phase: Number) -> Bounds:
            lows, highs = zip(*axis.bounds, strict=True)
            return chosen(lows, phase), chosen(highs, phase)

        return of(axes[0], phases[0]), of(axes[1], phases[1])

    def _tile_function(self, rows: int, step: int, inner: Dim, *, carried: bool) -> ir.Function:
        """A tile of a product: an ordinary one, of a contraction of factors.

        Args:
            rows: of the tile. step: from one to the next, in operand a.
            inner: what is summed over.
            carried: sums are added to in block after block, and stay where they are; otherwise they
                are stored, row by row.
        """
        panels = self._panels
        row, lane = LoopVar("row", rows), LoopVar("lane", panels.lanes)
        a, b = (Buffer(name, f32, 0, "in") for name in ("a", "b"))
        split, columns = Dim(row, step, 0), Dim(lane, 0, 1)
        blocks: tuple[Dim, ...] = ()
        stores: tuple[Store, ...] = ()
        if carried:
            blocks = (Dim(LoopVar("block", 2), 0, 0),)
        else:
            sums = Buffer("sums", f32, rows * panels.lanes, "out")
            index = Index.of(row) * panels.lanes + Index.of(lane)
            stores = (Store(sums, index, Ref("acc", f32)),)
        shape = ContractionShape(
            "product", (), (split,), (columns,), (*blocks, inner), a, 0, b, 0, f32, stores
        )
        schedule = Schedule(
            shape, "broadcast", columns, (), (), split, (), Pieces(rows, 1), panels, blocks,
            (inner,), inner.extent, "none", "none", (1, 1, 1),
        )  # fmt: skip
        tile = Tile(schedule, rows, panels.vectors, panels.width)
        return TileEmitter(self.frame.module, tile, self.target, f"{self.frame.symbol}_tile").emit()

    def _results_function(
        self, variables: Sequence[LoopVar]
    ) -> tuple[ir.Function, dict[LoopVar, ir.Value]]:
        """An empty function ``void results(ptr sums, ptr epilogue buffers..., i64 variables...)``,
        and the variables' values in it."""
        types: list[ir.Type] = [POINTER] * (1 + len(self.buffers)) + [I64] * len(variables)
        function = internal_function(self.frame, "results", types)
        numbers = function.args[1 + len(self.buffers) :]
        return function, dict(zip(variables, numbers, strict=True))

    def _store(
        self,
        function: ir.Function,
        builder: ir.IRBuilder,
        variables: Mapping[LoopVar, ir.Value],
        acc: ir.Value,
    ) -> None:
        """The epilogue of a vector of results, in that function."""
        names = (buffer.name for buffer in self.buffers)
        pointers = dict(zip(names, function.args[1:], strict=False))
        emitter = ExpressionEmitter(
            builder, self.target, width=self._panels.width, lane_var=self._lane,
            variables=variables, refs={"acc": acc}, pointer=lambda buffer: pointers[buffer.name],
        )  # fmt: skip
        for store in self._contraction.stores:
            emitter.store(store)
