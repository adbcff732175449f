"""The tape: what each differentiable operation leaves behind for the backward pass.

A `TapeNode` keeps the values that the op's gradient rules name, for the operands that need a
gradient, and nothing else; what it keeps is what a sync must materialise. `braze.tensors.apply` is
the way by which every operation is made.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.autograd.builders import Tracked
from braze.autograd.once import Once
from braze.capture import Call, State
from braze.handle import FOLLOWED, INFERENCE, STALE, Handle
from braze.ir.devices import HOST
from braze.ir.graph import Location
from braze.ir.op import Op, placed_rule, seen_rule
from braze.ir.types import Shape, TensorType
from braze.removable import HookTable, RemovableHandle
from braze.sites import Site, location_of

if TYPE_CHECKING:
    from braze.autograd.engine import Sweep
    from braze.tensors import Tensor

# Where an operand's gradient goes: (tape node, which of its results), or (leaf tensor, 0).
Edge = tuple["TapeNode | Tensor", int]


# Where an argument of a gradient rule comes from: the gradient of a result, a kept value, or it is
# known already.
UPSTREAM, SAVED, KNOWN = 0, 1, 2

# Numbers for tape nodes in the order of their making, which the backward pass reverses.
next_number = itertools.count().__next__


class Step:
    """How to compute the gradient of one operand: the rule and where each of its arguments comes
    from."""

    __slots__ = ("arguments", "position", "rule", "sum_to")

    def __init__(
        self,
        position: int,
        rule: Callable[..., Any],
        arguments: tuple[tuple[int, Any], ...],
        sum_to: Shape | None,
    ) -> None:
        self.position = position
        self.rule = rule
        self.arguments = arguments
        self.sum_to = sum_to  # the operand's shape, if it may have been broadcast


class Saving:
    """What the tape does for one captured step and one pattern of operands that need gradients.

    Attributes:
        steps: one for each operand that gets a gradient.
        kept: the values to keep: ("operand" | "result", position).
        places: where these are among the operands and the results behind them.
        records: whether there are steps.
    """

    __slots__ = ("kept", "places", "records", "steps")

    def __init__(self, state: State, needs: Sequence[bool]) -> None:
        call = state.call
        assert call is not None
        op = call.op
        self.kept: list[tuple[str, int]] = []
        steps: list[Step] = []
        if not (op.differentiable and any(t.dtype.is_differentiable for t in state.types)):
            needs = ()
        for position, need in enumerate(needs):
            gradient = op.gradient(position)
            if not need or gradient is None:
                continue
            known: dict[str, Any] = {**call.attributes, "position": position}
            known["operand_types"] = state.operand_types
            arguments = tuple(
                self._argument(op, name, state.operand_types, known) for name in gradient.names
            )
            shape = state.operand_types[position].shape if op.broadcasts else None
            rule = gradient.rule
            if any(t.dtype.is_complex for t in (*state.operand_types, *state.types)):
                arriving = [kind == UPSTREAM for kind, _ in arguments]
                rule = seen_rule(rule, arriving, state.operand_types[position].dtype)
            if any(t.device != HOST for t in (*state.operand_types, *state.types)):
                rule = placed_rule(rule, state.operand_types[position].device)
            steps.append(Step(position, rule, arguments, shape))
        self.steps = tuple(steps)
        self.records = bool(steps)
        count = len(state.operand_types)
        self.places = tuple([at if kind == "operand" else count + at for kind, at in self.kept])

    def _argument(
        self, op: Op, name: str, types: Sequence[TensorType], known: dict[str, Any]
    ) -> tuple[int, Any]:
        if name == "g":
            return UPSTREAM, 0
        if name in op.operands:
            return SAVED, self._keep(("operand", op.operands.index(name)))
        if name in op.results:
            return SAVED, self._keep(("result", op.results.index(name)))
        if name in known:
            return KNOWN, known[name]
        if name.startswith("g_"):
            return UPSTREAM, op.results.index(name[2:])
        return KNOWN, types[op.operands.index(name.removesuffix("_type"))]

    def _keep(self, value: tuple[str, int]) -> int:
        if value not in self.kept:
            self.kept.append(value)
        return self.kept.index(value)


class NodeHooks:
    """What is called when the backward pass comes to a node; most nodes have none.

    Attributes:
        results: result index -> hooks on the gradient of that result, which may replace it.
        retained: result index -> the tensor that keeps this gradient in `grad`.
        before: hooks on all gradients that arrive.
        after: hooks on all gradients that leave, and those that arrived.
    """

    __slots__ = ("after", "before", "results", "retained")

    def __init__(self) -> None:
        self.results: dict[int, HookTable] = {}
        self.retained: dict[int, weakref.ref[Tensor]] = {}
        self.before: HookTable = {}
        self.after: HookTable = {}

    def move_retained(self, tensor: Tensor, node: TapeNode, index: int) -> None:
        """Let a tensor that was changed in place retain the gradient of its new value."""
        for old, reference in list(self.retained.items()):
            if reference() is tensor:
                del self.retained[old]
                node.own_hooks().retained[index] = reference


class TapeNode:
    """One recorded operation; a tensor's `grad_fn`.

    Attributes:
        state: the captured step: operation, types of operands and results.
        saving: what is kept and how the gradients are computed.
        edges: for each operand, where its gradient goes (None: it needs none).
        values: the kept values in the order of `saving.kept`; None once freed. Something with a
            method `restore` where they are to be computed again, see `braze.utils.checkpoint`.
        operands: all of them, where anomaly detection was on; not set otherwise.
        site: the user's line, for error messages and for the operations of the backward pass.
        hooks: None, or what to call.
        number: larger than those of the nodes made before.
    """

    __slots__ = (
        "__weakref__",
        "_metadata",
        "edges",
        "hooks",
        "number",
        "operands",
        "saving",
        "site",
        "state",
        "values",
    )

    values: Any
    operands: Sequence[Handle]
    _metadata: dict[Any, Any]

    def __init__(
        self,
        state: State,
        saving: Saving,
        edges: tuple[Edge | None, ...],
        values: list[Handle],
        site: Site,
    ) -> None:
        self.state = state
        self.saving = saving
        self.edges = edges
        self.values = values
        self.site = site
        self.hooks: NodeHooks | None = None
        self.number = next_number()

    @property
    def call(self) -> Call:
        """The operation."""
        call = self.state.call
        assert call is not None
        return call

    @property
    def types(self) -> Sequence[TensorType | None]:
        """Types of the results; None for one that is no tensor."""
        return self.state.types

    @property
    def location(self) -> Location:
        """The user's line of the forward pass, and the layer."""
        known = self.state.location
        return location_of(self.site, known.scope if known is not None else "")

    # The backward pass ----------------------------------------------------------------------------

    def propagate(self, sweep: Sweep, upstream: list[Any]) -> list[tuple[int, Any]]:
        """The gradients of the operands, as (position, gradient), from those of the results."""
        builder = sweep.builder
        call = self.state.call
        if call is not None and call.op.shares_gradients:
            # Its rules do much, and more where something flows back to each result.
            builder = Once(builder)
        elif len(upstream) > 1:
            upstream = [
                sweep.zeros(t)
                if gradient is None and t.dtype.is_differentiable
                else gradient
                for gradient, t in zip(upstream, self.state.types, strict=True)
            ]
        values: Sequence[Any] = self.check()
        if sweep.create_graph:
            values = self._tracked(values)
        found: list[tuple[int, Any]] = []
        for step in self.saving.steps:
            edge = self.edges[step.position]
            if edge is None or not sweep.wants(edge):
                continue
            arguments = [
                values[what] if kind == SAVED else what if kind == KNOWN else upstream[what]
                for kind, what in step.arguments
            ]
            gradient = step.rule(builder, *arguments)
            if step.sum_to is not None and gradient.type.shape != step.sum_to:
                gradient = builder.sum_to_shape(gradient, shape=step.sum_to)
            found.append((step.position, gradient))
        return found

    def _tracked(self, values: Sequence[Handle]) -> list[Tracked]:
        """Kept values as tensors that know where they came from."""
        from braze.tensors import wrap, wrap_at

        return [
            Tracked(wrap(handle, self, at) if kind == "result" else wrap_at(handle, self.edges[at]))
            for handle, (kind, at) in zip(values, self.saving.kept, strict=True)
        ]

    def check(self) -> list[Handle]:
        """The kept values.

        Raises:
            RuntimeError: the tape was freed, or a value was changed in place since.
        """
        values = self.values
        if values.__class__ is not list:
            values = self._restored()
        for position, handle in enumerate(values):
            if handle.flags & STALE:
                handle = values[position] = _latest(handle)
            if handle.flags & STALE:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: {handle.type}, {self._describe_kept(position)} at "
                    f"{location_of(self.site)}"
                )
        return values  # type: ignore[no-any-return]

    def _restored(self) -> list[Handle]:
        if self.values is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed). Saved intermediate values of the "
                "graph are freed when you call .backward() or autograd.grad(). Specify "
                "retain_graph=True if you need to backward through the graph a second time or if "
                f"you need to access saved tensors after calling backward. [{self.name()}] at "
                f"{location_of(self.site)}"
            )
        self.values.restore()
        assert self.values.__class__ is list
        return self.values  # type: ignore[no-any-return]

    def _describe_kept(self, position: int) -> str:
        kind, at = self.saving.kept[position]
        return f"{kind} {at} of [{self.call.op.name}]"

    def release(self) -> None:
        """Free the kept values. Where there are none, another backward pass needs none."""
        if self.values:
            self.values = None

    # What users look at ---------------------------------------------------------------------------

    def own_hooks(self) -> NodeHooks:
        """The node's hooks, to add to."""
        if self.hooks is None:
            self.hooks = NodeHooks()
        return self.hooks

    def register_hook(self, fn: Callable[[Any, Any], Any]) -> RemovableHandle:
        """Call `fn(grad_inputs, grad_outputs)`, two tuples, after the gradients of this operation
        were computed; a tuple that it returns replaces the first."""
        return RemovableHandle(self.own_hooks().after, fn)

    def register_prehook(self, fn: Callable[[Any], Any]) -> RemovableHandle:
        """Call `fn(grad_outputs)`, a tuple, before the gradients of this operation are computed; a
        tuple that it returns replaces it."""
        return RemovableHandle(self.own_hooks().before, fn)

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user's own notes."""
        try:
            return self._metadata
        except AttributeError:
            self._metadata = {}
            return self._metadata

    def name(self) -> str:
        """As PyTorch names its backward nodes, e.g. ``AddBackward0``."""
        words = self.call.op.name.split("_")
        return "".join(word.capitalize() for word in words) + "Backward0"

    @property
    def next_functions(self) -> tuple[tuple[TapeNode | AccumulateGrad | None, int], ...]:
        """For each operand, where its gradient flows: a tape node and the number of its result, an
        `AccumulateGrad` for a leaf, None for a constant."""
        return tuple(
            (None, 0)
            if edge is None
            else (edge[0], edge[1])
            if isinstance(edge[0], TapeNode)
            else (AccumulateGrad(edge[0]), 0)
            for edge in self.edges
        )

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class AccumulateGrad:
    """Stands for a leaf in `next_functions`: the end of a path, where gradients add up.

    Attributes:
        variable: the leaf.
    """

    next_functions: tuple[Any, ...] = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def name(self) -> str:
        """Its name."""
        return "AccumulateGrad"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash((AccumulateGrad, id(self.variable)))

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def edge_of(tensor: Tensor) -> Edge | None:
    """Where the gradient of a tensor goes; None if it needs none."""
    if not tensor._requires_grad:
        return None
    node = tensor._node
    return (tensor, 0) if node is None else (node, tensor._index)


