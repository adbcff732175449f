"""The backward pass: walk the tape from the outputs, apply gradient rules, accumulate into leaves.

The rules run against `HandleBuilder`, so the backward pass is captured like any other operations
and becomes part of the same graph. With `create_graph` they run against `TensorBuilder`, which
records them on the tape as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from braze.autograd import anomaly
from braze.autograd.builders import HandleBuilder, Tracked, TrackedBuilder
from braze.autograd.replay import remember, replay, survey
from braze.autograd.tape import Edge, NodeHooks, TapeNode
from braze.capture import Tracer, tracer
from braze.handle import SparseHandle, SparseOperand
from braze.ir.devices import HOST
from braze.ir.types import TensorType

if TYPE_CHECKING:
    from braze.tensors import Tensor


_HANDLES = HandleBuilder()
_TRACKED = TrackedBuilder()


def _reached(roots: Sequence[TapeNode]) -> tuple[list[TapeNode], dict[int, int]]:
    """The tape nodes that the roots reach, the latest first, so that each comes before the ones it
    passes gradients to; and for the id of each leaf, how many times a node passes it one."""
    found: set[TapeNode] = set(roots)
    arrivals: dict[int, int] = {}
    stack = list(found)
    while stack:
        for edge in stack.pop().edges:
            if edge is None:
                continue
            target = edge[0]
            if isinstance(target, TapeNode):
                if target not in found:
                    found.add(target)
                    stack.append(target)
            else:
                arrivals[id(target)] = arrivals.get(id(target), 0) + 1
    return sorted(found, key=_number, reverse=True), arrivals


_number = attrgetter("number")


class Sweep:
    """One backward pass.

    Gradients are handles, or `Tracked` tensors when they are themselves to be differentiated
    (`create_graph`).

    Args:
        targets: the tensors whose gradients are wanted; None for all leaves. Operations that do not
            lead to one of them are left alone.
    """

    def __init__(self, create_graph: bool, targets: Sequence[Tensor] | None) -> None:
        self.create_graph = create_graph
        self.builder: Any = _TRACKED if create_graph else _HANDLES
        self.pending: dict[TapeNode, list[Any]] = {}
        self.leaves: dict[int, tuple[Tensor, Any]] = {}
        self.targets = None if targets is None else {_key(t) for t in targets}
        self.leading: set[TapeNode] = set()  # to a target
        self.reached: dict[Any, Any] = {}
        self.outputs: Sequence[Tensor] = ()  # what it starts from

    def ones(self, type: TensorType) -> Any:
        """The gradient of a scalar output with respect to itself."""
        return self._full(type, 1.0)

    def zeros(self, type: TensorType) -> Any:
        """The gradient of what the outputs do not depend on."""
        return self._full(type, 0.0)

    def _full(self, type: TensorType, value: float) -> Any:
        made = self.builder.full(shape=type.shape, value=value, dtype=type.dtype)
        if type.device != HOST:
            made = self.builder.to_device(made, device=type.device)
        return made

    def add(self, left: Any, right: Any) -> Any:
        if left is None:
            return right
        try:
            return self.builder.add(left, right)
        except SparseOperand:
            from braze.sparse.gradients import total

            return total(left, right)

    def wants(self, edge: Edge) -> bool:
        """Whether a gradient sent there leads to something wanted."""
        if self.targets is None:
            return True
        target = edge[0]
        if isinstance(target, TapeNode):
            return target in self.leading or edge in self.targets
        return id(target) in self.targets

    def send(self, edge: Edge, gradient: Any) -> None:
        """Add a gradient to what has arrived at a leaf or a tape node's result."""
        target, index = edge
        if isinstance(target, TapeNode):
            slots = self.pending.get(target)
            if slots is None:
                slots = self.pending[target] = [None] * len(target.types)
            slots[index] = self.add(slots[index], gradient)
        else:
            before = self.leaves.get(id(target))
            total = gradient if before is None else self.add(before[1], gradient)
            self.leaves[id(target)] = (target, total)

    def run(
        self,
        roots: Sequence[TapeNode],
        retain: bool,
        arrived: Callable[[Tensor, Any], None],
    ) -> None:
        """Propagate everything that was sent.

        Args:
            arrived: called with a leaf and its gradient as soon as nothing more is added to it.
        """
        state = tracer()
        outer_site, outer_node = state.site, state.node
        order, left = _reached(roots)
        targets = self.targets
        for leaf, gradient in list(self.leaves.values()):
            if id(leaf) not in left:  # an output itself
                arrived(leaf, gradient)
        if targets is not None:
            for node in reversed(order):
                if any(edge is not None and self.wants(edge) for edge in node.edges):
                    self.leading.add(node)
        check = anomaly.check(self.outputs, order)
        try:
            for node in order:
                self._visit(node, state, check, retain)
                for edge in node.edges:
                    if edge is None or isinstance(edge[0], TapeNode):
                        continue
                    key = id(edge[0])
                    left[key] -= 1
                    if not left[key] and key in self.leaves:
                        state.site = None  # no part of a forward operation's gradient
                        arrived(*self.leaves.pop(key))
            if check is not None:
                check.finish()
        finally:
            state.site, state.node = outer_site, outer_node

    def _visit(self, node: TapeNode, state: Tracer, check: Any, retain: bool) -> None:
        """Pass on what has arrived at a node."""
        slots = self.pending.pop(node, None)
        if slots is None:
            return
        hooks = node.hooks
        if hooks is not None:
            slots = self._before(hooks, slots)
        targets = self.targets
        if targets is not None:
            for index, gradient in enumerate(slots):
                if gradient is not None and (node, index) in targets:
                    self.reached[(node, index)] = gradient
            if node not in self.leading:
                return
        state.site, state.node = node.site, node
        gradients = node.propagate(self, slots)
        if check is not None:
            found = [(at, self.to_tensor(gradient)) for at, gradient in gradients]
            check(node, found, self._tensors(slots))
        if hooks is not None and hooks.after:
            gradients = self._after(node, hooks, slots, gradients)
        for at, gradient in gradients:
            edge = node.edges[at]
            assert edge is not None
            self.send(edge, gradient)
        if not retain:
            node.release()

    def _before(self, hooks: NodeHooks, slots: list[Any]) -> list[Any]:
        """Call what is to be called when gradients arrive at a node."""
        for index, table in hooks.results.items():
            if slots[index] is not None and table:
                slots[index] = self.hooked(table.values(), slots[index])
        for index, reference in hooks.retained.items():
            tensor = reference()
            if tensor is not None and slots[index] is not None:
                _accumulate(self, tensor, slots[index], {id(gradient) for gradient in slots})
        if hooks.before:
            with user_code():
                for hook in list(hooks.before.values()):
                    changed = hook(self._tensors(slots))
                    if changed is not None:
                        slots = self._from_tensors(changed, len(slots))
        return slots

    def _after(
        self, node: TapeNode, hooks: NodeHooks, slots: list[Any], gradients: list[tuple[int, Any]]
    ) -> list[tuple[int, Any]]:
        """Call what is to be called when gradients leave a node."""
        leaving: list[Any] = [None] * len(node.edges)
        for at, gradient in gradients:
            leaving[at] = gradient
        with user_code():
            for hook in list(hooks.after.values()):
                changed = hook(self._tensors(leaving), self._tensors(slots))
                if changed is not None:
                    leaving = self._from_tensors(changed, len(leaving))
        return [
            (at, gradient)
            for at, (gradient, edge) in enumerate(zip(leaving, node.edges, strict=True))
            if gradient is not None and edge is not None
        ]

    def _tensors(self, gradients: Sequence[Any]) -> tuple[Tensor | None, ...]:
        return tuple([None if g is None else self.to_tensor(g) for g in gradients])

    def _from_tensors(self, changed: Any, count: int) -> list[Any]:
        given = tuple(changed) if isinstance(changed, (tuple, list)) else (changed,)
        if len(given) != count:
            raise RuntimeError(
                f"a hook of a graph node returned {len(given)} gradients, expected {count}"
            )
        return [None if tensor is None else self.from_tensor(tensor) for tensor in given]

    def hooked(self, hooks: Iterable[Callable[[Any], Any]], gradient: Any) -> Any:
        """Pass a gradient through user hooks, each of which may replace it."""
        tensor = self.to_tensor(gradient)
        with user_code():
            for hook in list(hooks):
                changed = hook(tensor)
                if changed is not None:
                    tensor = _checked_replacement(hook, changed, tensor)
        return self.from_tensor(tensor)

    def to_tensor(self, gradient: Any) -> Tensor:
        """A gradient as a tensor for the user."""
        from braze.tensors import wrap

        if isinstance(gradient, SparseHandle):
            from braze.sparse.tensor import around

            return around(gradient)
        return gradient.tensor if isinstance(gradient, Tracked) else wrap(gradient, None, 0)

    def from_tensor(self, tensor: Tensor) -> Any:
        """A user's tensor as a gradient of this sweep."""
        if not self.create_graph:
            return tensor._current()
        tensor._current()
        return Tracked(tensor)


