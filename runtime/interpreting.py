"""Interpreted graphs whose errors name the user's lines.

In: a graph, its inputs, and the lines of this call.  Out: the results, or an error with a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.builder import Rewriter
from braze.ir.errors import ConstraintError, DivisorError, LinAlgError, ValueCheckError
from braze.ir.graph import Graph
from braze.ir.interpreter import Trace, interpret
from braze.runtime.executable import Sites, site_of


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
    rewriter = Rewriter(graph)
    for position, node in enumerate(graph.nodes):
        rewriter.keep(node).location = site_of(sites, position) or node.location
    return rewriter.done()
