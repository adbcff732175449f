"""Nests: which way the work of a kernel made of loops is given to threads.

In: a `Nest`.  Out: its launches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.pointwise import emit_pointwise
from braze.codegen.cuda.program import CodegenError
from braze.codegen.cuda.rows import emit_rows
from braze.codegen.cuda.statements import all_statements, is_flat, outer_loops, stores_of
from braze.ir.loops import Check, Nest, Scan, Store

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit


def emit_nest(nest: Nest, unit: Unit) -> None:
    """Emit the launches of a nest."""
    loops, body = outer_loops(nest.body)
    stores = stores_of(nest.body)
    if any(s.is_scatter for s in stores):
        raise CodegenError("not yet")
    if any(s.buffer.access == "inout" for s in stores):
        raise CodegenError("not yet")
    if any(isinstance(s, Scan) for s in all_statements(nest.body)):
        raise CodegenError("not yet")
    if is_flat(body):
        emit_pointwise(loops, [s for s in body if isinstance(s, (Store, Check))], unit)
    else:
        emit_rows(loops, body, unit)