class user_code:
    """Inside, what is captured belongs to the line of the hook or function that calls it, and not
    to the forward operation whose gradient is being computed."""

    __slots__ = ("site",)

    def __enter__(self) -> None:
        state = tracer()
        self.site = state.site
        state.site = None

    def __exit__(self, *error: object) -> None:
        tracer().site = self.site


def _checked_replacement(hook: Callable[..., Any], changed: Any, gradient: Tensor) -> Tensor:
    """What a hook returned, if it can stand in for the gradient."""
    from braze.tensors import Tensor

    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(changed, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(changed).__name__}'")
    given, wanted = changed._current().type, gradient._handle.type
    if given.shape != wanted.shape:
        raise RuntimeError(
            f"hook '{name}' has changed the size of value (was {wanted} got {given})"
        )
    if given.dtype is not wanted.dtype:
        raise RuntimeError(
            f"hook '{name}' has changed the type of value (was {wanted} got {given})"
        )
    return changed


def _key(tensor: Tensor) -> Any:
    node = tensor._node
    return id(tensor) if node is None else (node, tensor._index)


def _start(
    sweep: Sweep, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[TapeNode]:
    """Send the initial gradients; returns the tape nodes to start from."""
    roots: list[TapeNode] = []
    sweep.outputs = tensors
    for i, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        if isinstance(tensor._handle, SparseHandle) and tensor._requires_grad:
            from braze.sparse.gradients import start_at

            tensor, gradient = start_at(tensor, gradient)
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
            if type.dtype.is_complex:
                raise RuntimeError(
                    f"grad can be implicitly created only for real scalar outputs but got "
                    f"{type.dtype!r}"
                )
            start = sweep.ones(type)
        else:
            given = gradient._current().type
            if given.shape != type.shape:
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{i}] is {given} and output[{i}] is {type}"
                )
            start = sweep.from_tensor(gradient)
            if given.dtype is not type.dtype:
                start = sweep.builder.cast(start, dtype=type.dtype)
        node = tensor._node
        sweep.send((tensor, 0) if node is None else (node, tensor._index), start)
        if node is not None:
            roots.append(node)
    return roots


