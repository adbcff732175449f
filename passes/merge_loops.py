"""Merge neighbouring loops into one where every address allows it: longer inner loops, fewer of
them.

Needs: a nest.  Keeps: the order in which elements are visited.

Loops a (outer) and b (inner) of extents m and n become one of m*n, if in every index a's
coefficient is n times b's.

Before:
    nest @neg(%x: f32[12] in, %y: f32[12] out) {
      for i0 in 3 {
        for i1 in 4 {
          store %y[4*i0 + i1] = neg(%x[4*i0 + i1])
        }
      }
    }
After:
    nest @neg(%x: f32[12] in, %y: f32[12] out) {
      for i0i1 in 12 {
        store %y[i0i1] = neg(%x[i0i1])
      }
    }
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import Loop, Nest, Reduce, Scan, Statement
from braze.passes.expressions import statement_indices
from braze.passes.loop_rewriting import substitute_statements


def merge_loops(nest: Nest) -> Nest:
    """The nest with its loops merged as far as addresses allow."""
    indices = list(dict.fromkeys(statement_indices(nest.body)))
    replace: dict[LoopVar, Index] = {}
    merged: dict[LoopVar, LoopVar] = {}
    for chain in _chains(nest.body):
        _merge_chain(chain, indices, replace, merged)
    if not replace:
        return nest
    body = substitute_statements(_without(nest.body, replace, merged), replace.get)
    return Nest(nest.name, nest.buffers, body, nest.comment)


def _chains(statements: list[Statement]) -> list[list[LoopVar]]:
    """Runs of perfectly nested loops, outermost first."""
    found: list[list[LoopVar]] = []
    for statement in statements:
        if isinstance(statement, (Reduce, Scan)):
            found.append([v for v, _ in statement.loops])
        elif isinstance(statement, Loop):
            chain = [statement.var]
            body = statement.body
            while len(body) == 1 and isinstance(body[0], Loop):
                chain.append(body[0].var)
                body = body[0].body
            found.append(chain)
            found += _chains(body)
    return found


def _merge_chain(
    chain: Sequence[LoopVar],
    indices: list[Index],
    replace: dict[LoopVar, Index],
    merged: dict[LoopVar, LoopVar],
) -> None:
    """Decide merges from the innermost pair outwards: outer variables become 0, the last a longer
    one."""
    if len(chain) < 2:
        return
    inner = chain[-1]
    run = [inner]
    for outer in reversed(chain[:-1]):
        span = 1
        for v in run:
            span *= v.extent
        if all(_fits(index, outer, inner, span) for index in indices):
            run.insert(0, outer)
            continue
        _record(run, replace, merged)
        inner, run = outer, [outer]
    _record(run, replace, merged)


def _record(
    run: list[LoopVar], replace: dict[LoopVar, Index], merged: dict[LoopVar, LoopVar]
) -> None:
    if len(run) < 2:
        return
    extent = 1
    for v in run:
        extent *= v.extent
        replace[v] = Index()
    longer = LoopVar("".join(v.name for v in run), extent)
    replace[run[-1]] = Index.of(longer)
    merged[run[-1]] = longer


def _fits(index: Index, outer: LoopVar, inner: LoopVar, span: int) -> bool:
    """Does the index see outer and inner only as span * outer + inner?"""
    a = b = 0
    for atom, c in index.terms:
        if isinstance(atom, LoopVar):
            a = c if atom == outer else a
            b = c if atom == inner else b
        elif isinstance(atom, (FloorDiv, Mod)):
            if not _fits(atom.inner, outer, inner, span):
                return False
        else:
            # What its expression holds is among the indices itself.
            assert isinstance(atom, DataIndex)
    return a == b * span


def _without(
    statements: list[Statement], replace: dict[LoopVar, Index], merged: dict[LoopVar, LoopVar]
) -> list[Statement]:
    """Drop the loops of replaced variables, and lengthen those that stand for them."""
    result: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Loop):
            body = _without(statement.body, replace, merged)
            if statement.var in merged:
                loop = Loop(merged[statement.var], body, statement.kind, statement.chunks)
                result.append(loop)
            elif statement.var in replace:
                result += body
            else:
                result.append(Loop(statement.var, body, statement.kind, statement.chunks))
        elif isinstance(statement, (Reduce, Scan)):
            loops = tuple(
                (merged.get(v, v), kind)
                for v, kind in statement.loops
                if v in merged or v not in replace
            )
            if isinstance(statement, Scan):
                result.append(Scan(loops, statement.carried, statement.stores))
            else:
                result.append(Reduce(loops, statement.accumulators))
        else:
            result.append(statement)
    return result
