"""Finish a few rows of short runs before the next ones, where they are turned over.

Needs: a vector loop whose loads are turned along the loop around it (`ir.loops_crossing`).  Keeps:
results.

What is stored are runs shorter than a cache line or few lines long, one for each iteration of the
loop that loads are turned along, and the loop outside of that goes on where they end. When it does,
the lines have left the first-level cache, if there are many rows, a power of two apart maybe. In
blocks, they are still there.

Before:
    nest @turn(%x: f32[4608] in, %y: f32[4608] out) {
      for i in 16 {
        for o in 32 {
          for k in 9 vector {
            store %y[144*o + 9*i + k] = %x[512*k + 32*i + o]
          }
        }
      }
    }
After:
    nest @turn(%x: f32[4608] in, %y: f32[4608] out) {
      for i_0 in 1 {
        for o_0 in 2 {
          for i_1 in 16 {
            for o_1 in 16 {
              for k in 9 vector {
                store %y[2304*o_0 + 144*o_1 + 9*i_1 + k] = %x[512*k + 32*i_1 + 16*o_0 + o_1]
              }
            }
          }
        }
      }
    }
"""

from __future__ import annotations

from braze.ir.loops import Loop, Nest, Store
from braze.ir.loops_crossing import crossing_loads
from braze.ir.symint import is_symbolic
from braze.passes.loop_rewriting import cut, substitute_statements

# Rows of a block: a square of them.
ROWS = 16
# Runs of a row in a block, at most: what is read of one operand's run for all of them lies a page
# or so apart.
MOST_RUNS = 64
FEWEST_RUNS = 8
# Runs of so many bytes are worth going from row to row for.
LONG = 256


def block_rows(nest: Nest) -> Nest:
    """The nest with rows in blocks; the same nest where there are no such rows."""
    around: list[Loop] = []
    body = nest.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind == "serial":
        around.append(body[0])
        body = body[0].body
    if len(around) < 2:
        return nest
    outer, rows = around[-2:]
    runs = _runs_of(outer, rows)
    if runs is None:
        return nest
    outer_0, outer_1, both = cut(outer.var, runs)
    rows_0, rows_1, row = cut(rows.var, ROWS)
    statements = substitute_statements(rows.body, {outer.var: both, rows.var: row}.get)
    for variable in (rows_1, outer_1, rows_0, outer_0):
        statements = [Loop(variable, statements)]
    for loop in reversed(around[:-2]):
        statements = [Loop(loop.var, statements, loop.kind, loop.chunks)]
    return Nest(nest.name, nest.buffers, statements, nest.comment)


def _runs_of(outer: Loop, rows: Loop) -> int | None:
    """How many iterations of the outer loop a block has; None if there are to be no blocks."""
    (inner,) = rows.body if len(rows.body) == 1 else (None,)
    if not isinstance(inner, Loop) or not crossing_loads(rows, inner):
        return None
    length = inner.var.extent
    if is_symbolic(outer.var.extent) or rows.var.extent <= ROWS or rows.var.extent % ROWS:
        return None
    for store in inner.body:
        assert isinstance(store, Store)  # as `crossing_loads` found
        index = store.index
        follows = index.coefficient(inner.var) == 1 and index.coefficient(outer.var) == length
        if not follows or length * store.buffer.dtype.itemsize >= LONG:
            return None
    counts = range(FEWEST_RUNS, min(MOST_RUNS, outer.var.extent) + 1)
    return max((n for n in counts if outer.var.extent % n == 0), default=None)
