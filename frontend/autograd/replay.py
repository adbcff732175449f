"""Backward passes that repeat themselves are replayed: the steps that one captured are taken again,
without its gradient rules.

In: the output of a plain `backward()`, from a trace that is where another was when its own pass
began. Out: the same operations in the trace, and the leaves with their gradients; or None, where
anything is different or special, and then the pass runs as usual.

What a pass captures follows from the trace before it and from the tape: which operations were
recorded, for which of their operands, where each gradient goes, and where each kept value is (its
slot in the trace, or memory that becomes an input). `Survey` reads these off the tape, which costs
about a microsecond a node; they are the key of the pass among those that began at the same state of
the trie. Hooks, functions of the user's own, checkpoints, anomaly detection, gradients that are
there already, values that others can see or that were overwritten: none of these has a survey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from braze import engine
from braze.autograd import anomaly
from braze.autograd.tape import TapeNode
from braze.capture import Pending, Tracer, tracer
from braze.handle import BUFFER, EXPOSED, INFERENCE, NUMBER, PARAM, STALE, Handle
from braze.sites import user_site
from braze.trie import State, slots_taken

if TYPE_CHECKING:
    from braze.tensors import Tensor

_ROLE = NUMBER | PARAM | BUFFER
_SPECIAL = STALE | EXPOSED | INFERENCE
_STEPS = 8  # that a node's gradients may take, generously
_MOST_PASSES = 16  # that are remembered of those that began at one state
_USER = -1  # in place of a node's number: the operation is of the line that calls `backward`


class Survey:
    """The tape behind an output, as far as it decides what a backward pass captures.

    Attributes:
        nodes: the tape nodes, in the order in which they are reached from the output.
        leaves: where gradients end, in the order of the edges.
        values: what each node keeps.
        key: tells passes that capture different operations apart.
    """

    __slots__ = ("key", "leaves", "nodes", "pending", "state", "tracer", "values")

    def __init__(
        self,
        tracer: Tracer,
        nodes: list[TapeNode],
        leaves: list[Tensor],
        key: tuple[Any, ...],
    ) -> None:
        self.tracer = tracer
        self.pending: Pending = tracer.pending
        self.state: State = self.pending.state
        self.nodes = nodes
        self.leaves = leaves
        self.values = [node.values for node in nodes]
        self.key = key


class Pass:
    """What one backward pass captured.

    Attributes:
        steps: the states that it went through, each with where it comes from: for an operation the
            number of the node whose gradient it belongs to, for an input (node, kept value).
        gradients: (leaf, slot counted from the beginning of the pass) for each leaf that got one.
        constants: the numbers that it made part of the program, with their slots.
    """

    __slots__ = ("constants", "gradients", "slots", "steps")

    def __init__(
        self,
        steps: list[tuple[State, Any]],
        gradients: list[tuple[int, int]],
        constants: list[tuple[Any, int]],
        slots: int,
    ) -> None:
        self.steps = steps
        self.gradients = gradients
        self.constants = constants
        self.slots = slots


def survey(output: Tensor) -> Survey | None:
    """Look at the tape behind an output; None if something about it is special."""
    state = tracer()
    root = output._node
    if (
        root.__class__ is not TapeNode
        or output._handle.__class__ is not Handle
        or state.inference
        or engine.config.eager
        or anomaly.is_anomaly_enabled()
        or output._handle.type.numel != 1
    ):
        return None
    assert root is not None
    pending = state.pending
    nodes = [root]
    places: dict[Any, int] = {root: 0}
    leaves: dict[Tensor, int] = {}
    memory: dict[Handle, int] = {}
    parts: list[Any] = [output._index]
    for node in nodes:  # which grow
        values = node.values
        if node.hooks is not None or values.__class__ is not list:
            return None
        parts.append(node.saving)
        for edge in node.edges:
            if edge is None:
                continue
            target, index = edge
            place = places.get(target)
            if place is not None:
                parts += (place, index)
            elif target.__class__ is TapeNode:
                place = places[target] = len(nodes)
                nodes.append(target)
                parts += (place, index)
            elif isinstance(target, TapeNode):
                return None  # a function of the user's own
            else:
                place = leaves.get(target)
                if place is None:
                    if target._grad is not None or hasattr(target, "_hooks"):
                        return None
                    if hasattr(target, "_post_hooks"):
                        return None
                    place = leaves[target] = len(leaves)
                parts.append(~place)
        for handle in values:
            if handle.flags & _SPECIAL:
                return None
            if handle.pending is pending:
                parts.append(handle.slot)
                continue
            place = memory.get(handle)
            if place is None:
                if handle.storage is None:
                    return None
                place = memory[handle] = len(memory)
                parts += (handle.type, handle.flags & _ROLE)
            parts.append(~place)
    if len(pending.handles) + _STEPS * len(nodes) > engine.config.trace_limit:
        return None  # it may run in between
    # The pass visits the latest node first, which decides the order of its sums.
    numbers = [node.number for node in nodes]
    if numbers != sorted(numbers, reverse=True):
        parts += sorted(range(len(nodes)), key=numbers.__getitem__)
    return Survey(state, nodes, list(leaves), tuple(parts))


def replay(plan: Survey, retain: bool) -> bool:
    """Take the steps of the pass that is known for a survey.

    Args:
        retain: the tape keeps its values.

    Returns:
        Whether there was one; if not, the pass must be run.
    """
    passes = plan.state.passes
    known: Pass | None = None if passes is None else passes.get(plan.key)
    if known is None:
        return False
    pending, values, nodes = plan.pending, plan.values, plan.nodes
    handles = pending.handles
    base = len(handles)
    if base + known.slots >= engine.config.trace_limit:
        return False
    user = plan.tracer.site or user_site(2)
    slot = base
    for state, source in known.steps:
        if state.call is None:
            handle = values[source[0]][source[1]]
            if pending.register(handle) is not handle or handle.state is not state:
                return False  # another thread has it: what was captured so far nobody reads
            slot += 1
            continue
        site = user if source == _USER else nodes[source].site
        types = state.types
        handles.append(Handle(types[0], pending, slot, state, site))
        slot += 1
        if len(types) > 1:
            handles.extend([Handle(t, pending, slot + i, state) for i, t in enumerate(types[1:])])
            slot += len(types) - 1
    if plan.tracer.pending is not pending:
        return False  # another thread has run it
    from braze.tensors import wrap

    for leaf, slot in known.gradients:
        plan.leaves[leaf].grad = wrap(handles[base + slot], None, 0)
    for constant, slot in known.constants:
        pending.constants[constant] = handles[base + slot]
    if not retain:
        for node in nodes:
            node.release()
    return True


def remember(plan: Survey, base: int) -> None:
    """Keep what a pass captured, if it can be taken again.

    Args:
        plan: the survey from before it. base: how many values its trace had then.
    """
    pending = plan.pending
    if plan.tracer.pending is not pending:
        return  # something ran in between
    new = pending.handles[base:]
    sites = {id(node.site): place for place, node in enumerate(plan.nodes)}
    kept = {
        handle: (i, j) for i, values in enumerate(plan.values) for j, handle in enumerate(values)
    }
    steps: list[tuple[State, Any]] = []
    slot = 0
    while slot < len(new):
        handle = new[slot]
        state = handle.state
        if state.call is None:
            source: Any = kept.get(handle)
            if source is None:
                return  # of a rule's own
        else:
            if not state.types:
                return
            source = sites.get(id(handle.site), _USER)
        steps.append((state, source))
        slot += slots_taken(state)
    gradients = []
    for number, leaf in enumerate(plan.leaves):
        gradient = leaf._grad
        if gradient is None:
            continue
        handle = gradient._handle
        if handle.__class__ is not Handle or handle.pending is not pending or handle.slot < base:
            return
        gradients.append((number, handle.slot - base))
    constants = [
        (key, handle.slot - base)
        for key, handle in pending.constants.items()
        if handle.slot >= base
    ]
    passes = plan.state.passes
    if passes is None:
        passes = plan.state.passes = {}
    elif len(passes) >= _MOST_PASSES:
        passes.clear()
    passes[plan.key] = Pass(steps, gradients, constants, len(new))
