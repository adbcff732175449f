"""Hooks of modules: kept in ordered tables, run around `forward` and in the backward pass.

A module without hooks never comes here. For backward hooks the tensor arguments (and results) of a
call pass through one identity operation each, whose gradient is then exactly what flows through
this call of the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from braze.autograd.tape import TapeNode
from braze.capture import tracer
from braze.functions.movement import cat, clone, reshape, slice_dimension
from braze.functions.promotion import cast
from braze.removable import RemovableHandle
from braze.tensors import Tensor

if TYPE_CHECKING:
    from braze.nn.modules.module import Module

Gradients = tuple[Tensor | None, ...]
HookHandle = RemovableHandle


class ForwardHook:
    """A registered forward (pre-)hook with its options."""

    __slots__ = ("always_call", "function", "with_kwargs")

    def __init__(self, function: Callable[..., Any], with_kwargs: bool, always_call: bool) -> None:
        self.function = function
        self.with_kwargs = with_kwargs
        self.always_call = always_call


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`forward` with all of a module's hooks around it, in PyTorch's order."""
    args, kwargs = _before(module, args, kwargs)
    watch = None
    if (module._backward_hooks or module._backward_pre_hooks) and tracer().grad_enabled:
        watch = BackwardWatch(module)
        args = watch.inputs(args)
    done = False
    try:
        result = module.forward(*args, **kwargs)
        done = True
    finally:
        if not done:
            _after_failure(module, args, kwargs)
    for hook in list(module._forward_hooks.values()):
        extra = (args, kwargs, result) if hook.with_kwargs else (args, result)
        changed = hook.function(module, *extra)
        if changed is not None:
            result = changed
    return result if watch is None else watch.outputs(result)


def _before(
    module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for hook in list(module._forward_pre_hooks.values()):
        if hook.with_kwargs:
            changed = hook.function(module, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {changed}."
                    )
                args, kwargs = changed
        else:
            changed = hook.function(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def _after_failure(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for hook in list(module._forward_hooks.values()):
        if hook.always_call:
            extra = (args, kwargs, None) if hook.with_kwargs else (args, None)
            hook.function(module, *extra)


class BackwardWatch:
    """One call of a module whose backward pass is to be seen by hooks."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.places: list[int] = []  # of the watched arguments
        self.arguments = 0
        self.grad_output: Gradients = ()

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
        if not isinstance(results, (tuple, list)):
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
        if isinstance(results, tuple) and hasattr(results, "_fields"):
            return type(results)(*replaced)
        return type(results)(replaced)

    def started(self, gradients: Gradients, places: list[int]) -> list[Tensor] | None:
        """The gradients of the results are known: the backward pass of this call begins."""
        changed = False
        for hook in list(self.module._backward_pre_hooks.values()):
            answer = hook(self.module, gradients)
            if answer is not None:
                gradients, changed = _as_gradients(answer, len(gradients), "grad_output"), True
        self.grad_output = gradients
        if not self.places:
            self._finish((None,) * self.arguments)
        return [_required(gradients[i]) for i in places] if changed else None

    def arrived(self, gradients: list[Tensor]) -> list[Tensor] | None:
        """The gradients of the arguments are known: it ends."""
        full: list[Tensor | None] = [None] * self.arguments
        for i, gradient in zip(self.places, gradients, strict=True):
            full[i] = gradient
        answer = self._finish(tuple(full))
        return None if answer is None else [_required(answer[i]) for i in self.places]

    def _finish(self, gradients: Gradients) -> Gradients | None:
        changed = False
        for hook in list(self.module._backward_hooks.values()):
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