def as_tuple(tensors: Tensor | Sequence[Tensor | None] | None) -> tuple[Any, ...]:
    """One tensor or several, as a tuple.

    Raises:
        TypeError: it is neither.
    """
    alone = tensors is None or hasattr(tensors, "_handle")
    return (tensors,) if alone else tuple(tensors)  # type: ignore[arg-type]


def _initial(gradients: Any, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    given = as_tuple(gradients) if gradients is not None else (None,) * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(given)} gradients")
    return given


def _targets(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """The tensors whose gradients are wanted; of sparse ones, the values."""
    for tensor in tensors:
        tensor._current()
        if not tensor._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    return tuple([on_tape(tensor) for tensor in tensors])


def on_tape(tensor: Tensor) -> Tensor:
    """What the tape knows of a tensor: itself, or a sparse one's values."""
    handle = tensor._handle
    return handle.values if isinstance(handle, SparseHandle) else tensor


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Tensor | Sequence[Tensor | None] | None = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradients of `tensors` into the `grad` of the leaves they depend on.

    Args:
        tensors: outputs; each must require a gradient.
        grad_tensors: the gradient of each output, of its shape; may be left out (None) for
            single-element ones.
        retain_graph: keep the saved values for another backward pass. Default: `create_graph`.
        create_graph: record the backward pass too, so that the gradients can be differentiated.
        grad_variables: the old name of `grad_tensors`.
        inputs: accumulate into the `grad` of these tensors only, which need not be leaves.

    Raises:
        RuntimeError: an output needs no gradient, is not a scalar and has no gradient given, shapes
            differ, the saved values were freed already, one was changed in place, or `inputs` is
            empty.
    """
    if grad_variables is not None:
        if grad_tensors is not None:
            raise RuntimeError(
                "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to "
                "`backward()`. Please only use `grad_tensors`."
            )
        grad_tensors = grad_variables
    retain = create_graph if retain_graph is None else retain_graph
    outputs = as_tuple(tensors)
    plan = None
    if grad_tensors is None and inputs is None and not create_graph and len(outputs) == 1:
        outputs[0]._current()
        plan = survey(outputs[0])
        if plan is not None and replay(plan, retain):
            _finish()
            return
    gradients = _initial(grad_tensors, outputs)
    targets = None if inputs is None else _targets(as_tuple(inputs))
    if targets is not None and not targets:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    with _recording(create_graph):
        base = 0 if plan is None else len(plan.pending.handles)
        sweep = Sweep(create_graph, targets)
        roots = _start(sweep, outputs, gradients)
        given = {id(g._handle) for g in gradients if g is not None}

        def arrived(leaf: Tensor, gradient: Any) -> None:
            if sweep.targets is None or id(leaf) in sweep.targets:
                _accumulate_leaf(sweep, leaf, gradient, given)

        sweep.run(roots, retain, arrived)
        if plan is not None:
            remember(plan, base)
        for target in {id(t): t for t in targets or ()}.values():
            key = _key(target)
            if key in sweep.reached and not target.retains_grad:
                _accumulate(sweep, target, sweep.reached[key], given)
    _finish()


def _finish() -> None:
    """Call who waits for the end of a backward pass."""
    state = tracer()
    if state.after_backward:
        waiting, state.after_backward = state.after_backward, []
        with _recording(False), user_code():
            state.after_backward += [call for call in waiting if call()]


def _accumulate_leaf(sweep: Sweep, leaf: Tensor, gradient: Any, given: set[int]) -> None:
    """Add a gradient to `leaf.grad`, with the leaf's hooks before and after."""
    hooks = getattr(leaf, "_hooks", None)
    if hooks:
        gradient = sweep.hooked(hooks.values(), gradient)
    _accumulate(sweep, leaf, gradient, given)
    hooks = getattr(leaf, "_post_hooks", None)
    if hooks:
        with user_code():
            for hook in list(hooks.values()):
                hook(leaf)


def _accumulate(sweep: Sweep, tensor: Tensor, gradient: Any, given: set[int]) -> None:
    """Add a gradient to `tensor.grad`; the first one becomes it.

    Args:
        given: ids of handles that other tensors hold already.
    """
    from braze.tensors import wrap

    try:
        if sweep.create_graph:
            before = tensor.grad
            # A copy, as in PyTorch: other tensors may be given the same gradient, and a later
            # backward pass adds to each in place.
            tensor.grad = gradient.tensor.clone() if before is None else before + gradient.tensor
        elif tensor.grad is not None:
            tensor.grad._replace(wrap(_HANDLES.add(tensor.grad._current(), gradient), None, 0))
        else:
            if id(gradient) in given or gradient.storage is not None:
                # Two tensors must not share memory unless one is a view of the other.
                gradient = _HANDLES.reshape(gradient, shape=gradient.type.shape)
            given.add(id(gradient))
            tensor.grad = wrap(gradient, None, 0)
    except SparseOperand:
        from braze.sparse.gradients import accumulate

        accumulate(tensor, gradient)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching any `grad`.

    Args: as `backward`; `allow_unused` gives None for an input that the outputs do not depend on,
        `materialize_grads` zeros. With `is_grads_batched` the first dimension of `grad_outputs` is
        one of several gradients of the outputs, and so is that of the results.

    Raises:
        RuntimeError: as `backward`, or an input is not used and `allow_unused` is not set.
        ValueError: `materialize_grads` is set and `allow_unused` is False.
    """
    if is_grads_batched:
        return _batched(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused)
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    allow_unused = allow_unused or materialize_grads
    wanted = as_tuple(inputs)
    sources, targets = as_tuple(outputs), _targets(wanted)
    if not targets:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    gradients = _initial(grad_outputs, sources)
    with _recording(create_graph):
        sweep = Sweep(create_graph, targets)
        roots = _start(sweep, sources, gradients)

        def arrived(leaf: Tensor, gradient: Any) -> None:
            hooks = getattr(leaf, "_hooks", None)
            sweep.reached[id(leaf)] = sweep.hooked(hooks.values(), gradient) if hooks else gradient

        sweep.run(roots, create_graph if retain_graph is None else retain_graph, arrived)
        found: list[Tensor | None] = []
        for asked, target in zip(wanted, targets, strict=True):
            value = sweep.reached.get(_key(target))
            if value is None and not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
            if value is None and materialize_grads:
                value = sweep.zeros(target._handle.type)
            gradient = None if value is None else sweep.to_tensor(value)
            if gradient is not None and asked is not target:
                from braze.sparse.gradients import gradient_at

                gradient = gradient_at(asked._handle, gradient)
            found.append(gradient)
    return tuple(found)


def _batched(
    outputs: Any, inputs: Any, grad_outputs: Any, retain: Any, create: bool, unused: Any
) -> tuple[Any, ...]:
    """`grad` for each index of the first dimension of `grad_outputs`, stacked."""
    from braze.functions.movement import stack

    batches = as_tuple(grad_outputs)
    sizes = {len(batch) for batch in batches if batch is not None}
    if len(sizes) != 1:
        raise RuntimeError(
            "grad: is_grads_batched needs grad_outputs with one size of the first dimension, given "
            f"{sorted(sizes)}"
        )
    count = sizes.pop()
    keep = create if retain is None else retain
    rows = []
    for i in range(count):
        given = [None if batch is None else batch[i] for batch in batches]
        rows.append(grad(outputs, inputs, given, keep or i + 1 < count, create, unused))
    return tuple([None if row[0] is None else stack(row) for row in zip(*rows, strict=True)])


class _recording:
    """Gradients are recorded inside only if `create_graph`."""

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph

    def __enter__(self) -> None:
        self.before = tracer().grad_enabled
        tracer().grad_enabled = self.create_graph

    def __exit__(self, *error: object) -> None:
        tracer().grad_enabled = self.before
