"""Two vectors stored in turns: what goes to elements 0, 2, 4, ... and what goes to 1, 3, 5, ...

In: an unrolled loop of two turns around a store, in which the turn's number counts once and the
lanes' variable twice (the two phases of a gradient with stride 2).  Out: two contiguous stores in
place of one for each element.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.addressing import Place
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.types import I32, constants, poison
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Loop, Statement, Store
from braze.ir.symint import is_always

TURNS = 2


def interleaved(loop: Statement, lanes: LoopVar | None) -> Store | None:
    """The store of such a loop; None for any other statement."""
    if not isinstance(loop, Loop) or loop.kind != "unroll" or not is_always(loop.var.extent, TURNS):
        return None
    store = loop.body[0]
    if len(loop.body) != 1 or not isinstance(store, Store) or lanes is None:
        return None
    counts = (stride(store.index, loop.var), stride(store.index, lanes))
    # What the kernel reads again, the second turn might read.
    plain = store.buffer.access == "out" and not store.guard and not store.accumulate
    return store if plain and counts == (1, TURNS) else None


def stride(index: Index, variable: LoopVar) -> int | None:
    """By how much an index grows with a variable; None if a division hides that."""
    hidden = (atom for atom, _ in index.terms if not isinstance(atom, LoopVar))
    if any(variable in Index.of(atom).variables() for atom in hidden):
        return None
    return index.coefficient(variable)


def store_interleaved(store: Store, turns: Sequence[ExpressionEmitter]) -> None:
    """Emit the store for the emitters of both turns."""
    even, odd = (emitter.in_memory(store) for emitter in turns)
    first, builder, width = turns[0], turns[0].builder, turns[0].width
    place = first.indices.place(store.index)
    for part in range(TURNS):
        elements = range(part * width, (part + 1) * width)
        order = [e // TURNS + (width if e % TURNS else 0) for e in elements]
        value = builder.shuffle_vector(even, odd, constants(I32, order))
        there = Place(place.base, 1, None, place.shift + part * width)
        first.put(store, value, there, _spread(builder, first.mask, elements))


def _spread(builder: ir.IRBuilder, mask: ir.Value | None, elements: range) -> ir.Value | None:
    """The mask of elements of which each lane has two."""
    if mask is None:
        return None
    lanes = constants(I32, [e // TURNS for e in elements])
    return builder.shuffle_vector(mask, poison(mask.type), lanes)
