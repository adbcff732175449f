"""Graphs that come back for sure: a program's first step of an optimizer.

In: a graph that nobody has seen before.  Out: whether to compile it at once instead of interpreting
it first.

Most graphs that are met once are not met again, but an optimizer is seldom made for one step. Where
each step is another graph, as with sizes that keep changing, only the first one is taken for the
beginning of a row; so a line of the program has one guess.
"""

from __future__ import annotations

import os
import threading

from braze.ir.graph import Graph, Location

_UPDATES = ("param", "grad")  # the first operands of what an optimizer does to one parameter


class _Lines:
    """The lines from which optimizers were called."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: set[tuple[str, int]] = set()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.lock = threading.Lock()


_lines = _Lines()


def is_first_step(graph: Graph) -> bool:
    """Whether this is the first graph in which an optimizer that is called at its line updates
    parameters."""
    where = _line_of(graph)
    if where is None:
        return False
    with _lines.lock:
        if (where.file, where.line) in _lines.known:
            return False
        _lines.known.add((where.file, where.line))
        return True


def forget_steps() -> None:
    """As if no optimizer had been called yet."""
    with _lines.lock:
        _lines.known.clear()


def _line_of(graph: Graph) -> Location | None:
    for node in reversed(graph.nodes):
        if node.op.operands[:2] == _UPDATES:
            return node.location
    return None
