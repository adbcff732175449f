"""What is the same in all turns of a loop, computed before it.

In: an emitter where a loop is about to begin, and the expressions in the loop.  Out: the emitter,
and those that are forked from it, know the values of such parts. A row's quotient and root would
otherwise be taken for each vector of the row: code selection leaves them where they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.vectorise import weight
from braze.ir.loops import Apply, Const, Expr, Load, Ref

# Operations of fewer instructions are not worth a register all along the loop.
LEAST_WEIGHT = 4


def compute_before(emitter: ExpressionEmitter, values: Iterable[Expr]) -> None:
    """Compute the costly parts of values that depend on nothing but what is known here."""
    _Parts(emitter).compute(values)


class _Parts:
    def __init__(self, emitter: ExpressionEmitter) -> None:
        self.emitter = emitter
        self._known: dict[Expr, bool] = {}

    def compute(self, values: Iterable[Expr]) -> None:
        seen: set[Expr] = set()
        waiting = list(values)
        while waiting:
            expr = waiting.pop()
            if expr in seen or not isinstance(expr, Apply):
                continue
            seen.add(expr)
            if not self._is_known(expr):
                waiting += expr.arguments
            elif any(isinstance(e, Apply) and weight(e) >= LEAST_WEIGHT for e in expr.walk()):
                self.emitter.value(expr)

    def _is_known(self, expr: Expr) -> bool:
        if expr not in self._known:
            self._known[expr] = self._look(expr)
        return self._known[expr]

    def _look(self, expr: Expr) -> bool:
        if isinstance(expr, Const):
            return True
        if isinstance(expr, Ref):
            return expr.name in self.emitter.refs
        if isinstance(expr, Load):
            # What the kernel stores may be another value by the time that it is read. An index that
            # is itself read, or computed in the loop, is not looked into.
            fixed = expr.buffer.access == "in" and expr.variables() <= self.emitter.variables.keys()
            return fixed and not expr.guard and not expr.parts()
        # A loop may have no turns, and some divisions of integers must not be tried.
        floats = isinstance(expr, Apply) and expr.dtype.is_floating_point
        return floats and all(map(self._is_known, expr.children()))
