"""How long a graph takes to compile, guessed before that, and whether to wait for it.

In: a captured graph.  Out: seconds, mostly right within a factor of two.
"""

from __future__ import annotations

import time
from functools import cache

from braze.ir.graph import Graph

# Fitted to compile times of graphs of 5 to 4,400 operations (training steps and inference), where
# `_pace` takes `_USUAL_PACE`.
_PER_OPERATION = 0.0004
_PER_SIMPLE = 0.003
_PER_OTHER = 0.02
_USUAL_PACE = 0.0005

# How much longer it takes to compile for all sizes of a dimension.
SYMBOLIC_TIMES = 2.5

# A process that compiles takes about this long to start.
_SHORT = 0.5
# The longest pause that nobody is to see, however slow the interpreter is.
_LONG = 3.0
_RUNS = 4
# From where that limit counts.
SLOW_RUN = _LONG / _RUNS


def compile_seconds(graph: Graph) -> float:
    """A guess at how long compiling takes. What counts are operations that differ, since equal
    kernels are compiled once; among these, those that are more than arithmetic on elements."""
    simple: set[tuple[object, ...]] = set()
    other: set[tuple[object, ...]] = set()
    for node in graph.nodes:
        op = node.op
        key = (op, *node.attributes.values(), *[operand.type for operand in node.operands])
        (simple if op.is_pointwise or op.is_movement else other).add(key)
    usual = (
        _PER_OPERATION * len(graph.nodes) + _PER_SIMPLE * len(simple) + _PER_OTHER * len(other)
    )
    return usual * _pace() / _USUAL_PACE


@cache
def _pace() -> float:
    """How long this machine takes over a bit of Python."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        table: dict[int, int] = {}
        for i in range(5000):
            table[i & 255] = table.get(i & 127, 0) + i
        best = min(best, time.perf_counter() - start)
    return best


def is_worth_waiting(seconds: float, run_seconds: float) -> bool:
    """Whether to compile in the foreground what takes so long, and is interpreted in so long.

    Compiling beside the program pays from where it takes longer than starting a process. It does
    not while a run of the interpreter takes as long, nor, up to three seconds, where the
    interpreter would only come a few runs further in that time.
    """
    return seconds <= max(_SHORT, run_seconds, min(_LONG, _RUNS * run_seconds))
