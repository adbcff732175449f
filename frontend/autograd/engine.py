"""The backward pass: walk the tape from the outputs, apply gradient rules, accumulate into leaves.

The rules run against `HandleBuilder`, so the backward pass is captured like any other operations and becomes part
of the same graph. With `create_graph` they run against `TensorBuilder`, which records them on the tape as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.autograd.tape import Edge, TapeNode, apply
from braze.handle import Handle
from braze.ir.op import gradient_of, op_named
from braze.ir.types import TensorType
from braze.trace import call_of, capture, constant, tracer

if TYPE_CHECKING:
    from braze.tensor import Tensor


class HandleBuilder:
    """What gradient rules emit on: captures operations on handles. Numbers become constants."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        op = op_named(name)
        plain = call_of(op) if not op.attributes else None

        def emit(*operands: Handle | float, **attributes: Any) -> Any:
            call = plain or call_of(op, **attributes)
            results = capture(call, _lift(operands))
            return results[0] if len(results) == 1 else tuple(results)

        setattr(self, name, emit)
        return emit


def _lift(operands: tuple[Handle | float, ...]) -> list[Handle]:
    """Numbers take the dtype of the last handle, as in `braze.ir.Builder`."""
    like = None
    plain = True
    for operand in operands:
        if isinstance(operand, Handle):
            like = operand
        else:
            plain = False
    if plain:
        return list(operands)  # type: ignore[arg-type]
    assert like is not None
    return [o if isinstance(o, Handle) else constant(o, like.type) for o in operands]


class TensorBuilder:
    """As `HandleBuilder`, on tensors, so that the gradient itself can be differentiated."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        from braze.tensor import wrap

        op = op_named(name)

        def emit(*operands: Tensor | float, **attributes: Any) -> Any:
            like = [o for o in operands if not isinstance(o, (int, float))]
            lifted = [
                wrap(constant(o, like[-1]._handle.type), None, 0)
                if isinstance(o, (int, float))
                else o
                for o in operands
            ]
            return apply(call_of(op, **attributes), *lifted)

        setattr(self, name, emit)
        return emit


_HANDLES = HandleBuilder()
_TENSORS = TensorBuilder()
_ADD = call_of(op_named("add"))


def _topological(roots: Sequence[TapeNode]) -> list[TapeNode]:
    """Tape nodes that the roots reach, each before the ones it passes gradients to."""
    order: list[TapeNode] = []
    done: set[TapeNode] = set()
    stack: list[tuple[TapeNode, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
            continue
        if node in done:
            continue
        done.add(node)
        stack.append((node, True))
        for i in node.saving.wanted:
            edge = node.edges[i]
            if edge is not None and isinstance(edge[0], TapeNode) and edge[0] not in done:
                stack.append((edge[0], False))
    order.reverse()
    return order


class Sweep:
    """One backward pass.

    Gradients are handles, or tensors when they are themselves to be differentiated (`create_graph`).
    """

    def __init__(self, create_graph: bool, targets: Sequence[Tensor] | None) -> None:
        self.create_graph = create_graph
        self.builder: Any = _TENSORS if create_graph else _HANDLES
        self.pending: dict[TapeNode, list[Any]] = {}
        self.leaves: dict[int, tuple[Tensor, Any]] = {}
        self.targets = None if targets is None else {_key(t) for t in targets}
        self.reached: dict[Any, Any] = {}

    def ones(self, type: TensorType) -> Any:
        """The gradient of a scalar output with respect to itself."""
        return self.builder.full(shape=type.shape, value=1.0, dtype=type.dtype)

    def add(self, left: Any, right: Any) -> Any:
        if left is None:
            return right
        return self.builder.add(left, right)

    def send(self, edge: Edge, gradient: Any) -> None:
        """Add a gradient to what has arrived at a leaf or a tape node's result."""
        target, index = edge
        if isinstance(target, TapeNode):
            slots = self.pending.get(target)
            if slots is None:
                slots = self.pending[target] = [None] * len(target.result_types)
            slots[index] = self.add(slots[index], gradient)
        else:
            before = self.leaves.get(id(target))
            total = gradient if before is None else self.add(before[1], gradient)
            self.leaves[id(target)] = (target, total)

    def run(self, roots: Sequence[TapeNode], retain: bool) -> None:
        """Propagate everything that was sent."""
        state = tracer()
        outer_site = state.site
        try:
            for node in _topological(roots):
                slots = self.pending.pop(node, None)
                if slots is None:
                    continue
                self._apply_hooks(node, slots)
                if self.targets is not None:
                    for index, gradient in enumerate(slots):
                        if (node, index) in self.targets and gradient is not None:
                            self.reached[(node, index)] = gradient
                state.site = node.site
                self._step(node, slots)
                if not retain:
                    node.release()
        finally:
            state.site = outer_site

    def _apply_hooks(self, node: TapeNode, slots: list[Any]) -> None:
        if node.hooks is None:
            return
        for index, hooks in node.hooks.items():
            if slots[index] is not None:
                slots[index] = self.hooked(hooks, slots[index])

    def hooked(self, hooks: Sequence[Callable[[Any], Any]], gradient: Any) -> Any:
        """Pass a gradient through user hooks, each of which may replace it."""
        from braze.tensor import Tensor, wrap

        tensor = gradient if isinstance(gradient, Tensor) else wrap(gradient, None, 0)
        for hook in hooks:
            changed = hook(tensor)
            if changed is not None:
                tensor = changed
        return tensor if self.create_graph else tensor._current()

    def _step(self, node: TapeNode, slots: list[Any]) -> None:
        builder = self.builder
        op = node.call.op
        upstream = slots
        if len(slots) > 1:
            upstream = [
                builder.full(shape=t.shape, value=0.0, dtype=t.dtype)
                if slot is None and t.dtype.is_floating_point
                else slot
                for slot, t in zip(slots, node.result_types, strict=True)
            ]
        saved = self._saved_tensor(node) if self.create_graph else node.saved
        for position in node.saving.wanted:
            edge = node.edges[position]
            if edge is None:
                continue
            gradient = gradient_of(
                builder, op, position, node.operand_types, node.call.attributes, upstream, saved
            )
            self.send(edge, gradient)

    @staticmethod
    def _saved_tensor(node: TapeNode) -> Callable[[str, int], Any]:
        """Saved values as tensors that know where they came from."""
        from braze.tensor import wrap, wrap_at

        def saved(kind: str, position: int) -> Any:
            handle = node.saved(kind, position)
            if kind == "result":
                return wrap(handle, node, position)
            return wrap_at(handle, node.edges[position])

        return saved


