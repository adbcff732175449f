"""Sorts: rows put in order, and stores for each rank.

In: a `Sort`.  Out: one launch where a row fits into a block's shared memory, which is sorted there
by a network. Longer rows are sorted in stretches, which are then merged two by two: each key finds
its rank in the other stretch by binary search. So all threads have something to do at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.grid import (
    MOST_BLOCKS,
    THREADS,
    WARP,
    each_of_grid,
    extent,
    power_of_two,
    spread,
)
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.lanes import emit_flat
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import placed_types, register_type
from braze.ir.dtypes import u8
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Sort

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit
    from braze.codegen.cuda.kernel import KernelWriter

# Keys that a block sorts in shared memory: with their places 16 bytes each, at most.
MOST_KEYS = 2048
MOST_THREADS = 512


class _Plan:
    """How a sort's keys are shared out among blocks."""

    def __init__(self, kernel: Sort) -> None:
        self.kernel = kernel
        self.rows = extent(list(kernel.rows))
        self.length = int(kernel.along.extent)
        self.wanted = int(kernel.rank.extent)
        self.run = min(power_of_two(self.length), MOST_KEYS)
        self.runs = -(-self.length // self.run)
        self.rows_of_block = 1
        if self.runs == 1:
            most = max(MOST_THREADS // self.run, 1)
            self.rows_of_block = min(most, power_of_two(self.rows))
        keys = self.run * self.rows_of_block
        self.threads = min(max(keys // 2, WARP), MOST_THREADS)
        self.type = f"Key<{', '.join(placed_types(kernel.key.dtype, self.length))}>"
        self.order = "Descending()" if kernel.descending else "Ascending()"


def emit_sort(kernel: Sort, unit: Unit) -> None:
    """The launches of a sort."""
    plan = _Plan(kernel)
    if plan.rows == 0 or plan.wanted == 0 or plan.length == 0:
        return
    if plan.rows * plan.length >= 2**31:
        raise CodegenError(f"[cuda] a sort of {plan.rows * plan.length} keys is too large")
    if plan.runs == 1:
        _emit_blocks(plan, unit, None)
        return
    size = 16 if kernel.key.dtype.itemsize == 8 else 8
    buffers = [unit.workspace(u8, plan.rows * plan.length * size) for _ in range(2)]
    _emit_blocks(plan, unit, buffers[0])
    width, source, goal = plan.run, *buffers
    while width < plan.length:
        _emit_merge(plan, unit, source, goal, width)
        width, source, goal = 2 * width, goal, source
    _emit_stores(plan, unit, source)


def _emit_blocks(plan: _Plan, unit: Unit, goal: Buffer | None) -> None:
    """Each block sorts a stretch of a row, or some whole rows, and stores the result."""
    made = unit.writer(plan.threads)
    w, run, per_block = made.writer, plan.run, plan.rows_of_block
    keys = run * per_block
    blocks = plan.rows * plan.runs if goal is not None else -(-plan.rows // per_block)
    made.use("bitonic_sort")
    w.line(f"__shared__ {plan.type} keys[{keys}];")
    with w.block(f"for (int k = threadIdx.x; k < {keys}; k += {plan.threads})"):
        if plan.runs > 1:
            w.line(f"const int row = blockIdx.x / {plan.runs};")
            w.line(f"const int place = blockIdx.x % {plan.runs} * {run} + k;")
            inside = [f"place < {plan.length}"]
        else:
            w.line(f"const int row = blockIdx.x * {per_block} + k / {run}, place = k % {run};")
            inside = [f"place < {plan.length}"] if plan.length < run else []
            inside += [f"row < {plan.rows}"] if plan.rows % per_block else []
        w.line(f"{plan.type} key;")
        w.line("key.value = 0;")
        w.line("key.place = -1;")
        with w.block(f"if ({' && '.join(inside)})" if inside else ""):
            w.line(f"key.value = {_key(plan, made)};")
            w.line("key.place = place;")
        w.line("keys[k] = key;")
    w.line(f"bitonic_sort<{run}, {per_block}, {plan.threads}>(keys, {plan.order});")
    made.has_barriers = True
    if goal is not None:
        out = f"reinterpret_cast<{plan.type}*>({made.pointer(goal)})"
        with w.block(f"for (int k = threadIdx.x; k < {run}; k += {plan.threads})"):
            w.line(f"const int row = blockIdx.x / {plan.runs};")
            w.line(f"const int place = blockIdx.x % {plan.runs} * {run} + k;")
            w.line(f"if (place < {plan.length}) {out}[row * {plan.length} + place] = keys[k];")
        unit.launch(made, (blocks, 1, 1), (plan.threads, 1, 1), suffix="runs")
        return
    with w.block(f"for (int k = threadIdx.x; k < {per_block * plan.wanted}; k += {plan.threads})"):
        w.line(f"const int in_block = k / {plan.wanted}, rank = k % {plan.wanted};")
        w.line(f"const int row = blockIdx.x * {per_block} + in_block;")
        if plan.rows % per_block:
            with w.block(f"if (row < {plan.rows})"):
                _store(plan, made, f"keys[in_block * {run} + rank]")
        else:
            _store(plan, made, f"keys[in_block * {run} + rank]")
    unit.launch(made, (blocks, 1, 1), (plan.threads, 1, 1))


def _key(plan: _Plan, made: KernelWriter) -> str:
    """The key at `row` and `place`."""
    kernel = plan.kernel
    row, place = LoopVar("row", plan.rows), LoopVar("place", plan.length)
    replacements = spread(Index.of(row), list(kernel.rows)) | {kernel.along: Index.of(place)}
    value = Interner().rewriting(replacements).expr(kernel.key)
    emitter = made.expressions({row: "row", place: "place"})
    emitter.plan([value])
    return bare(emitter.value(value))


def _store(plan: _Plan, made: KernelWriter, key: str) -> None:
    """The stores for `rank` of `row`."""
    kernel = plan.kernel
    made.writer.line(f"const {plan.type} key = {key};")
    row, rank = LoopVar("row", plan.rows), LoopVar("rank", plan.wanted)
    replacements = spread(Index.of(row), list(kernel.rows)) | {kernel.rank: Index.of(rank)}
    rewriting = Interner().rewriting(replacements)
    value = f"({register_type(kernel.key.dtype)})key.value"
    refs = {"key": value, "position": "(long long)key.place"}
    emitter = made.expressions({row: "row", rank: "rank"}, refs)
    emit_flat(made, emitter, [rewriting.store(store) for store in kernel.stores])


def _emit_merge(plan: _Plan, unit: Unit, source: Buffer, goal: Buffer, width: int) -> None:
    """Each two neighbouring stretches of `width` keys become one."""
    made = unit.writer(THREADS)
    made.use("rank_in")
    w, size = made.writer, plan.rows * plan.length
    with w.block(each_of_grid(size, made)):
        w.line(f"const auto* from = reinterpret_cast<const {plan.type}*>({made.pointer(source)});")
        w.line(f"auto* to = reinterpret_cast<{plan.type}*>({made.pointer(goal)});")
        w.line(f"const int row = i / {plan.length}, place = i % {plan.length};")
        w.line(f"const int start = place / {2 * width} * {2 * width};")
        w.line(f"const int middle = min(start + {width}, {plan.length});")
        w.line(f"const int end = min(start + {2 * width}, {plan.length});")
        w.line(f"const {plan.type} key = from[i];")
        w.line("const bool is_left = place < middle;")
        w.line("const int other = is_left ? middle : start;")
        w.line("const int count = is_left ? end - middle : middle - start;")
        base = f"row * {plan.length}"
        w.line(f"const int rank = rank_in(from + {base} + other, count, key, {plan.order});")
        w.line(f"to[{base} + place - (is_left ? 0 : middle - start) + rank] = key;")
    blocks = min(-(-size // THREADS), MOST_BLOCKS)
    unit.launch(made, (blocks, 1, 1), (THREADS, 1, 1), suffix=f"merge_{width}")


def _emit_stores(plan: _Plan, unit: Unit, source: Buffer) -> None:
    """The stores for each rank of rows that are in order."""
    made = unit.writer(THREADS)
    made.use("Key")
    size = plan.rows * plan.wanted
    with made.writer.block(each_of_grid(size, made)):
        made.writer.line(f"const int row = i / {plan.wanted}, rank = i % {plan.wanted};")
        keys = f"reinterpret_cast<const {plan.type}*>({made.pointer(source)})"
        _store(plan, made, f"{keys}[row * {plan.length} + rank]")
    blocks = min(-(-size // THREADS), MOST_BLOCKS)
    unit.launch(made, (blocks, 1, 1), (THREADS, 1, 1))
