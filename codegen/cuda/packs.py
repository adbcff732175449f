"""How many neighbouring elements one thread computes, so that it loads and stores them at once.

In: stores and checks over a flat variable.  Out: the width, and for each access how it looks from
one thread: the same for all elements, neighbours, or each at a place of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from braze.codegen.cuda.grid import is_multiple
from braze.codegen.cuda.statements import loads_of, values_of
from braze.ir.cuda_program import ALIGNMENT
from braze.ir.index import DataIndex, Index, LoopVar
from braze.ir.loops import Buffer, Check, Load, Store

Shape = Literal["same", "neighbours", "apart"]
WIDTHS = (8, 4, 2)


def shape_of(access: Load | Store, lane: LoopVar) -> Shape:
    """How an access looks from one thread, whose elements `lane` tells apart."""
    index = access.index
    guards = {v for bound in access.guard for v in bound.index.variables()}
    if lane not in index.variables():
        return "same" if lane not in guards else "apart"
    hidden = {v for atom, _ in index.terms if atom != lane for v in Index.of(atom).variables()}
    if index.coefficient(lane) == 1 and lane not in hidden and lane not in guards:
        return "neighbours"
    return "apart"


def is_aligned(index: Index, lane: LoopVar, width: int) -> bool:
    """Do the lanes always begin at a multiple of `width` elements?"""
    steps = [factor for atom, factor in index.terms if atom != lane]
    data = any(
        isinstance(atom, DataIndex) and not is_multiple(factor, width)
        for atom, factor in index.terms
    )
    return not data and all(is_multiple(number, width) for number in (index.constant, *steps))


def accesses_of(statements: Sequence[Store | Check]) -> list[Load | Store]:
    """Every load and store."""
    found: list[Load | Store] = [s for s in statements if isinstance(s, Store)]
    return [*found, *loads_of(value for s in statements for value in values_of(s))]


def fits(
    statements: Sequence[Store | Check],
    lane: LoopVar,
    width: int,
    alignment: Callable[[Buffer], int],
) -> bool:
    """May a thread compute `width` neighbours, with all that lie side by side moved at once?"""
    found = False
    for access in accesses_of(statements):
        if shape_of(access, lane) != "neighbours":
            continue
        nbytes = width * access.buffer.dtype.itemsize
        if nbytes > ALIGNMENT or alignment(access.buffer) % nbytes:
            return False
        if not is_aligned(access.index, lane, width):
            return False
        found = found or isinstance(access, Store)
    return found
