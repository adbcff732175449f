"""Scans: running sums and their like along rows.

In: loops over rows around a `Scan`, and stores of what it ends with.  Out: one launch. Where
neighbours in memory lie in one row, a block of threads scans it, one stretch after the other: each
thread takes one point, and what has been carried over is combined with all of them. Else each row
is one thread's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from braze.codegen.cuda.combining import start_of
from braze.codegen.cuda.grid import THREADS, WARP, extent, int_type, power_of_two
from braze.codegen.cuda.lanes import emit_flat
from braze.codegen.cuda.row_layout import Layout, runs_across
from braze.codegen.cuda.rows import RowWriter
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import placed, placed_types, register_type
from braze.ir.index import LoopVar
from braze.ir.loops import Carried, Check, Scan, Statement, Store

if TYPE_CHECKING:
    from braze.codegen.cuda.expressions import Expressions
    from braze.codegen.cuda.generate import Unit
    from braze.codegen.cuda.kernel import KernelWriter

_FUNCTORS = {
    "sum": "Sum",
    "prod": "Product",
    "amax": "Larger",
    "amin": "Smaller",
    "lastmax": "LastLargest",
    "lastmin": "LastSmallest",
    "linear": "Then",
}
# Rows of no more points than this are one thread's.
SHORT = 16


def emit_scan(kept: list[LoopVar], body: list[Statement], unit: Unit) -> None:
    """The launch of rows that are scanned."""
    (scan,) = (s for s in body if isinstance(s, Scan))
    layout = unit.decide(lambda: _layout_of(kept, body, scan))
    made = unit.writer(layout.threads)
    writer = _ScanWriter(made, layout, kept)
    place = body.index(scan)
    assert place == 0, "nothing is computed before a scan"
    writer.scan(scan)
    after = [s for s in body[place + 1 :] if isinstance(s, (Store, Check))]
    if after:
        writer.once(after)
    unit.launch(made, (writer.blocks, 1, 1), layout.block)


def _layout_of(kept: list[LoopVar], body: list[Statement], scan: Scan) -> Layout:
    """Which threads scan which row."""
    rows, length = extent(kept), extent([v for v, _ in scan.loops])
    if length <= SHORT or (rows >= WARP and runs_across(kept, body)):
        return Layout(1, min(max(power_of_two(rows), WARP), THREADS // 2))
    return Layout(max(min(power_of_two(length), THREADS), WARP), 1)


class _ScanWriter(RowWriter):
    """Writes the scan of one row."""

    def scan(self, scan: Scan) -> None:
        point, replacements = self._point([v for v, _ in scan.loops])
        rewriting = self.interner.rewriting(replacements)
        carried = rewriting.carried(scan)
        stores = [rewriting.store(store) for store in scan.stores]
        states = [self._start(c) for c in carried]
        for c, state in zip(carried, states, strict=True):
            self.emitter.refs[c.name] = _result(c, state)
        if self.layout.lanes == 1:
            self._one_by_one(point, carried, states, stores)
        else:
            self._together(point, carried, states, stores)

    def _start(self, carried: Carried) -> str:
        """Declare what is carried, as it is before the first point."""
        made = self.made
        name = made.writer.fresh(carried.combine)
        self.emitter.plan(carried.starts)
        texts = [bare(self.emitter.value(start)) for start in carried.starts]
        dtype = carried.values[0].dtype
        if carried.position is not None:
            made.use("LastLargest")
            value, place = texts or (bare(start_of(carried.combine, dtype)), "0")
            text = placed(value, place, _placed_types(carried))
            made.writer.line(f"{_type(carried)} {name} = {text};")
            return name
        start = "0" if carried.combine == "linear" else start_of(carried.combine, dtype)
        text = texts[0] if texts else bare(start)
        made.writer.line(f"{register_type(dtype)} {name} = {text};")
        return name

    def _one_by_one(
        self,
        point: LoopVar,
        carried: Sequence[Carried],
        states: list[str],
        stores: Sequence[Store],
    ) -> None:
        """Each thread has a row of its own."""
        w = self.made.writer
        type = int_type(int(point.extent))
        with w.block(f"for ({type} p = 0; p < {point.extent}; ++p)"):
            emitter = self.emitter.fork({point: "p"})
            emitter.plan(value for c in carried for value in c.values)
            for c, state in zip(carried, states, strict=True):
                element = _element(self.made, c, emitter)
                self.made.use(_part(c))
                if c.combine == "linear":
                    name = w.fresh("x")
                    w.line(f"const {_type(c)} {name} = {element};")
                    w.line(f"{state} = {_applied(name, state)};")
                else:
                    w.line(f"{state} = {_FUNCTORS[c.combine]}()({state}, {element});")
            with self._inside():
                emit_flat(self.made, emitter.fork(), stores)

    def _together(
        self,
        point: LoopVar,
        carried: Sequence[Carried],
        states: list[str],
        stores: Sequence[Store],
    ) -> None:
        """A block of threads goes over the row, with a point each."""
        w, lanes, size = self.made.writer, self.layout.lanes, int(point.extent)
        type = int_type(size)
        self.made.has_barriers = True
        with w.block(f"for ({type} first = 0; first < {size}; first += {lanes})"):
            w.line(f"const {type} p = first + lane;")
            elements = []
            for c in carried:
                name = w.fresh("x")
                w.line(f"{_type(c)} {name} = {_neutral(self.made, c)};")
                elements.append(name)
            with w.block(f"if (p < {size})"):
                emitter = self.emitter.fork({point: "p"})
                emitter.plan(value for c in carried for value in c.values)
                for c, name in zip(carried, elements, strict=True):
                    w.line(f"{name} = {_element(self.made, c, emitter)};")
            running: dict[str, str] = {}
            totals = []
            self.made.use("block_scan")
            for c, name, state in zip(carried, elements, states, strict=True):
                total, functor = w.fresh("total"), f"{_FUNCTORS[c.combine]}()"
                self.made.use(_part(c))
                w.line(f"{_type(c)} {total};")
                w.line(f"{name} = block_scan<{lanes // WARP}>({name}, {functor}, &{total});")
                here = w.fresh("here")
                if c.combine == "linear":
                    text, next_state = _applied(name, state), _applied(total, state)
                    w.line(f"const {register_type(c.values[0].dtype)} {here} = {text};")
                else:
                    w.line(f"const {_type(c)} {here} = {functor}({state}, {name});")
                    next_state = f"{functor}({state}, {total})"
                totals.append((state, next_state))
                running[c.name] = _result(c, here)
            with w.block(f"if (p < {size})"):
                emit_flat(self.made, self.emitter.fork({point: "p"}, running), stores)
            for state, text in totals:
                w.line(f"{state} = {text};")


def _part(carried: Carried) -> str:
    """The part of the library that has the functor."""
    if carried.combine == "linear":
        return "Step"
    return "LastLargest" if carried.position is not None else _FUNCTORS[carried.combine]


def _type(carried: Carried) -> str:
    """What is scanned: values, values with their places, or steps y -> a y + b."""
    type = register_type(carried.values[0].dtype)
    if carried.combine == "linear":
        return f"Step<{type}>"
    if carried.position is not None:
        return f"Placed<{', '.join(_placed_types(carried))}>"
    return type


def _placed_types(carried: Carried) -> tuple[str, str]:
    assert carried.position is not None
    return placed_types(carried.values[0].dtype, carried.position.span[1] + 1)


def _neutral(made: KernelWriter, carried: Carried) -> str:
    """What changes nothing."""
    dtype = carried.values[0].dtype
    if carried.combine == "linear":
        made.use("Step")
        type = register_type(dtype)
        return f"step({type}(1), {type}(0))"
    start = bare(start_of(carried.combine, dtype))
    if carried.position is None:
        return start
    made.use("LastLargest")
    return placed(start, "-1", _placed_types(carried))


def _element(made: KernelWriter, carried: Carried, emitter: Expressions) -> str:
    """What is scanned, at the emitter's point."""
    values = [bare(emitter.value(value)) for value in carried.values]
    if carried.combine == "linear":
        made.use("Step")
        return f"step({values[0]}, {values[1]})"
    if carried.position is None:
        return values[0]
    made.use("LastLargest")
    return placed(values[0], emitter.index(carried.position), _placed_types(carried))


def _applied(step: str, state: str) -> str:
    """A step y -> a y + b, at what has been carried."""
    return f"Sum()(Product()({step}.a, {state}), {step}.b)"


def _result(carried: Carried, name: str) -> str:
    """The C expression of what a `Ref` reads."""
    return f"(long long){name}.place" if carried.position is not None else name
