"""Leave out stores that put back what is there.

Needs: an elementwise nest, and which of its results take over the memory of an input. Keeps:
results.

Writing to a part of a tensor is `where(mask, new, x)` over all of it, with a mask that is padded
with False. If the result lies where x does, everything outside the part stays as it is: the loops
run over the part alone.

Before:
    nest @where(%m: bool[8] in, %s: f32[1] in, %x: f32[400] in, %y: f32[400] out) {
      for i0 in 50 {
        for i1 in 8 {
          store %y[8*i0 + i1] = where(%m[i1 if 0 <= i0 - 5 < 1], %s[0], %x[8*i0 + i1])
        }
      }
    }
After:
    nest @where(%m: bool[8] in, %s: f32[1] in, %x: f32[400] in, %y: f32[400] out) {
      for i1 in 8 {
        store %y[i1 + 40] = where(%m[i1], %s[0], %x[i1 + 40])
      }
    }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from braze.ir.index import Index, LoopVar, Mod
from braze.ir.loops import Apply, Bound, Expr, Load, Loop, Nest, Statement, Store
from braze.passes.loop_rewriting import substitute_statements


def trim_stores(nest: Nest, taken: Mapping[str, str]) -> Nest | None:
    """The nest without the stores that change nothing; None if none is left.

    Args:
        taken: result -> the input whose memory it takes over, by the buffers' names.
    """
    body = [kept for s in nest.body for kept in _trimmed(s, taken)]
    return Nest(nest.name, nest.buffers, body, nest.comment) if body else None


def _trimmed(statement: Statement, taken: Mapping[str, str]) -> list[Statement]:
    """The statement over fewer iterations; nothing if there are none."""
    loops: list[Loop] = []
    inner = statement
    while isinstance(inner, Loop) and len(inner.body) == 1 and inner.kind == "serial":
        loops.append(inner)
        inner = inner.body[0]
    if not isinstance(inner, Store) or inner.accumulate:
        return [statement]
    spans = {loop.var: Span(0, loop.var.extent) for loop in loops}
    for bound in _needed(inner, taken):
        _narrow(bound, spans)
    if all(span == Span(0, var.extent) for var, span in spans.items()):
        return [statement]
    replace: dict[LoopVar, Index] = {}
    kept: list[LoopVar] = []
    for var, span in spans.items():
        if span.count == 0:
            return []
        shorter = LoopVar(var.name, span.count)
        replace[var] = Index.of(shorter) * span.step + span.first
        kept += [shorter] if span.count > 1 else []
    (result,) = substitute_statements([inner], replace.get)
    for var in reversed(kept):
        result = Loop(var, [result])
    return _trimmed(result, taken)  # what was divided by a step may be simple now


@dataclass(slots=True)
class Span:
    """The values low <= v < high with v = residue modulo step."""

    low: int
    high: int
    step: int = 1
    residue: int = 0

    @property
    def first(self) -> int:
        return self.low + (self.residue - self.low) % self.step

    @property
    def count(self) -> int:
        return max(0, -(-(self.high - self.first) // self.step))


def _needed(store: Store, taken: Mapping[str, str]) -> tuple[Bound, ...]:
    """Bounds outside which the store puts back the element that is there."""
    value = store.value
    if not isinstance(value, Apply) or value.op.name != "where":
        return ()
    condition, _, old = value.arguments
    stays = (
        isinstance(old, Load)
        and taken.get(store.buffer.name) == old.buffer.name
        and old.index == store.index
        and not old.guard
    )
    return _implied(condition) if stays else ()


def _implied(condition: Expr) -> tuple[Bound, ...]:
    """Bounds that hold wherever a condition does: a load is False where its guard fails."""
    if isinstance(condition, Load):
        return condition.guard
    if isinstance(condition, Apply) and condition.op.name == "bitwise_and":
        return tuple(bound for part in condition.arguments for bound in _implied(part))
    return ()


def _narrow(bound: Bound, spans: dict[LoopVar, Span]) -> None:
    """Take a bound of one variable into account; others are left to the guards."""
    if len(bound.index.terms) != 1:
        return
    ((atom, factor),) = bound.index.terms
    constant = bound.index.constant
    if isinstance(atom, LoopVar) and factor == 1 and atom in spans:
        span = spans[atom]
        span.low = max(span.low, bound.low - constant)
        span.high = min(span.high, bound.high - constant)
    elif isinstance(atom, Mod) and (factor, constant, bound.low, bound.high) == (1, 0, 0, 1):
        inner = atom.inner
        if len(inner.terms) == 1 and inner.terms[0][1] == 1:
            variable = inner.terms[0][0]
            if isinstance(variable, LoopVar) and variable in spans and spans[variable].step == 1:
                spans[variable].step = atom.divisor
                spans[variable].residue = -inner.constant % atom.divisor
