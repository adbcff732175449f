"""Loads whose neighbouring elements lie along the loop around a vector loop, not along its lanes.

    for i in I { for j in J vector { store %y[J*i + j] = %x[i + I*j] } }

Read lane by lane, they touch a cache line for each element. Code generators read squares of them
instead, vectors along `i` for as many `j`, and turn those over in registers.
"""

from __future__ import annotations

from braze.ir.index import Index, LoopVar
from braze.ir.loops import Load, Loop, Store
from braze.ir.symint import is_symbolic

# Loops of fewer iterations than this do not fill a square, and neither do elements of fewer bytes.
FEWEST = 4
SMALLEST = 4


def crosses(index: Index, outer: LoopVar, inner: LoopVar) -> bool:
    """Do the index's neighbours follow `outer`, where `inner` runs over lanes?"""
    step = index.coefficient(inner)
    if index.coefficient(outer) != 1 or is_symbolic(step) or abs(step) < 2:
        return False
    hidden = (Index.of(atom) for atom, _ in index.terms if not isinstance(atom, LoopVar))
    return not any({outer, inner} & other.variables() for other in hidden)


def crossing_loads(outer: Loop, inner: Loop) -> list[Load]:
    """The loads of a vector loop of stores that cross it, if it is all that `outer` holds.

    What the loops store to is not among them: iterations are taken out of their order.
    """
    if outer.kind != "serial" or inner.kind != "vector" or outer.body != [inner]:
        return []
    extents = outer.var.extent, inner.var.extent
    if is_symbolic(*extents) or min(extents) < FEWEST:
        return []
    found: dict[Load, None] = {}
    stored = set()
    for statement in inner.body:
        if not isinstance(statement, Store) or statement.accumulate or statement.is_scatter:
            return []
        stored.add(statement.buffer.name)
        for expr in statement.value.walk():
            if isinstance(expr, Load) and expr.dtype.itemsize >= SMALLEST:
                if crosses(expr.index, outer.var, inner.var):
                    found[expr] = None
    return [load for load in found if load.buffer.name not in stored]
