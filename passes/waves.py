"""Group neighbouring kernels that do not depend on each other, so that one parallel region runs
them all.

In: a scheduled graph. Out: lists of its nodes. Entering a parallel region costs microseconds, which
is much for the many small kernels of an optimizer step. A kernel joins the wave before it only if
that raises the peak of live bytes by little.
"""

from __future__ import annotations

from braze.ir.graph import Graph, Node
from braze.passes.schedule import dependences

# Kernels up to this many bytes are worth joining; larger ones fill a region alone.
LARGE_BYTES = 1 << 22
MOST_KERNELS = 64
# A wave may keep this share of the arena's lower bound alive beyond what an ordered run would.
EXTRA_BYTES = 1 << 20


def _is_alone(node: Node) -> bool:
    """Is it what the thread that runs the program does by itself: a call of the runtime, or the
    time loop of a recurrence?"""
    return node.body is not None and any(
        inner.op.is_host or inner.op.is_recurrence for inner in node.body.nodes
    )


def waves_of(graph: Graph) -> list[list[Node]]:
    """The nodes in waves; every node's dependences lie in earlier waves."""
    before = dependences(graph)
    when: dict[Node, int] = {}
    waves: list[list[Node]] = []
    extra: list[int] = []
    for node in graph.nodes:
        earliest = max((when[other] + 1 for other in before[node]), default=0)
        size = sum(v.type.nbytes for v in {*node.operands, *node.results})
        made = sum(v.type.nbytes for v in node.results)
        latest = len(waves) - 1
        joins = (
            latest >= 0
            and not (_is_alone(node) or _is_alone(waves[latest][0]))
            and earliest <= latest
            and size <= LARGE_BYTES
            and len(waves[latest]) < MOST_KERNELS
            and extra[latest] + made <= EXTRA_BYTES
        )
        if joins:
            waves[latest].append(node)
            extra[latest] += made
            when[node] = latest
        else:
            waves.append([node])
            extra.append(0)
            when[node] = len(waves) - 1
    return waves
