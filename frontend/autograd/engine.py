"""The backward pass: walk the tape from the outputs, apply gradient rules, accumulate into leaves.

The rules run against `HandleBuilder`, so the backward pass is captured like any other operations
and becomes part of the same graph. With `create_graph` they run against `TensorBuilder`, which
records them on the tape as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.autograd.tape import KNOWN, SAVED, Edge, TapeNode
from braze.capture import call_of, capture, constant, tracer
from braze.handle import Handle
from braze.ir.dtypes import DType
from braze.ir.op import op_named
from braze.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from braze.tensors import Tensor


class HandleBuilder:
    """What gradient rules emit on: captures operations on handles. Numbers become constants."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        op = op_named(name)
        plain = call_of(op) if not op.attributes else None

        def emit(*operands: Handle | float, **attributes: Any) -> Any:
            return capture(plain or call_of(op, **attributes), _lift(operands))

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


class Tracked:
    """A tensor as gradient rules see values: with the `type` that handles and IR values have."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def type(self) -> TensorType:
        return self.tensor._handle.type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype


class TrackedBuilder:
    """As `HandleBuilder`, on tensors, so that the gradient itself can be differentiated."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        from braze.tensors import apply, wrap

        op = op_named(name)

        def emit(*operands: Tracked | float, **attributes: Any) -> Any:
            like = [o for o in operands if isinstance(o, Tracked)]
            tensors = [
                o.tensor if isinstance(o, Tracked) else wrap(constant(o, like[-1].type), None, 0)
                for o in operands
            ]
            results = apply(call_of(op, **attributes), *tensors)
            if isinstance(results, tuple):
                return tuple(Tracked(tensor) for tensor in results)
            return Tracked(results)

        setattr(self, name, emit)
        return emit


_HANDLES = HandleBuilder()
_TRACKED = TrackedBuilder()
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
        for edge in node.edges:
            if edge is not None and isinstance(edge[0], TapeNode) and edge[0] not in done:
                stack.append((edge[0], False))
    order.reverse()
    return order


class Sweep:
    """One backward pass.

    Gradients are handles, or `Tracked` tensors when they are themselves to be differentiated
    (`create_graph`).
    """

    def __init__(self, create_graph: bool, targets: Sequence[Tensor] | None) -> None:
        self.create_graph = create_graph
        self.builder: Any = _TRACKED if create_graph else _HANDLES
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
                slots = self.pending[target] = [None] * len(target.state.types)
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
        tensor = self.to_tensor(gradient)
        for hook in hooks:
            changed = hook(tensor)
            if changed is not None:
                tensor = changed
        return self.from_tensor(tensor)

    def to_tensor(self, gradient: Any) -> Tensor:
        """A gradient as a tensor for the user."""
        from braze.tensors import wrap

        return gradient.tensor if isinstance(gradient, Tracked) else wrap(gradient, None, 0)

    def from_tensor(self, tensor: Tensor) -> Any:
        """A user's tensor as a gradient of this sweep."""
        return Tracked(tensor) if self.create_graph else tensor._current()

    def _step(self, node: TapeNode, upstream: list[Any]) -> None:
        """Apply an operation's gradient rules and pass the results on."""
        builder = self.builder
        if len(upstream) > 1:
            upstream = [
                builder.full(shape=t.shape, value=0.0, dtype=t.dtype)
                if gradient is None and t.dtype.is_floating_point
                else gradient
                for gradient, t in zip(upstream, node.state.types, strict=True)
            ]
        values: Sequence[Any] = node.check()
        if self.create_graph:
            values = self._tracked_values(node, node.check())
        for step in node.saving.steps:
            edge = node.edges[step.position]
            if edge is None:
                continue
            arguments = [
                values[what] if kind == SAVED else what if kind == KNOWN else upstream[what]
                for kind, what in step.arguments
            ]
            gradient = step.rule(builder, *arguments)
            if step.sum_to is not None and gradient.type.shape != step.sum_to:
                gradient = builder.sum_to_shape(gradient, shape=step.sum_to)
            self.send(edge, gradient)

    @staticmethod
    def _tracked_values(node: TapeNode, values: list[Handle]) -> list[Tracked]:
        """Kept values as tensors that know where they came from."""
        from braze.tensors import wrap, wrap_at

        return [
            Tracked(wrap(handle, node, at) if kind == "result" else wrap_at(handle, node.edges[at]))
            for handle, (kind, at) in zip(values, node.saving.kept, strict=True)
        ]


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
            start = sweep.from_tensor(gradient)
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
        grad_tensors: the gradient of each output, of its shape; may be left out (None) for
            single-element ones.
        retain_graph: keep the saved values for another backward pass. Default: `create_graph`.
        create_graph: record the backward pass too, so that the gradients can be differentiated.

    Raises:
        RuntimeError: an output needs no gradient, is not a scalar and has no gradient given, shapes
            differ, the saved values were freed already, or one was changed in place.
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
    from braze.tensors import wrap

    hooks = getattr(leaf, "_hooks", None)
    if hooks:
        gradient = sweep.hooked(hooks, gradient)
    if sweep.create_graph:
        leaf.grad = gradient.tensor if leaf.grad is None else leaf.grad + gradient.tensor
    elif leaf.grad is not None:
        leaf.grad._replace(wrap(_HANDLES.add(leaf.grad._current(), gradient), None, 0))
    else:
        if id(gradient) in given or gradient.storage is not None:
            # Two tensors must not share memory unless one is a view of the other.
            gradient = _HANDLES.reshape(gradient, shape=gradient.type.shape)
        given.add(id(gradient))
        leaf.grad = wrap(gradient, None, 0)


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
                hooks = getattr(target, "_hooks", None)
                if hooks:
                    value = sweep.hooked(hooks, value)
            if value is None and not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
            found.append(None if value is None else sweep.to_tensor(value))
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
