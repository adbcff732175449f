"""Compute several neighbouring windows at once, which share what they read.

Needs: vector loops marked and innermost.  Keeps: results; each window's taps stay in order.

Windows over neighbouring places overlap, and all of them are weighted alike: a depthwise
convolution that took one place after the other would load two vectors for each multiplication.
Where the code of some places stands side by side, each vector is loaded once.

Before:
    nest @blur(%x: f32[160] in, %w: f32[48] in, %y: f32[128] out) {
      for i in 8 {
        for c in 16 vector {
          reduce r in 3 unroll {
            sum0 = sum(mul(%x[16*i + 16*r + c], %w[16*r + c]))
          }
          store %y[16*i + c] = sum0
        }
      }
    }
After:
    nest @blur(%x: f32[160] in, %w: f32[48] in, %y: f32[128] out) {
      for i_0 in 2 {
        for c in 16 vector {
          for i_1 in 4 unroll {
            reduce r in 3 unroll {
              sum0 = sum(mul(%x[64*i_0 + 16*i_1 + 16*r + c], %w[16*r + c]))
            }
            store %y[64*i_0 + 16*i_1 + c] = sum0
          }
        }
      }
    }
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from braze.ir.index import Index, LoopVar
from braze.ir.loops import Load, Loop, Nest, Reduce, Statement, Store
from braze.ir.loops_text import statement_expressions
from braze.ir.symint import is_symbolic
from braze.passes.loop_rewriting import substitute_statements

# Windows of more elements have their values in memory anyway, and their code gets long.
LARGEST = 12
# Numbers of places, the better ones first. Where none divides the places there are, a few are left
# over, for which there should be many others.
BLOCKS = (4, 7, 6, 5, 8)
FEWEST_LEFT_OVER = 8
# Loads that have to be left at most.
WORTHWHILE = 0.7


def block_windows(nest: Nest) -> Nest:
    """The nest with windows in blocks; the same nest where that saves few loads."""
    outer: list[Loop] = []
    body = nest.body
    while len(body) == 1 and isinstance(loop := body[0], Loop):
        if loop.kind != "serial":
            break
        outer.append(loop)
        body = loop.body
    if len(body) != 1 or not isinstance(loop := body[0], Loop) or loop.kind != "vector":
        return nest
    if not _is_of_windows(loop):
        return nest
    best, least = None, WORTHWHILE
    for place in reversed(range(len(outer))):
        count = _block(outer[place].var)
        if count and (left := _loads_left(loop, outer[place].var, count)) < least:
            best, least = (place, count), left
    if best is None:
        return nest
    place, count = best
    new = _blocked(outer[place].var, count, outer[place + 1 :], loop)
    for around in reversed(outer[:place]):
        new = [Loop(around.var, new)]
    return Nest(nest.name, nest.buffers, new, nest.comment)


def _is_of_windows(loop: Loop) -> bool:
    """Are there unrolled reductions, and stores of their results to places of their own?"""
    sizes = [0]
    for statement in loop.body:
        if isinstance(statement, Reduce):
            if any(kind != "unroll" for _, kind in statement.loops):
                return False
            sizes.append(prod(var.extent for var, _ in statement.loops))
        elif not isinstance(statement, Store) or statement.buffer.access != "out":
            return False
    return 1 < max(sizes) <= LARGEST


def _block(var: LoopVar) -> int:
    """How many places to compute at once; 0 for one after the other."""
    if is_symbolic(var.extent):
        return 0
    whole = next((n for n in BLOCKS if var.extent % n == 0), 0)
    return whole or (BLOCKS[0] if var.extent >= FEWEST_LEFT_OVER else 0)


def _loads_left(loop: Loop, var: LoopVar, count: int) -> float:
    """The part of the loads that is left if so many places are computed at once."""
    before = after = 0
    for statement in loop.body:
        taps = statement.loops if isinstance(statement, Reduce) else ()
        sizes = [tap.extent for tap, _ in taps]
        for load in _loads(statement):
            before += count * prod(sizes)
            steps = [_step(load.index, v) for v in (var, *(tap for tap, _ in taps))]
            if None in steps:
                after += count * prod(sizes)
            else:
                after += len(_places([step or 0 for step in steps], [count, *sizes]))
    return after / before if before else 1.0


def _loads(statement: Statement) -> Iterator[Load]:
    seen: dict[int, Load] = {}
    for expr in statement_expressions(statement):
        seen |= {id(e): e for e in expr.walk() if isinstance(e, Load)}
    yield from seen.values()


def _step(index: Index, var: LoopVar) -> int | None:
    """By how much the variable moves the index; None if not by the same everywhere."""
    for atom, _ in index.terms:
        if not isinstance(atom, LoopVar) and var in Index.of(atom).variables():
            return None
    return index.coefficient(var)


def _places(steps: Sequence[int], sizes: Sequence[int]) -> set[int]:
    return {
        sum(step * number for step, number in zip(steps, numbers, strict=True))
        for numbers in product(*map(range, sizes))
    }


def _blocked(var: LoopVar, count: int, inside: Sequence[Loop], loop: Loop) -> list[Statement]:
    """The loop over `var` and those inside it, in blocks, and for what is left over."""
    blocks, rest = LoopVar(f"{var.name}_0", var.extent // count), var.extent % count
    parts: list[Statement] = []
    for number in (count, rest) if rest else (count,):
        each = LoopVar(f"{var.name}_1", number)
        start = Index.of(blocks) * count if number == count else Index.of(count * blocks.extent)
        body = substitute_statements(loop.body, {var: start + Index.of(each)}.get)
        new: list[Statement] = [Loop(loop.var, [Loop(each, body, "unroll")], "vector")]
        for around in reversed(inside):
            new = [Loop(around.var, new)]
        parts += [Loop(blocks, new)] if number == count else new
    return parts