def _key(tensor: Tensor) -> Any:
    node = tensor._node
    return id(tensor) if node is None else (node, tensor._index)


def _start(
    sweep: Sweep, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[TapeNode]:
    """Send the initial gradients; returns the tape nodes to start from."""
    roots: list[TapeNode] = []
    for i, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        type = tensor._current().type
        if not tensor._requires_grad:
            raise RuntimeError(
                f"element {i} of tensors does not require grad and does not have a grad_fn"
            )
        if gradient is None:
            if type.numel != 1:
                raise RuntimeError(
                    f"grad can be implicitly created only for scalar outputs, this one is {type}"
                )
            start = sweep.ones(type)
        else:
            given = gradient._current().type
            if given.shape != type.shape:
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{i}] is {given} and output[{i}] is {type}"
                )
            start = gradient if sweep.create_graph else gradient._current()
        node = tensor._node
        sweep.send((tensor, 0) if node is None else (node, tensor._index), start)
        if node is not None:
            roots.append(node)
    return roots


def _as_tuple(tensors: Tensor | Sequence[Tensor | None] | None) -> tuple[Any, ...]:
    return tuple(tensors) if isinstance(tensors, (list, tuple)) else (tensors,)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Accumulate the gradients of `tensors` into the `grad` of the leaves they depend on.

    Args:
        tensors: outputs; each must require a gradient.
        grad_tensors: the gradient of each output, of its shape; may be left out (None) for single-element ones.
        retain_graph: keep the saved values for another backward pass. Default: `create_graph`.
        create_graph: record the backward pass too, so that the gradients can be differentiated.

    Raises:
        RuntimeError: an output needs no gradient, is not a scalar and has no gradient given, shapes differ, the
            saved values were freed already, or one was changed in place.
    """
    outputs = _as_tuple(tensors)
    gradients = _as_tuple(grad_tensors) if grad_tensors is not None else (None,) * len(outputs)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    with _recording(create_graph):
        sweep = Sweep(create_graph, None)
        roots = _start(sweep, outputs, gradients)
        sweep.run(roots, create_graph if retain_graph is None else retain_graph)
        given = {id(g._handle) for g in gradients if g is not None}
        for leaf, gradient in sweep.leaves.values():
            _accumulate(sweep, leaf, gradient, given)


def _accumulate(sweep: Sweep, leaf: Tensor, gradient: Any, given: set[int]) -> None:
    """Add a gradient to `leaf.grad`; the first one becomes it."""
    from braze.tensor import Tensor, wrap

    if leaf._hooks:
        gradient = sweep.hooked(leaf._hooks, gradient)
    handle = gradient._current() if isinstance(gradient, Tensor) else gradient
    if leaf.grad is not None:
        if sweep.create_graph:
            leaf.grad = leaf.grad + gradient
        else:
            leaf.grad._replace(wrap(_HANDLES.add(leaf.grad._current(), handle), None, 0))
    elif sweep.create_graph:
        leaf.grad = gradient
    else:
        if id(handle) in given or handle.storage is not None:
            # Two tensors must not share memory unless one is a view of the other.
            handle = _HANDLES.reshape(handle, shape=handle.type.shape)
        given.add(id(handle))
        leaf.grad = wrap(handle, None, 0)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching any `grad`.

    Args: as `backward`; `allow_unused` gives None for an input that the outputs do not depend on.

    Raises:
        RuntimeError: as `backward`, or an input is not used and `allow_unused` is False.
    """
    from braze.tensor import Tensor, wrap

    sources, targets = _as_tuple(outputs), _as_tuple(inputs)
    for target in targets:
        if not target._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    gradients = _as_tuple(grad_outputs) if grad_outputs is not None else (None,) * len(sources)
    with _recording(create_graph):
        sweep = Sweep(create_graph, targets)
        roots = _start(sweep, sources, gradients)
        sweep.run(roots, create_graph if retain_graph is None else retain_graph)
        found: list[Tensor | None] = []
        for target in targets:
            key = _key(target)
            value = sweep.reached.get(key)
            if value is None and isinstance(key, int) and key in sweep.leaves:
                value = sweep.leaves[key][1]
                if target._hooks:
                    value = sweep.hooked(target._hooks, value)
            if value is None and not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
            found.append(value if value is None or isinstance(value, Tensor) else wrap(value, None, 0))
    return tuple(found)


class _recording:
    """Gradients are recorded inside only if `create_graph`."""

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph

    def __enter__(self) -> None:
        self.before = tracer().grad_enabled
        tracer().grad_enabled = self.create_graph

    def __exit__(self, *error: object) -> None:
        tracer().grad_enabled = self.before
