"""Choose the loop whose iterations run in the lanes of vectors, and put it innermost.

Needs: a nest with serial loops.  Keeps: results; the order in which a sum's terms are added may
change.

The loop that makes most loads and stores contiguous wins. It is either one of the kept dimensions
(each lane then has a row of its own) or, where there is a reduction, the last dimension of the row
(lanes share one row).

Before:
    nest @sum(%x: f32[64] in, %y: f32[8] out) {
      for i0 in 8 {
        reduce r0_0 in 8 {
          sum0 = sum(%x[8*r0_0 + i0])
        }
        store %y[i0] = sum0
      }
    }
After:
    nest @sum(%x: f32[64] in, %y: f32[8] out) {
      for i0 in 8 vector {
        reduce r0_0 in 8 unroll {
          sum0 = sum(%x[8*r0_0 + i0])
        }
        store %y[i0] = sum0
      }
    }
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2

from braze.ir.index import Index, LoopVar
from braze.ir.loops import Expr, Load, Loop, LoopKind, Nest, Reduce, Scan, Statement, Store
from braze.ir.loops_crossing import FEWEST, SMALLEST, crosses
from braze.ir.target import Target
from braze.passes.peel_borders import has_narrow_border, interior, peeled

# Cost of one access, relative to a contiguous vector access of one lane's share.
SCATTERED = 1.5
REVERSED = 1.25
EVERY_OTHER = 2.5
TURNED = 4.0
# Combining two halves of the lanes at a row's end, for a value and for a value and its place.
COMBINED = 2
COMBINED_PLACE = 8
# Reductions over windows of this many elements, and no more, are unrolled inside a vector.
LARGEST_UNROLLED = 32


@dataclass(frozen=True, slots=True)
class Touch:
    """An access: its index, the size of its element, and how often it happens for each kept
    point."""

    index: Index
    itemsize: int
    times: int
    own: frozenset[LoopVar]  # variables of the reduction or row loop that it stands in
    guarded: frozenset[LoopVar] = frozenset()  # whose conditions for a load lanes cannot escape
    ordered: bool = False  # a store to what was stored before: lanes must not meet in one place
    is_load: bool = False


def vectorise(nest: Nest, target: Target) -> Nest:
    """The nest with its vector loops marked and innermost."""
    kept, body = _outer_loops(nest.body)
    if body is None:
        return nest
    touches = _touches(body, 1, frozenset())
    rows = _row_loops(body)
    lanes = _lanes(touches, target)
    turned = [v for v in kept if v.extent >= FEWEST] if _only_stores(body) else []
    best_kept = _best(kept, touches, lanes, turned)
    row_choice = {
        id(row): _best(row, [t for t in touches if t.own & set(row)], lanes) for row in rows
    }
    if rows and _rows_are_better(best_kept, row_choice, body, touches, lanes):
        chosen = {v for v in row_choice.values() if v is not None}
        inner = _with_rows(body, chosen, touches)
        ordered = kept
    else:
        inner = _with_rows(body, set(), touches)
        ordered = [v for v in kept if v is not best_kept]
        if best_kept is not None:
            if (beside := _crossed(best_kept, touches, turned)) is not None:
                ordered = [*(v for v in ordered if v is not beside), beside]
            inner = _unrolled(inner)
            turns = _in_turns(inner, ordered, best_kept)
            if turns is not None:
                ordered.remove(turns)
                inner = [Loop(turns, inner, "unroll")]
            loop = Loop(best_kept, inner, "vector")
            skips = any(_skips(touch, best_kept) for touch in touches)
            inner = peeled(loop) if skips else [loop]
    for v in reversed(ordered):
        inner = [Loop(v, inner)]
    return Nest(nest.name, nest.buffers, inner, nest.comment)


def _only_stores(body: list[Statement]) -> bool:
    return all(
        isinstance(s, Store) and not s.accumulate and s.buffer.access == "out" for s in body
    )


def _crossed(v: LoopVar, touches: list[Touch], turned: Sequence[LoopVar]) -> LoopVar | None:
    """The loop to put around the vector loop over `v`, so that most loads that cross its lanes are
    read in squares; None if none do."""
    counts = {u: sum(_crosses(touch, u, v) for touch in touches) for u in turned if u is not v}
    best = max(counts, key=lambda u: counts[u], default=None)
    return best if best is not None and counts[best] else None


def _crosses(touch: Touch, outer: LoopVar, inner: LoopVar) -> bool:
    wide = touch.itemsize >= SMALLEST
    return touch.is_load and wide and crosses(touch.index, outer, inner)


def _best(
    variables: list[LoopVar], touches: list[Touch], lanes: int, turned: Sequence[LoopVar] = ()
) -> LoopVar | None:
    """The variable that is cheapest as the vector loop; the inner one of two equal ones.

    Args:
        turned: loops that loads may be turned along if these cross the lanes.
    """
    costs = [(_cost(v, touches, lanes, turned), -i) for i, v in enumerate(variables)]
    costs = [cost for cost, v in zip(costs, variables, strict=True) if v.extent > 1]
    if not costs or min(costs)[0] == inf:
        return None
    return variables[-min(costs)[1]]


def _outer_loops(
    statements: list[Statement],
) -> tuple[list[LoopVar], list[Statement] | None]:
    """The perfectly nested outer loops, and what stands inside; None for several loops side by
    side."""
    variables: list[LoopVar] = []
    while len(statements) == 1 and isinstance(statements[0], Loop):
        if statements[0].kind != "serial":
            return variables, None
        variables.append(statements[0].var)
        statements = statements[0].body
    return variables, statements


def _row_loops(body: list[Statement]) -> list[list[LoopVar]]:
    rows: list[list[LoopVar]] = []
    for statement in body:
        if isinstance(statement, Reduce):
            rows.append([v for v, _ in statement.loops])
        elif isinstance(statement, Scan):
            # Its points are visited in order, so only the last loop can run in lanes.
            rows.append([v for v, _ in statement.loops][-1:])
        elif isinstance(statement, Loop):
            rows.append(_outer_loops([statement])[0])
    return rows


def _touches(
    statements: list[Statement], times: int, own: frozenset[LoopVar]
) -> list[Touch]:
    found: list[Touch] = []
    for statement in statements:
        if isinstance(statement, Loop):
            inner = own | {statement.var}
            found += _touches(statement.body, times * statement.var.extent, inner)
        elif isinstance(statement, Store):
            size = statement.buffer.dtype.itemsize
            ordered = statement.buffer.access == "inout"
            found.append(Touch(statement.index, size, times, own, ordered=ordered))
            found += load_touches([statement.value], times, own)
        elif isinstance(statement, Reduce):
            inner = own | {v for v, _ in statement.loops}
            count = times
            for v, _ in statement.loops:
                count *= v.extent
            found += load_touches([a.value for a in statement.accumulators], count, inner)
        elif isinstance(statement, Scan):
            inner = own | {v for v, _ in statement.loops}
            count = times
            for v, _ in statement.loops:
                count *= v.extent
            found += load_touches([e for c in statement.carried for e in c.starts], times, own)
            found += load_touches([e for c in statement.carried for e in c.values], count, inner)
            found += _touches([*statement.stores], count, inner)
        else:
            found += load_touches([statement.value], times, own)
    return found


def load_touches(values: Sequence[Expr], times: int, own: frozenset[LoopVar]) -> list[Touch]:
    found: dict[int, Touch] = {}
    for value in values:
        for expr in value.walk():
            if isinstance(expr, Load):
                guarded = frozenset(_guarded(expr))
                found[id(expr)] = Touch(
                    expr.index, expr.dtype.itemsize, times, own, guarded, is_load=True
                )
    return list(found.values())


def _guarded(load: Load) -> Iterator[LoopVar]:
    """The variables of a load's conditions, but for those of which few values fail."""
    for variable in {v for bound in load.guard for v in bound.index.variables()}:
        if not has_narrow_border(variable, *interior(variable, load.guard)):
            yield variable


