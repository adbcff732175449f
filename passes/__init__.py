"""Graph to graph, graph to loops, loops to loops: one pass a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.ir.target import Target, named_target
from braze.passes.choices import Choices
from braze.passes.cse import cse
from braze.passes.dce import dce
from braze.passes.decompose import decompose
from braze.passes.fold_weights import fold_weights
from braze.passes.fuse import fuse
from braze.passes.gather_updates import gather_updates
from braze.passes.inline_steps import inline_steps
from braze.passes.layout import layout
from braze.passes.lower import lower_program
from braze.passes.match_attention import match_attention
from braze.passes.numbers_as_constants import numbers_as_constants
from braze.passes.order_operands import order_operands
from braze.passes.own_operands import own_operands
from braze.passes.plan_memory import MemoryPlan, plan_memory
from braze.passes.scale_weights import scale_weights
from braze.passes.schedule import schedule
from braze.passes.share_pads import share_pads
from braze.passes.simplify import simplify
from braze.passes.split_complex import split_complex
from braze.passes.split_pads import split_pads
from braze.passes.split_reductions import split_reductions
from braze.passes.split_scans import split_scans
from braze.passes.sum_channels_last import sum_channels_last
from braze.passes.waves import waves_of

__all__ = [
    "PIPELINE",
    "Choices",
    "MemoryPlan",
    "Pass",
    "Report",
    "compile_graph",
    "fold_known",
    "lower_program",
    "optimise",
    "plan_memory",
]

Record = Callable[[str, object], None]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(slots=True)
class Context:
    """What passes may ask for, and where they leave their remarks and choices."""

    target: Target
    choices: Choices = field(default_factory=Choices)
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pass:
    """An entry of the pipeline."""

    name: str
    function: Callable[[Graph, Context], Graph]
    why: str


@dataclass(slots=True)
class Report:
    """What compiling a graph came to.

    Attributes:
        kernels_before: operations that compute something, one kernel each without fusion.
        kernels_after: kernels.
        bytes_before: what intermediate values would take if each had its own memory.
        arena_bytes: what they take.
        lower_bound: the largest sum of bytes alive at one time.
        refusals: why neighbouring kernels were not fused.
    """

    kernels_before: int
    kernels_after: int
    bytes_before: int
    arena_bytes: int
    lower_bound: int
    refusals: list[str]


PIPELINE: tuple[Pass, ...] = (
    Pass("split_complex", lambda g, _: split_complex(g), "later passes know real dtypes only"),
    Pass(
        "match_attention",
        lambda g, c: match_attention(g, c.choices, everywhere=c.target.is_gpu),
        "softmax is one operation still",
    ),
    Pass("decompose", lambda g, _: decompose(g), "all later passes know primitives only"),
    Pass("cse", lambda g, _: cse(g), "gradient rules repeat what the forward pass computed"),
    Pass(
        "simplify",
        lambda g, c: simplify(g, many_sizes=c.choices.many_sizes),
        "constants and movements meet after decomposition",
    ),
    Pass("layout", lambda g, _: layout(g), "the movements are few now, and what is left can meet"),
    Pass(
        "simplify_again",
        lambda g, c: simplify(g, many_sizes=c.choices.many_sizes),
        "what layout brought together cancels",
    ),
    Pass(
        "split_pads",
        lambda g, c: split_pads(g, c.choices, everywhere=c.target.is_gpu),
        "the layout of what is padded is known now",
    ),
    Pass("cse_again", lambda g, _: cse(g), "simplified nodes are often equal"),
    Pass("share_pads", lambda g, _: share_pads(g), "what is left of pads goes to memory"),
    Pass("order_operands", lambda g, _: order_operands(g), "innermost dimensions are known now"),
    Pass(
        "sum_channels_last",
        lambda g, c: sum_channels_last(g, c.target, c.choices),
        "what GPUs copy in packs must lie so; images do now",
    ),
    Pass(
        "split_reductions",
        lambda g, c: split_reductions(g, c.choices, on_gpu=c.target.is_gpu),
        "what fuse joins with a reduction depends on whether it is in parts",
    ),
    Pass("split_scans", lambda g, _: split_scans(g), "as for reductions"),
    Pass("dce", lambda g, _: dce(g), "fuse takes every node for needed"),
    Pass(
        "fuse",
        lambda g, c: fuse(
            g,
            c.target,
            c.refusals,
            sums_of_columns=not c.choices.for_any_size,
            choices=c.choices,
        ),
        "one kernel for what can share loops",
    ),
    Pass(
        "own_operands",
        lambda g, c: g if c.choices.many_sizes else own_operands(g, on_gpu=c.target.is_gpu),
        "what a collective takes has its kernels now, which may write to one place",
    ),
    Pass("schedule", lambda g, _: schedule(g), "the order decides how much memory is alive"),
    Pass(
        "gather_updates",
        lambda g, c: gather_updates(g, c.choices) if c.target.is_gpu else g,
        "a GPU launches neighbours of one form together",
    ),
)


def fold_known(
    graph: Graph,
    arrays: Mapping[str, Array],
    record: Record | None = None,
    sources: dict[str, str] | None = None,
    choices: Choices | None = None,
) -> tuple[Graph, dict[str, Array]]:
    """A captured graph for inference: what depends on weights alone is computed.

    Args:
        arrays: of the inputs that are known, by name; others are arguments.
        record: called as ``record(pass name, graph)`` after each pass.
        sources: takes up, for each array that was computed, the largest one that it was made of.
        choices: takes in what is chosen by sizes, or has what was chosen for others.

    Returns:
        A graph in primitives, whose arguments come first, and the arrays of its other inputs by
        name. Complex values are real ones with a last dimension of 2.
    """
    graph = inline_steps(graph)
    # The target is for passes that ask for none.
    context = Context(named_target("x86-64-v2"), choices or Choices())
    names = {value.name for value in graph.inputs}
    assert len(names) == len(graph.inputs) and names >= arrays.keys()
    graph = numbers_as_constants(graph, arrays)
    for entry in PIPELINE:
        if entry.name == "split_reductions":
            break
        graph = entry.function(graph, context)
        if record is not None:
            record(entry.name, graph)
        if entry.name == "cse_again":
            graph = scale_weights(graph, [v for v in graph.inputs if v.name in arrays])
            if record is not None:
                record("scale_weights", graph)
    stored = {name: _as_stored(array) for name, array in arrays.items()}
    known = {v: stored[v.name] for v in graph.inputs if v.name in stored}
    return fold_weights(
        graph,
        known,
        sources,
        for_many_sizes=choices is not None,
        at_run_time=context.choices.at_run_time,
    )


def _as_stored(array: Array) -> Array:
    """The parts of complex numbers along a last dimension."""
    if array.dtype.kind != "c":
        return array
    parts: Array = np.ascontiguousarray(array)[..., None].view(array.real.dtype)
    return parts


def optimise(graph: Graph, target: Target, record: Record | None = None) -> Graph:
    """Run the pipeline: a captured graph in, a graph of scheduled fusion nodes out.

    Args:
        record: called as ``record(pass name, graph)`` after each pass.
    """
    return _optimise(graph, Context(target), record)


def _optimise(graph: Graph, context: Context, record: Record | None) -> Graph:
    for entry in PIPELINE:
        graph = entry.function(graph, context)
        if record is not None:
            record(entry.name, graph)
    return graph


def compile_graph(
    graph: Graph,
    target: Target,
    record: Record | None = None,
    choices: Choices | None = None,
    of_kernels: Callable[[str, Kernel], None] | None = None,
) -> tuple[Program, Report]:
    """From a captured graph to loops.

    Args:
        record: called as ``record(stage, graph or program)`` after each stage.
        choices: takes in what is chosen by sizes, or has what was chosen for others.
        of_kernels: called as ``of_kernels(pass name, kernel)`` after each pass over the loops of
            each kernel (`lower_program`).
    """
    context = Context(target, choices or Choices())
    counts: list[int] = []

    def watch(stage: str, made: object) -> None:
        if stage == "dce" and isinstance(made, Graph):
            counts.append(sum(not node.op.is_movement for node in made.nodes))
        if record is not None:
            record(stage, made)

    final = _optimise(graph, context, watch)
    plan = plan_memory(final, waves_of(final, on_gpu=target.is_gpu))
    # Code for many sizes is told from that for others by its text, which such a comment is part of.
    explained = target.is_gpu and choices is None
    program = lower_program(
        final, plan, target, of_kernels, choices=context.choices, explained=explained
    )
    if record is not None:
        record("loops", program)
    report = Report(
        kernels_before=counts[0],
        kernels_after=sum(1 for _ in program.kernels()),
        bytes_before=plan.unplanned_bytes,
        arena_bytes=program.arena_bytes,
        lower_bound=plan.lower_bound,
        refusals=context.refusals,
    )
    return program, report
