"""Scatters: stores to places that data choose.

In: loops that store what is scattered into, and loops that add, write or combine updates.
Out: a launch for each, and where updates overwrite each other, one more: of several updates to a
place the last one stays, so the number of the last is found first. Additions and combinations
change their element atomically; the order in which floats are added is not determined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.grid import THREADS, blocks_for, each_of_grid, extent, spread
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.operations import apply_operation
from braze.codegen.cuda.pointwise import emit_pointwise
from braze.codegen.cuda.statements import is_flat, loads_of, outer_loops, values_of
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import (
    from_memory,
    memory_type,
    register_type,
    to_memory,
)
from braze.ir.dtypes import f32, f64, i32, i64, u32, u64
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Check, Load, Loop, Nest, Statement, Store
from braze.ir.op import op_named

if TYPE_CHECKING:
    from braze.codegen.cuda.expressions import Expressions
    from braze.codegen.cuda.generate import Unit
    from braze.codegen.cuda.kernel import KernelWriter

UpdateBody = Callable[["KernelWriter", "Expressions", Store], None]
# Bytes that are swapped at least.
WORD = 4
_NATIVE = (f32, f64, i32, u32, i64, u64)


def emit_scatter(nest: Nest, unit: Unit) -> None:
    """The launches of a scatter."""
    for number, (loops, body) in enumerate(_pieces([], nest.body)):
        suffix = str(number) if number else ""
        store = body[0]
        if len(body) == 1 and isinstance(store, Store) and _is_update(store):
            _emit_updates(loops, store, unit, suffix)
        else:
            emit_pointwise(loops, [s for s in body if isinstance(s, (Store, Check))], unit, suffix)


def _pieces(
    outer: list[LoopVar], statements: list[Statement]
) -> Iterator[tuple[list[LoopVar], list[Statement]]]:
    """The loops side by side, each with those around it."""
    for statement in statements:
        loops, body = outer_loops([statement])
        if is_flat(body):
            yield [*outer, *loops], body
        elif isinstance(statement, Loop):
            yield from _pieces([*outer, *loops], body)
        else:
            raise CodegenError(f"[cuda] a scatter holds no {type(statement).__name__}")


def _is_update(store: Store) -> bool:
    return store.accumulate or store.is_scatter or bool(_reads_itself(store))


def _reads_itself(store: Store) -> list[Load]:
    """The loads by which an update is combined with the element that it replaces."""
    return [x for x in loads_of([store.value]) if x.buffer.name == store.buffer.name]


def _emit_updates(loops: list[LoopVar], store: Store, unit: Unit, suffix: str) -> None:
    if store.accumulate or _reads_itself(store):
        unit.pad(store.buffer, WORD)
        _emit_points(loops, store, unit, suffix, _change)
        return
    size = extent(loops)
    if size >= 2**31:
        raise CodegenError(f"[cuda] a scatter of {size} updates is too large")
    last = unit.workspace(i32, store.buffer.numel)
    unit.fill(last, 0xFF)

    def find(made: KernelWriter, emitter: Expressions, own: Store) -> None:
        place = emitter.index(own.index)
        made.writer.line(f"atomicMax({made.pointer(last)} + {place}, i);")

    def write(made: KernelWriter, emitter: Expressions, own: Store) -> None:
        place = emitter.index(own.index)
        text = bare(emitter.stored(own))
        line = f"{made.pointer(own.buffer)}[{place}] = {text};"
        made.writer.line(f"if ({made.pointer(last)}[{place}] == i) {line}")

    _emit_points(loops, store, unit, f"{suffix}_last".lstrip("_"), find)
    _emit_points(loops, store, unit, suffix, write)


def _emit_points(
    loops: list[LoopVar], store: Store, unit: Unit, suffix: str, body: UpdateBody
) -> None:
    """A launch with a thread for each update."""
    size = extent(loops)
    if size == 0:
        return
    made = unit.writer(THREADS)
    point = LoopVar("i", size)
    own = Interner().rewriting(spread(Index.of(point), loops)).store(store)
    blocks = blocks_for(size, THREADS)
    with made.writer.block(each_of_grid(size, made)):
        emitter = made.expressions({point: "i"})
        emitter.plan(values_of(own))
        condition = emitter.condition(own.guard)
        if condition:
            with made.writer.block(f"if ({condition})"):
                body(made, emitter.fork(), own)
        else:
            body(made, emitter, own)
    unit.launch(made, (blocks, 1, 1), (THREADS, 1, 1), suffix=suffix)


def _change(made: KernelWriter, emitter: Expressions, store: Store) -> None:
    """Add the update to its element, or combine it in another way."""
    buffer, dtype = store.buffer, store.buffer.dtype
    if store.accumulate:
        text = emitter.value(store.value)
        at = f"{made.pointer(buffer)} + {emitter.index(store.index)}"
        if dtype in _NATIVE:
            made.use("atomic_add")
            made.writer.line(f"atomic_add({at}, {bare(text)});")
            return
        update = emitter.named(text, dtype)
        new = apply_operation(op_named("add"), ("x", update), (dtype, dtype), dtype, made.use)
    else:
        at = f"{made.pointer(buffer)} + {emitter.index(store.index)}"
        value = store.value
        assert isinstance(value, Apply)
        operands = []
        for argument in value.arguments:
            is_old = isinstance(argument, Load) and argument.buffer.name == buffer.name
            operands.append("x" if is_old else emitter.named(emitter.value(argument), dtype))
        new = apply_operation(
            value.op, tuple(operands), tuple(a.dtype for a in value.arguments), dtype, made.use
        )
    made.use("atomic_change")
    type = memory_type(dtype)
    widened = from_memory("old", dtype)
    with made.writer.block(f"atomic_change({at}, [=]({type} old)"):
        made.writer.line(f"const {register_type(dtype)} x = {bare(widened)};")
        made.writer.line(f"return {bare(to_memory(bare(new), dtype))};")
    made.writer.lines[-1] += ");"
