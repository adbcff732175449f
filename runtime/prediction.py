"""How long a graph takes to compile, guessed before that, and whether to wait for it.

In: a captured graph.  Out: seconds, right within a factor of two on a processor of 2023.
"""

from __future__ import annotations

from braze.ir.graph import Graph

# Fitted to compile times of two dozen graphs, of 1 to 4,400 operations.
_PER_OPERATION = 0.0012
_PER_SIMPLE = 0.002
_PER_OTHER = 0.02

# A process that compiles takes about this long to start.
_SHORT = 0.5
# The longest pause that nobody is to see, however slow the interpreter is.
_LONG = 1.0
_RUNS = 4


def compile_seconds(graph: Graph) -> float:
    """A guess at how long compiling takes. What counts are operations that differ, since equal
    kernels are compiled once; among these, those that are more than arithmetic on elements."""
    simple: set[tuple[object, ...]] = set()
    other: set[tuple[object, ...]] = set()
    for node in graph.nodes:
        op = node.op
        key = (op, *node.attributes.values(), *[operand.type for operand in node.operands])
        (simple if op.is_pointwise or op.is_movement else other).add(key)
    return (
        _PER_OPERATION * len(graph.nodes) + _PER_SIMPLE * len(simple) + _PER_OTHER * len(other)
    )


def is_worth_waiting(seconds: float, run_seconds: float) -> bool:
    """Whether to compile in the foreground what takes so long, and is interpreted in so long.

    Compiling beside the program pays from where it takes longer than starting a process. Up to a
    second it does not while the interpreter would only come a few runs further in that time.
    """
    return seconds <= _SHORT or seconds <= min(_LONG, _RUNS * run_seconds)
