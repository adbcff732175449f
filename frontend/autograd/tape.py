"""The tape: what each differentiable operation leaves behind for the backward pass.

A `TapeNode` keeps the values that the op's gradient rules name, for the operands that need a gradient, and nothing
else; what it keeps is what a sync must materialise. `apply` is the way by which every operation on tensors is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.handle import STALE, Handle
from braze.sites import Site, location_of
from braze.trace import Call, capture, tracer

if TYPE_CHECKING:
    from braze.tensor import Tensor

# Where an operand's gradient goes: (tape node, which of its results), or (leaf tensor, 0).
Edge = tuple["TapeNode | Tensor", int]


class Saving:
    """Which values a call keeps for one pattern of operands that need gradients; computed once a call.

    Attributes:
        wanted: positions of the operands that get a gradient.
        operands, results: positions of the values kept.
    """

    __slots__ = ("operands", "results", "wanted")

    def __init__(self, call: Call, needs: Sequence[bool]) -> None:
        op = call.op
        self.wanted = tuple(
            i for i, need in enumerate(needs) if need and op.gradient(i) is not None
        )
        operands: set[int] = set()
        results: set[int] = set()
        for i in self.wanted:
            gradient = op.gradient(i)
            assert gradient is not None
            operands.update(gradient.operands)
            results.update(gradient.results)
        self.operands = tuple(sorted(operands))
        self.results = tuple(sorted(results))


class TapeNode:
    """One recorded operation; a tensor's `grad_fn`.

    Attributes:
        call: the operation.
        edges: for each operand, where its gradient goes (None: it needs none).
        saved_operands, saved_results: kept values by position; None once freed.
        operand_types, result_types: static types of all operands and results.
        site: the user's line, for error messages and for the operations of the backward pass.
        hooks: functions applied to the gradient of a result before it is used: result index -> functions.
    """

    __slots__ = (
        "call",
        "edges",
        "hooks",
        "operand_types",
        "result_types",
        "saved_operands",
        "saved_results",
        "saving",
        "site",
    )

    def __init__(
        self,
        call: Call,
        saving: Saving,
        edges: tuple[Edge | None, ...],
        operands: Sequence[Handle],
        results: Sequence[Handle],
        site: Site,
    ) -> None:
        self.call = call
        self.saving = saving
        self.edges = edges
        self.operand_types = [h.type for h in operands]
        self.result_types = [h.type for h in results]
        self.saved_operands: dict[int, Handle] | None = {i: operands[i] for i in saving.operands}
        self.saved_results: dict[int, Handle] | None = {i: results[i] for i in saving.results}
        self.site = site
        self.hooks: dict[int, list[Callable[[Any], Any]]] | None = None

    def saved(self, kind: str, position: int) -> Handle:
        """A kept value.

        Raises:
            RuntimeError: the tape was freed, or the value was changed in place since.
        """
        values = self.saved_operands if kind == "operand" else self.saved_results
        if values is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Saved intermediate values of the graph are freed when you call .backward() "
                "or autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time."
            )
        handle = values[position]
        if handle.flags & STALE:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"{handle.type}, {kind} {position} of [{self.call.op.name}] at {location_of(self.site)}"
            )
        return handle

    def release(self) -> None:
        """Free the kept values."""
        self.saved_operands = None
        self.saved_results = None

    def name(self) -> str:
        """As PyTorch names its backward nodes, e.g. ``AddBackward``."""
        words = self.call.op.name.split("_")
        return "".join(word.capitalize() for word in words) + "Backward"

    @property
    def next_functions(self) -> tuple[tuple[TapeNode | None, int], ...]:
        """For each operand, the tape node that its gradient flows to (None for leaves and constants)."""
        return tuple(
            (edge[0], edge[1]) if edge is not None and isinstance(edge[0], TapeNode) else (None, 0)
            for edge in self.edges
        )

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def edge_of(tensor: Tensor) -> Edge | None:
    """Where a gradient with respect to this tensor goes."""
    if not tensor._requires_grad:
        return None
    node = tensor._node
    return (tensor, 0) if node is None else (node, tensor._index)


def record(
    call: Call, tensors: Sequence[Tensor], operands: Sequence[Handle], results: Sequence[Handle]
) -> TapeNode | None:
    """Put one operation on the tape, if a gradient flows through it."""
    needs = tuple([t._requires_grad for t in tensors])
    saving = call.saved.get(needs)
    if saving is None:
        saving = call.saved[needs] = Saving(call, needs)
    if not saving.wanted:
        return None
    state = tracer()
    # The capture just made is the last site; in eager mode, or at a sync, it has gone with its trace.
    sites = state.pending.sites
    site = sites[-1] if sites else (state.site or _here())
    edges = tuple([edge_of(t) for t in tensors])
    return TapeNode(call, saving, edges, operands, results, site)


def _here() -> Site:
    from braze.sites import user_site

    return user_site()


def apply(call: Call, *tensors: Tensor) -> Any:
    """Run one operation on tensors: capture it, and record it on the tape where gradients are wanted.

    Returns:
        A tensor, or a tuple of them if the op has several results.
    """
    from braze.tensor import wrap

    operands = [t._handle if t._base is None else t._current() for t in tensors]
    results = capture(call, operands)
    node = None
    if call.op.differentiable:
        for t in tensors:
            if t._requires_grad:
                if tracer().grad_enabled:
                    node = record(call, tensors, operands, results)
                break
    if len(results) == 1:
        return wrap(results[0], node, 0)
    return tuple([wrap(handle, node, i) for i, handle in enumerate(results)])