def _skips(touch: Touch, v: LoopVar) -> bool:
    """Does it use every other element of what is read?"""
    return touch.index.coefficient(v) == 2 and v not in touch.guarded


def _in_turns(body: list[Statement], kept: list[LoopVar], lanes: LoopVar) -> LoopVar | None:
    """The variable, of two values, by which vectors of every other element are stored in turns."""
    if len(body) != 1 or not isinstance(body[0], Store):
        return None
    store, index = body[0], body[0].index
    if store.buffer.access != "out" or store.guard or store.accumulate or not index.is_affine:
        return None
    if index.coefficient(lanes) != 2:
        return None
    return next((v for v in kept if v.extent == 2 and index.coefficient(v) == 1), None)


def _lanes(touches: list[Touch], target: Target) -> int:
    return max(target.vector_lanes(max((t.itemsize for t in touches), default=4)), 1)


def _cost(
    v: LoopVar, touches: list[Touch], lanes: int, turned: Sequence[LoopVar] = ()
) -> float:
    """Time of the accesses if `v` is the vector loop, in units of a scalar access."""
    filled = v.extent / max(-(-v.extent // lanes) * lanes, 1)
    beside = _crossed(v, touches, turned)
    total = 0.0
    for touch in touches:
        if touch.ordered and not _apart(touch.index, v):
            return inf
        if beside is not None and _crosses(touch, beside, v):
            total += touch.times * TURNED / max(lanes * filled, 1)
        else:
            total += touch.times * _stride_cost(touch, v, max(lanes * filled, 1))
    return total


def _apart(index: Index, v: LoopVar) -> bool:
    """Do different values of the variable surely give different places?"""
    hidden = (atom for atom, _ in index.terms if not isinstance(atom, LoopVar))
    return index.coefficient(v) != 0 and not any(
        v in Index.of(atom).variables() for atom in hidden
    )


def _stride_cost(touch: Touch, v: LoopVar, lanes: float) -> float:
    index = touch.index
    direct = index.coefficient(v)
    hidden = any(
        v in Index.of(atom).variables()
        for atom, _ in index.terms
        if not isinstance(atom, LoopVar)
    )
    if hidden:  # also by an index that is read: the processor gathers either in one instruction
        return SCATTERED
    if direct == 0:
        return 0.5 / lanes
    if direct == -1:
        return REVERSED / lanes
    if _skips(touch, v):
        return EVERY_OTHER / lanes
    return 1 / lanes if direct == 1 else SCATTERED


def _rows_are_better(
    best_kept: LoopVar | None,
    choice: dict[int, LoopVar | None],
    body: list[Statement],
    touches: list[Touch],
    lanes: int,
) -> bool:
    if best_kept is None:
        return True
    by_rows = 0.0
    chosen = {v for v in choice.values() if v is not None}
    for touch in touches:
        mine = [v for v in chosen if v in touch.own]
        by_rows += _cost(mine[0], [touch], lanes) if mine else touch.times
    for statement in body:
        if isinstance(statement, Reduce):
            used = min(lanes, max((v.extent for v, _ in statement.loops if v in chosen), default=1))
            places = sum(a.position is not None for a in statement.accumulators)
            values = len(statement.accumulators) - places
            by_rows += (COMBINED * values + COMBINED_PLACE * places) * log2(used)
        elif isinstance(statement, Scan):
            by_rows += COMBINED * log2(lanes)
    return by_rows < _cost(best_kept, touches, lanes)


def _with_rows(
    body: list[Statement], chosen: set[LoopVar], touches: list[Touch]
) -> list[Statement]:
    """Order each row's loops by stride, largest first, with the chosen one last and as vector."""
    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, Reduce):
            variables = _by_stride([v for v, _ in statement.loops], chosen, touches)
            kinds = [(v, _kind(v, chosen)) for v in variables]
            result.append(Reduce(tuple(kinds), statement.accumulators))
        elif isinstance(statement, Scan):
            kinds = [(v, _kind(v, chosen)) for v, _ in statement.loops]
            result.append(Scan(tuple(kinds), statement.carried, statement.stores))
        elif isinstance(statement, Loop):
            variables, inner = _outer_loops([statement])
            assert inner is not None
            for v in reversed(_by_stride(variables, chosen, touches)):
                inner = [Loop(v, inner, _kind(v, chosen))]
            result += inner
        else:
            result.append(statement)
    return result


def _kind(v: LoopVar, chosen: set[LoopVar]) -> LoopKind:
    return "vector" if v in chosen else "serial"


def _by_stride(
    variables: list[LoopVar], chosen: set[LoopVar], touches: list[Touch]
) -> list[LoopVar]:
    def stride(v: LoopVar) -> int:
        return max((abs(t.index.coefficient(v)) for t in touches), default=0)

    rest = [v for v in variables if v not in chosen]
    if not any(t.ordered and t.own & set(variables) for t in touches):
        rest.sort(key=stride, reverse=True)
    return [*rest, *(v for v in variables if v in chosen)]


def _unrolled(body: list[Statement]) -> list[Statement]:
    """Reductions over small windows, one statement a tap."""
    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, Reduce):
            count = 1
            for v, _ in statement.loops:
                count *= v.extent
            if count <= LARGEST_UNROLLED:
                loops: tuple[tuple[LoopVar, LoopKind], ...] = tuple(
                    (v, "unroll") for v, _ in statement.loops
                )
                statement = Reduce(loops, statement.accumulators)
        result.append(statement)
    return result
