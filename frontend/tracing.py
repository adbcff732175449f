"""Turn a function of tensors into one IR graph: what `compile`, ahead-of-time compilation and
`inspect` start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from braze.autograd.modes import no_grad
from braze.capture import flush, materialise, tracer
from braze.captured_sites import sites_of
from braze.handle import NUMBER, SparseHandle
from braze.ir.builder import Rewriter
from braze.ir.graph import Graph
from braze.random import default_generator
from braze.sites import location_of, with_place
from braze.structure import tensors_in
from braze.tensors import Tensor, wrap
from braze.trie import build_graph


@dataclass
class Traced:
    """A function's graph and where its inputs come from.

    Attributes:
        graph: inputs are the arguments in order, then the tensors and numbers that the function
            used.
        arguments: how many of the inputs are arguments.
        captured: for each input after these, the tensor or the Python number.
        result: what the function returned, as a structure of tensors.
        effect: what else it did (drew random numbers, changed a parameter or buffer), or "".
        storages: for each input, the memory or the number that it had during the call.
    """

    graph: Graph
    arguments: int
    captured: list[Tensor | float]
    result: Any
    effect: str
    storages: list[Any] = field(default_factory=list)


def trace(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any] | None = None,
    name: str = "traced",
    grad: bool = False,
) -> Traced:
    """Call the function once and give the graph of what it did.

    Args:
        args, kwargs: example arguments; each tensor among them becomes an input.
        grad: record gradients (and what the function's `backward` calls do) as usual; off by
            default.

    Raises:
        RuntimeError: the function read values (`item()`, `if tensor:`) and so is not one graph, or
            returned something that does not depend on tensor operations.
    """
    kwargs = kwargs or {}
    known = _named_tensors(function)
    arguments = list(tensors_in((list(args), kwargs)))
    flush()
    for tensor in (*arguments, *known.values()):
        materialise(tensor._current())
    flush()
    pending = tracer().pending
    for tensor in arguments:
        handle = tensor._current()
        if handle.pending is not pending:
            pending.register(handle)
    count = len(pending.inputs)
    if count != len(arguments):
        raise RuntimeError(
            "the same tensor was given for two arguments; pass a clone() for one of them"
        )
    before = {id(t._current()): (label, t) for label, t in known.items()}
    drawn = default_generator.position
    tracer().whole, tracer().broken = True, None
    try:
        if grad:
            result = function(*args, **kwargs)
        else:
            with no_grad():
                result = function(*args, **kwargs)
    finally:
        tracer().whole = False
    if tracer().pending is not pending:
        error = RuntimeError(
            "the function read a tensor's value while it ran (item(), bool(), print, numpy()), so "
            "it is not a single "
            "graph; compute the decision with where() or move it out of the function"
        )
        site = tracer().broken
        raise error if site is None else with_place(error, site, "")
    handles = [t._current() for t in tensors_in(result)]
    if any(handle.pending is not pending for handle in handles):
        raise RuntimeError(
            "the function returned a tensor that it did not compute from its arguments"
        )
    graph, numbers = build_graph(pending.state, [handle.slot for handle in handles])
    graph.name = name
    sites = sites_of(pending)
    for node, number in zip(graph.nodes, numbers, strict=True):
        here, first = location_of(sites[number]), node.location
        if first is None or (here.file, here.line) != (first.file, first.line):
            node.location = here
    captured: list[Tensor | float] = []
    for value, handle in zip(graph.inputs[count:], pending.inputs[count:], strict=True):
        if handle.flags & NUMBER:
            assert isinstance(handle.storage, (int, float))
            captured.append(handle.storage)
        else:
            label, tensor = before.get(id(handle), ("", wrap(handle, None, 0)))
            value.name = label or value.name
            captured.append(tensor)
    for i, value in enumerate(graph.inputs[:count]):
        value.name = f"input{i}" if count > 1 else "input"
    effect = "draws random numbers" if default_generator.position != drawn else ""
    changed = [label for label, t in known.items() if id(t._current()) not in before]
    if changed:
        effect = f"changes {changed[0]} in place"
    storages = [handle.storage for handle in pending.inputs]
    return Traced(graph, count, captured, result, effect, storages)


def trace_pure(
    module: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any] | None = None,
    *,
    remedy: str,
) -> Traced:
    """`trace` a module of which nothing is to be left but its outputs; captured Python numbers are
    part of the program.

    Args:
        remedy: ends the message of the error.

    Raises:
        RuntimeError: it does something else, such as drawing random numbers.
    """
    name = type(module).__name__ if hasattr(module, "named_parameters") else "function"
    traced = bake_numbers(trace(module, args, kwargs, name=name))
    if traced.effect:
        raise RuntimeError(
            f"the module {traced.effect} when it is called, as dropout and batch normalisation do "
            f"in training mode; {remedy}"
        )
    return traced


def _named_tensors(function: Callable[..., Any]) -> dict[str, Tensor]:
    """The parameters and buffers of a module (or of a method's module), by their names; of sparse
    ones, their parts."""
    module: Any = function
    if not hasattr(function, "named_parameters"):
        module = getattr(function, "__self__", None)
    if module is None or not hasattr(module, "named_parameters"):
        return {}
    found: dict[str, Tensor] = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        handle = tensor._handle
        if isinstance(handle, SparseHandle):
            found |= {f"{name}.indices": handle.indices, f"{name}.values": handle.values}
        else:
            found[name] = tensor
    return found


def bake_numbers(traced: Traced) -> Traced:
    """Make the captured Python numbers part of the program, and drop inputs that nothing reads."""
    used = {operand for node in traced.graph.nodes for operand in node.operands}
    used |= set(traced.graph.outputs)
    rewriter = Rewriter(traced.graph)
    kept: list[Tensor | float] = []
    inputs, roles = [], []
    for position, old in enumerate(traced.graph.inputs):
        source = (
            None if position < traced.arguments else traced.captured[position - traced.arguments]
        )
        if isinstance(source, (int, float)):
            if old in used:
                rewriter.replaced[old] = rewriter.constant(value=source, dtype=old.type.dtype)
            continue
        if source is not None:
            if old not in used:
                continue
            kept.append(source)
        inputs.append(rewriter.replaced[old])
        roles.append(traced.graph.roles[position])
    for node in traced.graph.nodes:
        rewriter.keep(node)
    graph = rewriter.done()
    graph.inputs, graph.roles = inputs, roles
    return Traced(graph, traced.arguments, kept, traced.result, traced.effect)
