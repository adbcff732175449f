"""Stores and checks at one point, or at some neighbouring points of one thread.

In: statements, and an emitter that knows where they are.  Out: C. All that is needed is loaded
before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.kernel import STATUS, KernelWriter
from braze.codegen.cuda.packs import shape_of
from braze.codegen.cuda.statements import loads_of, values_of
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import from_memory, pack_type, to_memory
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Check, Expr, Load, Ref, Store

Flat = Store | Check


def emit_lanes(
    made: KernelWriter, emitter: Expressions, statements: Sequence[Flat], lane: LoopVar
) -> None:
    """Stores and checks at the emitter's point, for all elements that `lane` tells apart: those
    that lie side by side are loaded before and stored behind all others."""
    if lane.extent == 1:
        emit_flat(made, emitter, statements)
        return
    values = [value for s in statements for value in values_of(s)]
    emitter.plan(values)
    packs = {}
    for load in loads_of(values):
        if shape_of(load, lane) == "neighbours":
            packs[load] = _load_pack(made, emitter, load, lane)
    for expr in _the_same(values, lane):
        emitter.value(expr)
    outs = {
        number: _declare_pack(made, statement, lane)
        for number, statement in enumerate(statements)
        if isinstance(statement, Store) and shape_of(statement, lane) == "neighbours"
    }
    with made.writer.unrolled("l", lane.extent):
        inner = emitter.fork({lane: "l"})
        for load, name in packs.items():
            inner.provide(load, from_memory(f"{name}.at[l]", load.dtype))
        for number, statement in enumerate(statements):
            if number in outs:
                assert isinstance(statement, Store)
                made.writer.line(f"{outs[number]}.at[l] = {inner.stored(statement)};")
        rest = [s for number, s in enumerate(statements) if number not in outs]
        if rest:
            emit_flat(made, inner, rest, planned=True)
    for number, name in outs.items():
        statement = statements[number]
        assert isinstance(statement, Store)
        place = emitter.index(_first(statement.index, lane))
        line = f"store_pack({made.pointer(statement.buffer)} + {_term(place)}, {name});"
        condition = emitter.condition(statement.guard)
        made.writer.line(f"if ({condition}) {line}" if condition else line)


def _first(index: Index, lane: LoopVar) -> Index:
    """Where lane 0's element is."""
    return index - Index.of(lane)


def _term(text: str) -> str:
    return f"({text})" if " - " in text else text


def _load_pack(made: KernelWriter, emitter: Expressions, load: Load, lane: LoopVar) -> str:
    made.use("Pack")
    name = made.writer.fresh("x")
    type = pack_type(load.dtype, lane.extent)
    place = _term(emitter.index(_first(load.index, lane)))
    text = f"load_pack<{lane.extent}>({made.pointer(load.buffer)} + {place})"
    condition = emitter.condition(load.guard)
    if condition:
        made.writer.line(f"{type} {name} = {{}};")
        made.writer.line(f"if ({condition}) {name} = {text};")
    else:
        made.writer.line(f"const {type} {name} = {text};")
    return name


def _declare_pack(made: KernelWriter, store: Store, lane: LoopVar) -> str:
    made.use("Pack")
    name = made.writer.fresh("y")
    made.writer.line(f"{pack_type(store.buffer.dtype, lane.extent)} {name};")
    return name


def _the_same(values: Sequence[Expr], lane: LoopVar) -> list[Expr]:
    """The largest subexpressions that are the same for all lanes, but for plain numbers."""
    varies: dict[Expr, bool] = {}
    found: dict[Expr, None] = {}
    for value in values:
        for expr in value.walk():
            if expr not in varies:
                own = any(lane in index.variables() for index in expr.indices())
                own = own or isinstance(expr, Ref)  # such as a product's element
                varies[expr] = own or any(varies[part] for part in expr.parts())
        for expr in value.walk():
            if varies[expr]:
                found |= {part: None for part in expr.parts() if not varies[part]}
        if not varies[value]:
            found[value] = None
    return list(found)


def emit_flat(
    made: KernelWriter, emitter: Expressions, statements: Sequence[Flat], *, planned: bool = False
) -> None:
    """Stores and checks at one point: all values first, then what they are for."""
    if not planned:
        emitter.plan(value for s in statements for value in values_of(s))
    stores = [s for s in statements if isinstance(s, Store) and s.buffer.numel]
    held: list[tuple[str, str]] = []
    for store in stores:
        text = emitter.stored(store) if len(stores) == 1 else _held(emitter, store)
        place = f"{made.pointer(store.buffer)}[{emitter.index(store.index)}]"
        condition = emitter.condition(store.guard)
        line = f"{place} = {text};"
        held.append((condition, line))
    for statement in statements:
        if isinstance(statement, Check):
            emit_check(made, emitter, statement)
    for condition, line in held:
        made.writer.line(f"if ({condition}) {line}" if condition else line)


def _held(emitter: Expressions, store: Store) -> str:
    """A store's value as it lies in memory, of one that has been computed."""
    text = bare(emitter.value(store.value))
    if not text.isidentifier():
        text = emitter.named(text, store.value.dtype)
    return to_memory(text, store.buffer.dtype)


def emit_check(made: KernelWriter, emitter: Expressions, check: Check) -> None:
    """Note a failure."""
    made.checks = True
    value = bare(emitter.value(check.value))
    low, high = made.wide(check.low), made.wide(check.high)
    made.writer.line(f"check({STATUS}, {value}, {low}, {high}, {check.code});")
