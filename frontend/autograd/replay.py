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
from braze.ir.dtypes import f32
from braze.ir.types import TensorType, tensor_type
from braze.sites import Site, user_site
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
        gradients: (leaf, slot) for each leaf that got one. All slots here are counted from the
            beginning of the pass.
        constants: the numbers that it made part of the program, with their slots.
        slots: how many there are.
        inputs: (slot, state, node, kept value) for each input.
        made: (slot, type, state, source) for each result that somebody can refer to.
        template: a handle for each slot. Nobody refers to most results; those of the others, and
            of the inputs, are put in anew.
        unseen: a reference count of 0 for each slot.
        seen: the slots of `inputs` and `made`.
    """

    __slots__ = (
        "constants",
        "gradients",
        "inputs",
        "made",
        "seen",
        "slots",
        "steps",
        "template",
        "unseen",
    )

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
        self.inputs: list[tuple[int, State, int, int]] = []
        self.made: list[tuple[int, TensorType, State, Any]] = []
        # Whatever comes next asks the last value for the trace's state.
        wanted = {slot for _, slot in (*gradients, *constants)} | {slots - 1}
        slot = 0
        for state, source in steps:
            if state.call is None:
                self.inputs.append((slot, state, *source))
            else:
                for at, kind in enumerate(state.types, slot):
                    if at in wanted or state.call.op.is_host:  # `braze.undoing` looks for those
                        self.made.append((at, kind, state, source))
            slot += slots_taken(state)
        self.template = [_NOBODYS] * slots
        self.unseen = [0] * slots
        self.seen = [row[0] for row in (*self.inputs, *self.made)]


class Replayed:
    """A pass that was replayed in a trace.

    Attributes:
        base: how many values the trace had before.
        known: the pass.
        sites: the user's code that its nodes belong to.
        user: that of the call of `backward`.
    """

    __slots__ = ("base", "known", "sites", "user")

    def __init__(self, base: int, known: Pass, sites: list[Site], user: Site) -> None:
        self.base = base
        self.known = known
        self.sites = sites
        self.user = user

    @property
    def end(self) -> int:
        """How many values the trace had afterwards."""
        return self.base + self.known.slots

    def site(self, source: Any) -> Site:
        """The user's code of an operation."""
        return self.user if source == _USER else self.sites[source]

    def operations(self) -> list[Site]:
        """The user's code of each operation."""
        return [self.site(source) for state, source in self.known.steps if state.call is not None]

    def hide(self, counts: list[int]) -> None:
        """Count no references to the results that nobody can refer to.

        Args:
            counts: the reference counts of all the trace's handles.
        """
        base, known = self.base, self.known
        own = counts[base : self.end]
        counts[base : self.end] = known.unseen
        for slot in known.seen:
            counts[base + slot] = own[slot]


# In place of a result that nobody can refer to.
_NOBODYS = Handle(tensor_type(f32), None, -1, State(None, ()))


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
    add, place_of = parts.append, places.get
    for node in nodes:  # which grow
        values = node.values
        if node.hooks is not None or values.__class__ is not list:
            return None
        add(node.saving)
        for edge in node.edges:
            if edge is None:
                continue
            target, index = edge
            place = place_of(target)
            if place is None:
                if target.__class__ is TapeNode:
                    place = places[target] = len(nodes)
                    nodes.append(target)
                elif isinstance(target, TapeNode):
                    return None  # a function of the user's own
                else:
                    if target._grad is not None or hasattr(target, "_hooks"):
                        return None
                    if hasattr(target, "_post_hooks"):
                        return None
                    place = places[target] = ~len(leaves)
                    leaves[target] = place
            add((place, index) if index else place)
        for handle in values:
            if handle.flags & _SPECIAL:
                return None
            if handle.pending is pending:
                add(handle.slot)
                continue
            place = memory.get(handle)
            if place is None:
                if handle.storage is None:
                    return None
                place = memory[handle] = ~len(memory)
                parts += (handle.type, handle.flags & _ROLE)
            add(place)
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
    base = len(pending.handles)
    if base + known.slots >= engine.config.trace_limit:
        return False
    inputs = [values[node][at] for _, _, node, at in known.inputs]
    if not pending.claim(inputs):
        return False  # another thread has one
    user = plan.tracer.site or user_site(2)
    replayed = Replayed(base, known, [node.site for node in nodes], user)
    handles = known.template.copy()
    for handle, (slot, state, _, _) in zip(inputs, known.inputs, strict=True):
        handle.slot = base + slot
        handle.state = state
        handles[slot] = handle
    for slot, kind, state, source in known.made:
        handles[slot] = Handle(kind, pending, base + slot, state, replayed.site(source))
    with plan.tracer.lock:
        if plan.tracer.pending is not pending:
            return False  # another thread has run it
        pending.inputs += inputs
        pending.replayed.append(replayed)
        pending.handles += handles
    from braze.tensors import wrap

    for leaf, slot in known.gradients:
        plan.leaves[leaf]._grad = wrap(handles[slot], None, 0)
    for constant, slot in known.constants:
        pending.constants[constant] = handles[slot]
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
