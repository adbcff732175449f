"""Interpreted graphs whose errors name the user's lines, and what else their runs need.

In: a graph, its inputs, and the lines of this call.  Out: the results, or an error with a line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.builder import Copier
from braze.ir.errors import ConstraintError, DivisorError, LinAlgError, ValueCheckError
from braze.ir.graph import Graph, Node
from braze.ir.interpreter import Trace, interpret
from braze.runtime.executable import Sites, site_of
from braze.runtime.observing import Observer


def interpret_with_lines(
    graph: Graph, given: Sequence[Any], sites: Sites | None, trace: Trace | None = None
) -> list[np.ndarray]:
    """`interpret`, whose errors name the lines of this call."""
    try:
        return interpret(graph, given, trace)
    except (IndexError, ConstraintError, DivisorError, LinAlgError, ValueCheckError):
        if sites is not None:
            # Again, with the lines of this call: nothing has been written yet.
            interpret(_with_sites(graph, sites), given)
        raise


def _with_sites(graph: Graph, sites: Sites) -> Graph:
    copier = Copier(graph)
    for position, node in enumerate(graph.nodes):
        copier.keep(node).location = site_of(sites, position) or node.location
    return copier.done()


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which elements differ in some bit."""
    bits = (*after.shape, after.itemsize)
    before, after = np.ascontiguousarray(before), np.ascontiguousarray(after)
    differs = before.view(np.uint8).reshape(bits) != after.view(np.uint8).reshape(bits)
    return np.asarray(differs.any(-1))


def stopwatch(observer: Observer, sites: Sites | None) -> Trace:
    """A trace function that tells the observer of each operation."""
    position = -1
    last = time.perf_counter()

    def operated(node: Node, operands: Sequence[Any], results: Sequence[Any]) -> None:
        nonlocal position, last
        now = time.perf_counter()
        position += 1
        observer.operated(node, position, sites, last, now)
        last = time.perf_counter()

    return operated
