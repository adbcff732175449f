"""Cut the outermost loop of a kernel into chunks for the thread pool, where there is work enough.

Needs: a nest whose outermost loop has independent iterations.  Keeps: results. The number of chunks
depends on the work only, never on the number of threads, so that results do not either.

Two outer loops that are too short alone are joined: the variable of the joined loop is divided
where they were used.

Before:
    nest @neg(%x: f32[4000000] in, %y: f32[4000000] out) {
      for i0 in 4000000 vector {
        store %y[i0] = neg(%x[i0])
      }
    }
After:
    nest @neg(%x: f32[4000000] in, %y: f32[4000000] out) {
      for i0 in 4000000 vector chunks 64 {
        store %y[i0] = neg(%x[i0])
      }
    }
"""

from __future__ import annotations

import re

from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Loop, Nest, Philox, Reduce, Scan, Statement, Store
from braze.ir.loops_crossing import crossing_loads
from braze.passes.choices import Choices
from braze.passes.loop_rewriting import cut, substitute_statements
from braze.passes.vectorise import load_touches

# One core moves about this many bytes and executes this many vector instructions in a microsecond.
BYTES_PER_MICROSECOND = 12_000.0
INSTRUCTIONS_PER_MICROSECOND = 12_000.0
PHILOX_INSTRUCTIONS = 40
# Below this a parallel region costs more than it gains.
SHORTEST_MICROSECONDS = 20.0
# A chunk should take this long at least; more chunks than this balance no better on 16 cores.
CHUNK_MICROSECONDS = 8.0
MOST_CHUNKS = 64
# A vector loop is not cut into pieces smaller than this; nor one that reduces rows into pieces of
# them that are shorter than this: a processor fetches little ahead of short runs.
SMALLEST_VECTOR_PIECE = 256
SMALLEST_ROW_PIECE = 1024
# A loop that loads are turned along is cut into pieces of no less than a square.
SMALLEST_CROSSED_PIECE = 16


def parallelise(nest: Nest, choices: Choices | None = None) -> Nest:
    """The nest with its outermost loop in chunks.

    Args:
        choices: how many loops are joined in the same nest of other sizes.
    """
    chunks = chunks_for(work_of(nest.body))
    choices = choices or Choices()
    if len(nest.body) != 1 or not isinstance(nest.body[0], Loop) or _is_serial(nest.body):
        return nest
    loops = [nest.body[0]]
    while loops[-1].var.extent < chunks and (joined := _joined(loops[-1], chunks)) is not None:
        loops.append(joined)

    def is_possible(count: int) -> bool:
        while len(loops) <= count and (joined := _joined(loops[-1], chunks)) is not None:
            loops.append(joined)
        return count < len(loops)

    # Kernels come in another order for other sizes.
    name = re.sub(r"_\d+$", "", nest.name)
    count = choices.choose(f"joined loops of {name}", len(loops) - 1, is_possible)
    if chunks == 1 and count == 0:
        return nest
    loop = loops[count]
    extent = loop.var.extent
    if loop.kind == "vector":
        reduces = any(isinstance(statement, Reduce) for statement in loop.body)
        extent = max(extent // (SMALLEST_ROW_PIECE if reduces else SMALLEST_VECTOR_PIECE), 1)
    chunks = min(chunks, extent)
    return Nest(
        nest.name, nest.buffers, [Loop(loop.var, loop.body, loop.kind, chunks)], nest.comment
    )


def chunks_for(microseconds: float) -> int:
    """Into how many chunks this much work of one core is cut."""
    if microseconds < SHORTEST_MICROSECONDS:
        return 1
    return int(min(max(microseconds / CHUNK_MICROSECONDS, 2), MOST_CHUNKS))


def work_of(statements: list[Statement], times: int = 1) -> float:
    """An estimate of the time on one core, in microseconds."""
    total = 0.0
    for statement in statements:
        if isinstance(statement, Loop):
            total += work_of(statement.body, times * statement.var.extent)
            continue
        count = times
        if isinstance(statement, Reduce):
            values = [a.value for a in statement.accumulators]
            for v, _ in statement.loops:
                count *= v.extent
            stored = 0
        elif isinstance(statement, Scan):
            values = [value for c in statement.carried for value in c.values]
            values += [store.value for store in statement.stores]
            for v, _ in statement.loops:
                count *= v.extent
            stored = sum(store.buffer.dtype.itemsize for store in statement.stores)
        else:
            values = [statement.value]
            stored = statement.buffer.dtype.itemsize if isinstance(statement, Store) else 0
        instructions = 0
        for value in values:
            for expr in value.walk():
                if isinstance(expr, Apply):
                    instructions += expr.op.cost
                elif isinstance(expr, Philox):
                    instructions += PHILOX_INSTRUCTIONS
        size = stored + sum(touch.itemsize for touch in load_touches(values, 1, frozenset()))
        total += count * max(
            size / BYTES_PER_MICROSECOND, instructions / INSTRUCTIONS_PER_MICROSECOND
        )
    return total


def _is_serial(statements: list[Statement]) -> bool:
    """Does the nest add to places, or write again to places that data choose?"""
    for statement in statements:
        if isinstance(statement, Loop):
            if _is_serial(statement.body):
                return True
        elif isinstance(statement, Store) and statement.buffer.access == "inout":
            return True
    return False


def _joined(loop: Loop, chunks: int) -> Loop | None:
    """The loop joined with the one directly inside it, or with parts of that; None if it is not one
    serial loop, or one along which a vector loop's loads are turned."""
    if loop.kind != "serial":
        return None
    loop = _with_parts(loop, -(-chunks // loop.var.extent))
    if len(loop.body) != 1 or not isinstance(loop.body[0], Loop):
        return None
    inner = loop.body[0]
    if inner.kind != "serial" or _is_crossed(inner):
        return None
    size = inner.var.extent
    both = LoopVar(f"{loop.var.name}{inner.var.name}", loop.var.extent * size)
    replace = {loop.var: Index.of(both) // size, inner.var: Index.of(both) % size}
    return Loop(both, substitute_statements(inner.body, replace.get))


def _with_parts(loop: Loop, parts: int) -> Loop:
    """The loop with the one inside it cut into parts, if a vector loop's loads are turned along
    that one: then the parts' loop can be joined.

    Args:
        parts: how many there should be.
    """
    if len(loop.body) != 1 or not isinstance(loop.body[0], Loop) or not _is_crossed(loop.body[0]):
        return loop
    inner = loop.body[0]
    extent = inner.var.extent
    sizes = [n for n in range(SMALLEST_CROSSED_PIECE, extent) if extent % n == 0]
    if not sizes:
        return loop
    enough = [n for n in sizes if extent // n >= parts] or sizes[:1]
    size = max(enough, key=lambda n: (n % SMALLEST_CROSSED_PIECE == 0, n))
    whole, part, both = cut(inner.var, size)
    pieces = Loop(part, substitute_statements(inner.body, {inner.var: both}.get))
    return Loop(loop.var, [Loop(whole, [pieces])], loop.kind, loop.chunks)


def _is_crossed(loop: Loop) -> bool:
    (inner,) = loop.body if len(loop.body) == 1 else (None,)
    return isinstance(inner, Loop) and bool(crossing_loads(loop, inner))
