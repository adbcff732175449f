"""Algebra, constants and movements: replace what is longer than it needs to be.

Needs: primitives.  Keeps: types, inf and nan, run-time checks; dead nodes are left to `dce`.

Before:
    graph @g(%x: f32[4,1]) -> (f32[4]) {
      %0: f32[] = constant(value=1.0, dtype=f32)
      %1: f32[4,1] = mul(%x, %0)
      %2: f32[1,4] = permute(%1; dims=(1,0))
      %3: f32[4] = reshape(%2; shape=(4))
      return %3
    }
After:
    graph @g(%x: f32[4,1]) -> (f32[4]) {
      %0: f32[4] = reshape(%x; shape=(4))
      return %0
    }
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.ir.graph import Graph
from braze.ir.op import Op
from braze.passes.dce import dce
from braze.passes.rewriting import Rule, rewrite
from braze.passes.rules_algebra import (
    ALGEBRA,
    compute_before_expand,
    fold_but_quotients,
    fold_constants,
    reduce_empty,
    reduce_nothing,
    reduce_without_keepdim,
)
from braze.passes.rules_movement import MOVEMENT

RULES: dict[str, tuple[Rule, ...]] = {**ALGEBRA, **MOVEMENT}


def simplify(graph: Graph, *, many_sizes: bool = False) -> Graph:
    """The graph after rewriting to a fixed point.

    Args:
        many_sizes: what constants become must be the same function of sizes for all of them.
    """
    fold = fold_but_quotients if many_sizes else fold_constants

    def shared_rules(op: Op) -> Sequence[Rule]:
        """The rules for every operation of a kind."""
        if op.is_pointwise:
            return (fold, compute_before_expand)
        if op.is_reduce:
            return (reduce_empty, reduce_nothing, reduce_without_keepdim)
        return ()

    return dce(rewrite(graph, RULES, shared_rules))
