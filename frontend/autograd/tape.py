"""The tape: what each differentiable operation leaves behind for the backward pass.

A `TapeNode` keeps the values that the op's gradient rules name, for the operands that need a
gradient, and nothing else; what it keeps is what a sync must materialise. `braze.tensors.apply` is
the way by which every operation is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.capture import Call, State
from braze.handle import STALE, Handle
from braze.ir.op import Op
from braze.ir.types import Shape, TensorType
from braze.sites import Site, location_of

if TYPE_CHECKING:
    from braze.tensors import Tensor

# Where an operand's gradient goes: (tape node, which of its results), or (leaf tensor, 0).
Edge = tuple["TapeNode | Tensor", int]


# Where an argument of a gradient rule comes from: the gradient of a result, a kept value, or it is
# known already.
UPSTREAM, SAVED, KNOWN = 0, 1, 2


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
    """

    __slots__ = ("kept", "steps")

    def __init__(self, state: State, needs: Sequence[bool]) -> None:
        call = state.call
        assert call is not None
        op = call.op
        self.kept: list[tuple[str, int]] = []
        steps: list[Step] = []
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
            steps.append(Step(position, gradient.rule, arguments, shape))
        self.steps = tuple(steps)

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


class TapeNode:
    """One recorded operation; a tensor's `grad_fn`.

    Attributes:
        state: the captured step: operation, types of operands and results.
        saving: what is kept and how the gradients are computed.
        edges: for each operand, where its gradient goes (None: it needs none).
        values: the kept values in the order of `saving.kept`; None once freed.
        site: the user's line, for error messages and for the operations of the backward pass.
        hooks: functions applied to the gradient of a result before it is used: result index ->
            functions.
    """

    __slots__ = ("edges", "hooks", "saving", "site", "state", "values")

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
        self.values: list[Handle] | None = values
        self.site = site
        self.hooks: dict[int, list[Callable[[Any], Any]]] | None = None

    @property
    def call(self) -> Call:
        """The operation."""
        call = self.state.call
        assert call is not None
        return call

    def check(self) -> list[Handle]:
        """The kept values.

        Raises:
            RuntimeError: the tape was freed, or a value was changed in place since.
        """
        values = self.values
        if values is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they "
                "have already been freed). Saved intermediate values of the graph are freed when "
                "you call .backward() "
                "or autograd.grad(). Specify retain_graph=True if you need to backward through the "
                "graph a second time."
            )
        for handle, (kind, position) in zip(values, self.saving.kept, strict=True):
            if handle.flags & STALE:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an "
                    "inplace operation: "
                    f"{handle.type}, {kind} {position} of [{self.call.op.name}] at "
                    f"{location_of(self.site)}"
                )
        return values

    def release(self) -> None:
        """Free the kept values."""
        self.values = None

    def name(self) -> str:
        """As PyTorch names its backward nodes, e.g. ``AddBackward``."""
        words = self.call.op.name.split("_")
        return "".join(word.capitalize() for word in words) + "Backward"

    @property
    def next_functions(self) -> tuple[tuple[TapeNode | None, int], ...]:
        """For each operand, the tape node that its gradient flows to (None for leaves and
        constants)."""
        return tuple(
            (edge[0], edge[1]) if edge and isinstance(edge[0], TapeNode) else (None, 0)
            for edge in self.edges
        )

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def record(tensors: Sequence[Tensor], operands: Sequence[Handle], results: Any) -> TapeNode | None:
    """Put the operation just captured on the tape, if a gradient flows through it.

    Args:
        tensors, operands: its operands, as tensors and as the values read.
        results: what `capture` returned.
    """
    several = results.__class__ is list
    first = results[0] if several else results
    state = first.state
    needs = tuple([tensor._requires_grad for tensor in tensors])
    saving = state.savings.get(needs)
    if saving is None:
        saving = state.savings[needs] = Saving(state, needs)
    if not saving.steps:
        return None
    edges: list[Edge | None] = []
    for tensor in tensors:
        if tensor._requires_grad:
            node = tensor._node
            edges.append((tensor, 0) if node is None else (node, tensor._index))
        else:
            edges.append(None)
    values = []
    for kind, position in saving.kept:
        if kind == "operand":
            values.append(operands[position])
        else:
            values.append(results[position] if several else results)
    return TapeNode(state, saving, tuple(edges), values, first.site)