def _latest(handle: Handle) -> Handle:
    """What is in the memory of a value that was overwritten through `data`."""
    while handle.flags & FOLLOWED:
        handle = handle.successor
    return handle


def check_savable(handle: Handle) -> Handle:
    """The value, if it may be kept for a backward pass.

    Raises:
        RuntimeError: it was made in `inference_mode`.
    """
    if handle.flags & INFERENCE:
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in "
            "inference mode in computation tracked by autograd. To work around this, you can make "
            "a clone to get a normal tensor before using it in autograd, or use "
            f"`braze.no_grad()` instead of `braze.inference_mode()`. [{handle.type}]"
        )
    return handle


def record(tensors: Sequence[Tensor], operands: Sequence[Handle], results: Any) -> TapeNode | None:
    """Put the operation just captured on the tape, if a gradient flows through it.

    Args:
        tensors, operands: its operands, as tensors and as the values read.
        results: what `capture` returned.
    """
    several = results.__class__ is list
    first = results[0] if several else results
    state = first.state
    edges: list[Edge | None] = []
    needs = 0  # a bit for each operand
    bit = 1
    for tensor in tensors:
        if tensor._requires_grad:
            needs |= bit
            node = tensor._node
            edges.append((tensor, 0) if node is None else (node, tensor._index))
        else:
            edges.append(None)
        bit <<= 1
    saving = state.savings.get(needs)
    if saving is None:
        wanted = [edge is not None for edge in edges]
        saving = state.savings[needs] = Saving(state, wanted)
        if state.first_saving is None:
            state.first_saving = saving
            state.first_needs = needs
    if not saving.steps:
        return None
    known = [*operands, *results] if several else [*operands, results]
    values = []
    for place in saving.places:
        handle = known[place]
        values.append(check_savable(handle) if handle.flags & INFERENCE else handle)
    return TapeNode(state, saving, tuple(edges), values, first.site)
