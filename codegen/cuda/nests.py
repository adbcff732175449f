"""Nests: which way the work of a kernel made of loops is given to threads.

In: a `Nest`.  Out: its launches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.blocks import emit_blocks
from braze.codegen.cuda.pointwise import emit_pointwise
from braze.codegen.cuda.rows import emit_rows
from braze.codegen.cuda.scans import emit_scan
from braze.codegen.cuda.scatters import emit_scatter
from braze.codegen.cuda.statements import all_statements, is_flat, outer_loops, stores_of
from braze.ir.loops import Check, Nest, Scan, Store

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit


def emit_nest(nest: Nest, unit: Unit) -> None:
    """Emit the launches of a nest."""
    loops, body = outer_loops(nest.body)
    stores = stores_of(nest.body)
    if any(s.is_scatter or s.accumulate for s in stores):
        emit_scatter(nest, unit)
    elif any(s.buffer.access == "inout" for s in stores):
        emit_blocks(nest, unit)
    elif any(isinstance(s, Scan) for s in all_statements(nest.body)):
        emit_scan(loops, body, unit)
    elif is_flat(body):
        emit_pointwise(loops, [s for s in body if isinstance(s, (Store, Check))], unit)
    else:
        emit_rows(loops, body, unit)
