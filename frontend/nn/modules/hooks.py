"""Calls of modules with hooks, which run around `forward` and in the backward pass.

A module without hooks never comes here. For backward hooks the tensor arguments (and results) of a
call pass through one identity operation each, whose gradient is then exactly what flows through
this call of the module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from braze.autograd.tape import TapeNode
from braze.capture import tracer
from braze.functions.movement import cat, clone, reshape, slice_dimension
from braze.functions.promotion import cast
from braze.nn.modules import global_hooks
from braze.sites import user_stacklevel
from braze.structure import tensors_in
from braze.tensors import Tensor

if TYPE_CHECKING:
    from braze.nn.modules.module import Module

Gradients = tuple[Tensor | None, ...]
Args = tuple[Any, ...]


class HookedCall:
    """One call of a module with hooks, its own and those of all modules."""

    def __init__(self, module: Module, args: Args, kwargs: dict[str, Any]) -> None:
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None
        self.called: set[int] = set()  # forward hooks that are called even after a failure

    def run(self) -> Any:
        """The result of the module."""
        try:
            self._run()
        except Exception:
            self._after_failure()
            raise
        return self.result

    def _run(self) -> None:
        full, others = self._backward_hooks()
        before = self._pre_backward_hooks()
        self._before()
        watch = None
        if (full or before) and tracer().grad_enabled:
            watch = BackwardWatch(self.module, full, before)
            self.args = watch.inputs(self.args)
        self.result = self.module.forward(*self.args, **self.kwargs)
        for number, hook, with_kwargs, always in self._forward_hooks():
            if always:
                self.called.add(number)
            changed = self._call(hook, with_kwargs)
            if changed is not None:
                self.result = changed
        if watch is not None:
            self.result = watch.outputs(self.result)
        if others:
            _after_last_operation(self.module, self.result, others)

    def _before(self) -> None:
        module = self.module
        hooks = [(hook, False) for hook in global_hooks.FORWARD_PRE.values()]
        marked = module._forward_pre_hooks_with_kwargs
        hooks += [(hook, key in marked) for key, hook in module._forward_pre_hooks.items()]
        for hook, with_kwargs in hooks:
            if with_kwargs:
                changed = hook(module, self.args, self.kwargs)
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {changed}."
                    )
                self.args, self.kwargs = changed
            else:
                changed = hook(module, self.args)
                if changed is not None:
                    self.args = changed if isinstance(changed, tuple) else (changed,)

    def _forward_hooks(self) -> list[tuple[int, Callable[..., Any], bool, bool]]:
        """Number, function, whether it takes keyword arguments, whether it is always called."""
        module = self.module
        tables = [
            (
                global_hooks.FORWARD,
                global_hooks.FORWARD_WITH_KWARGS,
                global_hooks.FORWARD_ALWAYS,
            ),
            (
                module._forward_hooks,
                module._forward_hooks_with_kwargs,
                module._forward_hooks_always_called,
            ),
        ]
        return [
            (number, hook, number in with_kwargs, number in always)
            for hooks, with_kwargs, always in tables
            for number, hook in hooks.items()
        ]

    def _call(self, hook: Callable[..., Any], with_kwargs: bool) -> Any:
        if with_kwargs:
            return hook(self.module, self.args, self.kwargs, self.result)
        return hook(self.module, self.args, self.result)

    def _after_failure(self) -> None:
        for number, hook, with_kwargs, always in self._forward_hooks():
            if not always or number in self.called:
                continue
            try:
                changed = self._call(hook, with_kwargs)
            except Exception as error:
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception that was "
                    f"silenced as another error was raised in forward: {error}",
                    stacklevel=user_stacklevel(),
                )
                continue
            if changed is not None:
                self.result = changed

    def _pre_backward_hooks(self) -> list[Callable[..., Any]]:
        return [*global_hooks.BACKWARD_PRE.values(), *self.module._backward_pre_hooks.values()]

    def _backward_hooks(self) -> tuple[list[Callable[..., Any]], list[Callable[..., Any]]]:
        """Those that see the whole module, and those that see its last operation."""
        shared = list(global_hooks.BACKWARD.values())
        own = list(self.module._backward_hooks.values())
        full = [] if global_hooks.BACKWARD_NOT_FULL else shared
        others = shared if global_hooks.BACKWARD_NOT_FULL else []
        if self.module._is_full_backward_hook is False:
            return full, others + own
        return full + own, others


def _after_last_operation(module: Module, result: Any, hooks: list[Callable[..., Any]]) -> None:
    """Let hooks that are not full follow the operation that made the (first) result."""
    first = next(iter(tensors_in(result)), None)
    node = None if first is None else first.grad_fn
    if node is not None:
        for hook in hooks:
            node.register_hook(lambda *gradients, hook=hook: hook(module, *gradients))


class BackwardWatch:
    """One call of a module whose backward pass is to be seen by hooks."""

    def __init__(
        self,
        module: Module,
        hooks: list[Callable[..., Any]],
        before: list[Callable[..., Any]],
    ) -> None:
        self.module = module
        self.hooks = hooks
        self.before = before
        self.places: list[int] = []  # of the watched arguments
        self.arguments = 0
        self.grad_output: Gradients | None = None

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, with those that need a gradient passed through the identity."""
        self.arguments = len(args)
        self.places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        if not self.places:
            return args
        watched = iter(through_identity([args[i] for i in self.places], self.arrived))
        return tuple(next(watched) if i in self.places else x for i, x in enumerate(args))

    def outputs(self, result: Any) -> Any:
        """The results, likewise."""
        single = isinstance(result, Tensor)
        results = (result,) if single else result
        if not isinstance(results, tuple):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of "
                f"Tensors but received {type(result)}",
                stacklevel=user_stacklevel(),
            )
            return result
        places = [i for i, x in enumerate(results) if isinstance(x, Tensor) and x.requires_grad]
        if not places:
            return result
        total = len(results)

        def starting(gradients: list[Tensor]) -> list[Tensor] | None:
            full: list[Tensor | None] = [None] * total
            for i, gradient in zip(places, gradients, strict=True):
                full[i] = gradient
            return self.started(tuple(full), places)

        watched = iter(through_identity([results[i] for i in places], starting))
        replaced = [next(watched) if i in places else x for i, x in enumerate(results)]
        if single:
            return replaced[0]
        return type(results)(*replaced) if hasattr(results, "_fields") else tuple(replaced)

    def started(self, gradients: Gradients, places: list[int]) -> list[Tensor] | None:
        """The gradients of the results are known: the backward pass of this call begins."""
        changed = False
        for hook in self.before:
            answer = hook(self.module, gradients)
            if answer is not None:
                gradients, changed = _as_gradients(answer, len(gradients), "grad_output"), True
        self.grad_output = gradients
        if not self.places:
            self._finish((None,) * self.arguments)
        return [_required(gradients[i]) for i in places] if changed else None

    def arrived(self, gradients: list[Tensor]) -> list[Tensor] | None:
        """The gradients of the arguments are known: it ends."""
        if self.grad_output is None:  # the result was nothing that could be watched
            return None
        full: list[Tensor | None] = [None] * self.arguments
        for i, gradient in zip(self.places, gradients, strict=True):
            full[i] = gradient
        answer = self._finish(tuple(full))
        return None if answer is None else [_required(answer[i]) for i in self.places]

    def _finish(self, gradients: Gradients) -> Gradients | None:
        changed = False
        for hook in self.hooks:
            answer = hook(self.module, gradients, self.grad_output)
            if answer is not None:
                gradients, changed = _as_gradients(answer, len(gradients), "grad_input"), True
        return gradients if changed else None


