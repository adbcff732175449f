"""Checkpointing: keep a part's inputs instead of its intermediate values, and compute these again
in the backward pass.

The part runs as usual and leaves its tape nodes, but what they keep is dropped. When the backward
pass asks the first of them for its values, the part is called again, on inputs without history, and
the n-th node of the second run hands its values to the n-th of the first. Gradients of any order,
`autograd.grad` and nested checkpoints therefore work as without it.

Both runs are captured lazily. Were they in one graph, the compiler would see that they are the same
and compute them once, keeping everything in between; so the forward pass is run, in a graph of its
own, before the part is captured again.

After "Training Deep Nets with Sublinear Memory Cost", Chen et al., 2016.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.autograd.modes import enable_grad
from braze.autograd.tape import TapeNode
from braze.capture import tracer
from braze.casting import settings_now, with_settings
from braze.functions.random_states import positions, take_back
from braze.handle import STALE
from braze.nn.utils.stateless import replaced, replaced_now
from braze.structure import rebuild, tensors_in
from braze.tensors import Tensor
from braze.views import unrecorded

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]

DETERMINISM_CHECKS = ("default", "none")


class CheckpointError(RuntimeError):
    """The second run of a checkpointed part was not like the first."""


def noop_context_fn() -> Contexts:
    """The default `context_fn`: nothing around either run."""
    return nullcontext(), nullcontext()


class _Part:
    """One checkpointed call: what its tape nodes hold in place of their values.

    Attributes:
        nodes: the call's tape nodes in the order in which they were recorded. Weak, since each of
            them refers to this.
        pending: the trace in which the call was captured.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: AbstractContextManager[Any],
        preserve_rng_state: bool,
        strict: bool,
    ) -> None:
        self.function = function
        self.arguments: Any = rebuild((list(args), kwargs), _without_history)
        self.context = context
        self.random = positions() if preserve_rng_state else None
        self.autocast = settings_now()
        self.replaced = replaced_now()  # the second run has these in place of parameters, too
        self.strict = strict
        self.nodes: list[weakref.ref[TapeNode]] = []
        self.names: list[str] = []
        self.pending: object = None

    def take(self, nodes: Sequence[TapeNode]) -> None:
        """Drop what the nodes keep."""
        self.nodes = [weakref.ref(node) for node in nodes]
        self.names = [_description(node) for node in nodes] if self.strict else []
        self.pending = tracer().pending
        for node in nodes:
            if node.values:
                node.values = self

    def restore(self) -> None:
        """Compute the values again and give them back to the nodes.

        Raises:
            RuntimeError: an input was changed in place since.
            CheckpointError: the second run recorded other operations.
        """
        state = tracer()
        if state.pending is self.pending:
            state.flush()
        for tensor in tensors_in(self.arguments):
            if tensor._handle.flags & STALE:
                raise RuntimeError(
                    "an input of a checkpointed function has been modified by an inplace operation "
                    f"before its values were computed again: {tensor._handle.type}"
                )
        args, kwargs = rebuild(self.arguments, _without_history)
        twins: list[TapeNode] = []
        site, state.site = state.site, None
        try:
            with enable_grad(), self._same_random(), with_settings(self.autocast):
                with replaced(self.replaced), self.context, _watching(twins):
                    self.function(*args, **kwargs)
        finally:
            state.site = site
        self._check(twins)
        self._hand_over(twins)

    @contextmanager
    def _same_random(self) -> Iterator[None]:
        """The numbers that the first run drew are drawn again; later draws are not affected."""
        if self.random is None:
            yield
            return
        now = positions()
        take_back(self.random)
        try:
            yield
        finally:
            take_back(now)

    def _check(self, twins: Sequence[TapeNode]) -> None:
        if len(twins) != len(self.nodes):
            raise CheckpointError(
                "checkpoint: A different number of operations was recorded during the original "
                f"forward and recomputation: {len(self.nodes)} and {len(twins)}."
            )
        for name, twin in zip(self.names, twins, strict=False):
            if name != _description(twin):
                raise CheckpointError(
                    "checkpoint: Recomputed values have different metadata than during the forward "
                    f"pass: {name} was recorded then, {_description(twin)} now."
                )

    def _hand_over(self, twins: Sequence[TapeNode]) -> None:
        first: dict[TapeNode, TapeNode] = {}
        for reference, twin in zip(self.nodes, twins, strict=True):
            node = reference()
            if node is None:
                continue
            first[twin] = node
            if node.values is self:
                node.values = twin.values
        # Checkpoints inside this one ran anew as well: they must restore our nodes, not the twins.
        inside = {id(t.values): t.values for t in twins if isinstance(t.values, _Part)}
        for part in inside.values():
            own = [reference() for reference in part.nodes]
            part.nodes = [
                weakref.ref(first.get(twin, twin)) if twin is not None else _DEAD for twin in own
            ]


