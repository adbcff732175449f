"""Nests: which way the work of a kernel made of loops is given to threads.

In: a `Nest`.  Out: its launches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.pointwise import emit_pointwise
from braze.codegen.cuda.program import CodegenError
from braze.codegen.cuda.statements import is_flat, outer_loops
from braze.ir.loops import Check, Nest, Store

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit


def emit_nest(nest: Nest, unit: Unit) -> None:
    loops, body = outer_loops(nest.body)
    if is_flat(body):
        emit_pointwise(loops, [s for s in body if isinstance(s, (Store, Check))], unit)
        return
    raise CodegenError("not yet")