def _required(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise RuntimeError("a backward hook replaced a gradient that is needed by None")
    return gradient


def _as_gradients(answer: Any, count: int, what: str) -> Gradients:
    gradients = answer if isinstance(answer, tuple) else (answer,)
    if len(gradients) != count:
        raise RuntimeError(
            f"Backward hook returned an invalid number of {what}, got {len(gradients)}, but "
            f"expected {count}"
        )
    return gradients


def through_identity(
    tensors: list[Tensor], hook: Callable[[list[Tensor]], list[Tensor] | None]
) -> list[Tensor]:
    """The same values after one operation, whose gradients (all at once) go through `hook`.

    Several tensors are joined into one vector for that and taken apart again.
    """
    if len(tensors) == 1:
        same = clone(tensors[0])

        def alone(gradient: Tensor) -> Tensor | None:
            changed = hook([gradient])
            return None if changed is None else changed[0]

        _hook_on(same, alone)
        return [same]
    joined = cat([reshape(x, (-1,)) for x in tensors])
    like = [x._handle.type for x in tensors]

    def apart(vector: Tensor) -> Iterator[Tensor]:
        at = 0
        for type in like:
            piece = slice_dimension(vector, 0, at, at + type.numel, 1)
            at += type.numel
            yield cast(clone(reshape(piece, type.shape)), type.dtype)

    def together(gradient: Tensor) -> Tensor | None:
        changed = hook(list(apart(gradient)))
        return None if changed is None else cat([reshape(x, (-1,)) for x in changed])

    _hook_on(joined, together)
    return list(apart(joined))


def _hook_on(tensor: Tensor, hook: Callable[[Tensor], Tensor | None]) -> None:
    assert isinstance(tensor._node, TapeNode)
    tensor.register_hook(hook)