class _Gone:
    """Something to have a dead reference to."""


_DEAD: Any = weakref.ref(_Gone())


@contextmanager
def _watching(nodes: list[TapeNode]) -> Iterator[None]:
    """List the tape's nodes as they are recorded, for whoever watches outside as well."""
    state = tracer()
    outer, state.watch = state.watch, nodes
    try:
        yield
    finally:
        state.watch = outer
        if outer is not None:
            outer.extend(nodes)


def _without_history(tensor: Tensor) -> Tensor:
    plain = unrecorded(tensor)
    plain._requires_grad = tensor._requires_grad
    return plain


def _description(node: TapeNode) -> str:
    return f"{node.name()} of {', '.join(map(str, node.types))}"


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], Contexts] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """Call `function(*args, **kwargs)` without keeping its intermediate values for the backward
    pass, which calls it again.

    The forward pass and the backward pass become two graphs: see the module.

    Args:
        use_reentrant: accepted; both settings do the same, which is PyTorch's False. With True,
            keyword arguments are refused as there.
        context_fn: gives two context managers, for the first and for the second call.
        determinism_check: "default" compares the operations of both calls with their types, "none"
            only their number.
        debug, early_stop: accepted. Operations that the backward pass does not need are captured
            again, but not run.
        preserve_rng_state: draw the same random numbers (of the default generators) again, so that
            dropout masks match.

    Raises:
        CheckpointError: in the backward pass, if the second call is not like the first.
        RuntimeError: there, if an argument was changed in place in between.
        ValueError: an unknown `determinism_check`, or keyword arguments with `use_reentrant=True`.

    Example:
        >>> import braze
        >>> x = braze.ones(3, requires_grad=True)
        >>> y = checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False)
        >>> y.sum().backward()
        >>> x.grad.shape
        braze.Size([3])
    """
    if use_reentrant and kwargs:
        raise ValueError(f"Unexpected keyword arguments: {','.join(kwargs)}")
    if determinism_check not in DETERMINISM_CHECKS:
        raise ValueError(
            f"determinism_check should be one of {list(DETERMINISM_CHECKS)}, but got "
            f"{determinism_check}"
        )
    if not tracer().grad_enabled:
        return function(*args, **kwargs)
    now, again = context_fn()
    part = _Part(function, args, kwargs, again, preserve_rng_state, determinism_check == "default")
    nodes: list[TapeNode] = []
    with _watching(nodes), now:
        result = function(*args, **kwargs)
    part.take(nodes)
    return result


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Any:
    """Run modules or functions one after the other, each of `segments` groups as a checkpoint
    except for the last, whose backward pass comes first anyway.

    Args:
        functions: `nn.Sequential`, or a sequence of modules and functions of one argument.
        input: the first one's argument.
    """
    steps = list(functions.children() if hasattr(functions, "children") else functions)
    size = len(steps) // segments

    def run(group: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def forward(value: Any) -> Any:
            for step in group:
                value = step(value)
            return value

        return forward

    at = 0
    for _ in range(segments - 1):
        input = checkpoint(
            run(steps[at : at + size]),
            input,
            use_reentrant=use_reentrant,
            preserve_rng_state=preserve_rng_state,
        )
        at += size
    return run(steps[at:])(input)
