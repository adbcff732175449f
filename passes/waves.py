"""Group neighbouring kernels that do not depend on each other, so that one parallel region runs
them all.

In: a scheduled graph. Out: lists of its nodes. Entering a parallel region costs microseconds, which
is much for the many small kernels of an optimizer step. A kernel joins the wave before it only if
that raises the peak of live bytes by little. Where all of a wave together is less work than a
parallel region costs, its kernels are waves of their own, which are called one after the other.
"""

from __future__ import annotations

import math

from braze.ir.graph import Graph, Node
from braze.passes.gather_updates import waves_of_updates
from braze.passes.parallelise import BYTES_PER_MICROSECOND, SHORTEST_MICROSECONDS
from braze.passes.schedule import dependences

# Kernels up to this many bytes are worth joining; larger ones fill a region alone.
LARGE_BYTES = 1 << 22
MOST_KERNELS = 64
# A wave may keep this share of the arena's lower bound alive beyond what an ordered run would.
EXTRA_BYTES = 1 << 20
# One core's products and sums in a microsecond.
FLOPS_PER_MICROSECOND = 50_000.0
# Of these an estimate by bytes, or by products and sums, is about right.
_SIMPLE = frozenset(
    ("pointwise", "reduce", "movement", "gather", "creation", "check", "contract", "random")
)


def _is_alone(node: Node) -> bool:
    """Is it what the thread that runs the program does by itself: a call of the runtime, or the
    time loop of a recurrence?"""
    return node.body is not None and any(
        inner.op.is_host or inner.op.is_recurrence for inner in node.body.nodes
    )


def _microseconds(node: Node) -> float:
    """About how long one core takes for a kernel; infinity where that is hard to say."""
    inner = node.body.nodes if node.body is not None else [node]
    time = sum(v.type.nbytes for v in {*node.operands, *node.results}) / BYTES_PER_MICROSECOND
    for part in inner:
        if part.op.category not in _SIMPLE:
            return math.inf
        if part.op.category == "contract":
            # The square root of mk * kn * mn is the number of products.
            sizes = [v.type.numel for v in (*part.operands[:2], part.results[0])]
            time += 2 * math.sqrt(math.prod(sizes)) / FLOPS_PER_MICROSECOND
    return time


def _is_worth_it(wave: list[Node]) -> bool:
    """Is it enough work for a parallel region?"""
    return len(wave) == 1 or sum(map(_microseconds, wave)) >= SHORTEST_MICROSECONDS


def waves_of(graph: Graph, *, on_gpu: bool = False) -> list[list[Node]]:
    """The nodes in waves; every node's dependences lie in earlier waves.

    Args:
        on_gpu: kernels run one after the other, but for updates that one launch can do together.
    """
    if on_gpu:
        return waves_of_updates(graph)
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
    return [part for wave in waves for part in ([wave] if _is_worth_it(wave) else _single(wave))]


def _single(wave: list[Node]) -> list[list[Node]]:
    return [[node] for node in wave]
