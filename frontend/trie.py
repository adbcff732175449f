"""What traces have been captured: a trie of them, which all threads share.

A state of the trie is a trace so far; an edge is the next operation with the numbers of its
operands, or the next input with its type and role.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from braze import engine
from braze.ir.dtypes import u8
from braze.ir.graph import Graph, Location, Node, Role, Value
from braze.ir.op import AttributeValue, Op, check_attributes
from braze.ir.types import TensorType

# A few hundred bytes each; past that the trie is forgotten and grows anew.
MOST_STATES = 500_000
# The type of the place that an operation without results takes; nothing else has it.
NOTHING = TensorType(u8, (0,))


class Call:
    """An operation with its attributes, shared by all equal calls and compared by identity."""

    __slots__ = ("attributes", "op")

    def __init__(self, op: Op, attributes: dict[str, AttributeValue]) -> None:
        check_attributes(op, attributes)
        self.op = op
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"<call {self.op.name} {self.attributes}>"


@functools.lru_cache(maxsize=None, typed=True)  # for 1, 1.0 and True are one key
def call_of(op: Op, **attributes: AttributeValue) -> Call:
    """The shared `Call` of an operation and its attributes."""
    return Call(op, attributes)


class State:
    """A node of the trie: one trace so far, and how it can go on.

    Attributes:
        parent: the trace without its last step.
        types: types of the values that the last step added.
        only: the type, if it is one value; `NOTHING` if the step is an operation without results.
        call, operands, location: the last step if it is an operation; operands are slots.
        role: the last step's role if it is an input.
        operand_types: the types of these operands.
        operations: how many of the steps are operations.
        may_fail: whether one of the operations can fail at run time.
        next: (call, operand slots...) or (type, role) -> the state after that step.
        first_key, first: the first of these, mostly the only one, nearer at hand.
        savings: what the tape keeps for this operation, by the operands that need gradients (a bit
            for each); see `braze.autograd.tape`.
        first_needs, first_saving: the first of these.
        plans: live values -> what to run.
        passes: the backward passes that began here; see `braze.autograd.replay`.
    """

    __slots__ = (
        "call",
        "first",
        "first_key",
        "first_needs",
        "first_saving",
        "location",
        "may_fail",
        "next",
        "only",
        "operand_types",
        "operands",
        "operations",
        "parent",
        "passes",
        "plans",
        "role",
        "savings",
        "types",
    )

    def __init__(self, parent: State | None, types: tuple[TensorType, ...]) -> None:
        self.parent = parent
        self.types = types
        self.only = NOTHING if not types else types[0] if len(types) == 1 else None
        self.next: dict[Any, State] = {}
        self.plans: dict[tuple[int, ...], Plan] = {}
        self.call: Call | None = None
        self.operands: tuple[int, ...] = ()
        self.operand_types: tuple[TensorType, ...] = ()
        self.operations: int = 0 if parent is None else parent.operations
        self.may_fail: bool = False if parent is None else parent.may_fail
        self.savings: dict[int, Any] = {}
        # Set once, the key last, so that a thread which finds the key finds the rest.
        self.first: State | None = None
        self.first_key: Any = None
        self.first_saving: Any = None
        self.first_needs = -1
        self.passes: dict[Any, Any] | None = None
        self.role: Role = "data"
        self.location: Location | None = None


class Plan:
    """What a sync runs: a graph known to the runtime, and which captured operations its nodes
    are.

    Attributes:
        sizes: bytes of each result; see `Storage.several`.
        is_placed: whether one of them is on a GPU.
    """

    __slots__ = ("entry", "is_placed", "kept", "sizes")

    def __init__(
        self, entry: engine.Prepared, kept: list[int], sizes: list[int], is_placed: bool
    ) -> None:
        self.entry = entry
        self.kept = kept
        self.is_placed = is_placed
        self.sizes = [engine.sized(size) for size in sizes]


class Trie:
    """The known traces of all threads."""

    __slots__ = ("root", "states")

    def __init__(self) -> None:
        self.root = State(None, ())
        self.states = 0

    def grow(self, parent: State, key: Any, types: tuple[TensorType, ...]) -> State:
        if self.states >= MOST_STATES:
            self.root = State(None, ())
            self.states = 0
        self.states += 1
        state = parent.next[key] = State(parent, types)
        if parent.first is None:
            parent.first = state
            parent.first_key = key
        return state


TRIE = Trie()


def steps_of(state: State) -> list[State]:
    """The steps of a trace in their order."""
    steps: list[State] = []
    at: State | None = state
    while at is not None and at.parent is not None:
        steps.append(at)
        at = at.parent
    steps.reverse()
    return steps


def slots_taken(step: State) -> int:
    """How many slots a step takes: an operation without results takes one all the same."""
    return len(step.types) or 1


def build_graph(state: State, live: Sequence[int]) -> tuple[Graph, list[int]]:
    """The IR graph of a trace, without the operations that no live value needs.

    Args:
        state: the trie's state at the end of the trace.
        live: slots of the values to hand back.

    Returns:
        The graph, and for each of its nodes the number of the captured operation.
    """
    graph = Graph("traced")
    values: list[Value] = []
    nodes: list[Node] = []
    for step in steps_of(state):
        if step.call is None:
            value = Value(step.types[0], name=f"{_PREFIX[step.role]}{len(graph.inputs)}")
            graph.inputs.append(value)
            graph.roles.append(step.role)
            values.append(value)
        else:
            operands = [values[slot] for slot in step.operands]
            node = Node(step.call.op, operands, step.call.attributes, step.types, step.location)
            nodes.append(node)
            # An operation without results takes one slot all the same.
            values.extend(node.results or (Value(NOTHING),))
    graph.outputs = [values[slot] for slot in live]
    needed = {value.node for value in graph.outputs}
    kept: list[int] = []
    for number in range(len(nodes) - 1, -1, -1):
        node = nodes[number]
        if node in needed or node.op.effect:
            kept.append(number)
            needed.update(operand.node for operand in node.operands)
    kept.reverse()
    graph.nodes = [nodes[number] for number in kept]
    return graph, kept


_PREFIX: dict[Role, str] = {"data": "x", "param": "p", "buffer": "b", "scalar": "s", "const": "c"}
