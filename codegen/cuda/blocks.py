"""Kernels that read what they have stored: one block for each turn of the outermost loop.

In: a nest with buffers that are read and written, such as sums over rows that are added up in
memory, or the states of a lattice.  Out: one launch. Within a block, loops whose turns do not
depend on each other are shared out among its threads; others run in order, with a barrier behind
each statement that touches such a buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from braze.codegen.cuda.grid import WARP, extent, power_of_two
from braze.codegen.cuda.row_layout import Layout, rows_of
from braze.codegen.cuda.rows import RowWriter
from braze.codegen.cuda.statements import (
    all_statements,
    is_flat,
    loads_of,
    outer_loops,
    stores_of,
    values_of,
)
from braze.ir.index import Index, LoopVar, separates
from braze.ir.loops import Check, Load, Loop, Nest, Reduce, Statement, Store

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit

MOST_THREADS = 512


def emit_blocks(nest: Nest, unit: Unit) -> None:
    """The launch of a nest whose outermost loop's turns are independent, if it has one."""
    body, kept = nest.body, []
    if len(body) == 1 and isinstance(body[0], Loop) and _is_parallel(body[0]):
        kept, body = [body[0].var], body[0].body
    lengths = [extent(loops) for loops, _ in rows_of(list(all_statements(body)))]
    lanes = unit.decide(
        lambda: min(max(power_of_two(max(lengths, default=1)), WARP), MOST_THREADS)
    )
    made = unit.writer(lanes)
    writer = _BlockWriter(made, Layout(lanes, 1), kept)
    writer.statements(body)
    unit.launch(made, (writer.blocks, 1, 1), (lanes, 1, 1))


def _is_parallel(loop: Loop) -> bool:
    """Are the turns of a kernel's outermost loop independent? What lowers such kernels says so
    where the loop is around others, by cutting it into chunks or not as its size is."""
    inner = loop.body
    return not is_flat(inner) and all(
        separates(store.index, loop.var) or loop.var.extent == 1 for store in stores_of(inner)
    )


class _BlockWriter(RowWriter):
    """Writes the statements of one block."""

    def statements(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Loop):
                self._loop(statement)
            elif isinstance(statement, Reduce):
                self.reduce(statement)
                self._meet([statement])
            else:
                super().statements([statement])
                self._meet([statement])

    def _loop(self, loop: Loop) -> None:
        loops, inner = outer_loops([loop])
        if is_flat(inner) and are_independent(loops, inner):
            self.along(loops, [s for s in inner if isinstance(s, (Store, Check))])
            self._meet(inner)
            return
        name, outside = self.made.writer.fresh("t"), self.emitter
        turns = self.made.number(loop.var.extent)
        head = f"for (int {name} = 0; {name} < {turns}; ++{name})"
        with self.made.writer.block(head):
            self.emitter = outside.fork({loop.var: name})
            self.statements(loop.body)
        self.emitter = outside

    def _meet(self, statements: Iterable[Statement]) -> None:
        """Let the block's threads wait for each other, if others need what was stored here."""
        found: list[Store | Load] = []
        for statement in statements:
            found += [*stores_of([statement]), *loads_of(values_of(statement))]
        if any(access.buffer.access == "inout" for access in found):
            self.made.barrier()


def are_independent(loops: list[LoopVar], body: list[Statement]) -> bool:
    """Can turns of loops be made at the same time, as far as what they read and write goes?"""
    stores = [s for s in body if isinstance(s, Store) and s.buffer.access == "inout"]
    loads = [x for s in body for x in loads_of(values_of(s)) if x.buffer.access == "inout"]
    variables = {v for v in loops if v.extent > 1}
    others: list[Store | Load] = [*stores, *loads]
    return all(
        _never_meet(store, other, variables)
        for store in stores
        for other in others
        if store.buffer.name == other.buffer.name
    )


def _never_meet(store: Store, other: Store | Load, variables: set[LoopVar]) -> bool:
    """Do a store and another access touch one element at the same point only, if at all?"""
    if store.index == other.index:
        return all(separates(store.index, v) for v in variables)
    low = high = store.index.constant - other.index.constant
    theirs = dict(other.index.terms)
    for atom, factor in store.index.terms:
        if not Index.of(atom).variables() & variables:  # the same in both
            factor -= theirs.pop(atom, 0)
        low += min(factor * x for x in atom.span)
        high += max(factor * x for x in atom.span)
    for atom, factor in theirs.items():
        low += min(-factor * x for x in atom.span)
        high += max(-factor * x for x in atom.span)
    return not low <= 0 <= high
