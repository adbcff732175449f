"""The methods by which hooks are put on a module; `braze.nn.modules.hooks` calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.removable import HookTable, RemovableHandle

MIXED = (
    "Cannot use both regular backward hooks and full backward hooks on a single Module. Please use "
    "only one of them."
)


class ModuleHooks:
    """What `Module` inherits: tables of hooks, by number, and the ways to enter them."""

    _forward_pre_hooks: HookTable
    _forward_pre_hooks_with_kwargs: HookTable
    _forward_hooks: HookTable
    _forward_hooks_with_kwargs: HookTable
    _forward_hooks_always_called: HookTable
    _backward_pre_hooks: HookTable
    _backward_hooks: HookTable
    _is_full_backward_hook: bool | None

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; what it returns replaces the arguments.

        Args:
            prepend: call it before those there are.
            with_kwargs: call `hook(module, args, kwargs)`; it returns both or None.
        """
        marks = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return RemovableHandle(self._forward_pre_hooks, hook, prepend, marks)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, result)` after `forward`; what it returns replaces the result.

        Args:
            prepend: call it before those there are.
            with_kwargs: call `hook(module, args, kwargs, result)`.
            always_call: call it, with None as the result, even if `forward` raises.
        """
        marks = [self._forward_hooks_with_kwargs] if with_kwargs else []
        marks += [self._forward_hooks_always_called] if always_call else []
        return RemovableHandle(self._forward_hooks, hook, prepend, marks)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the results are known; it may
        replace them.
        """
        return RemovableHandle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the arguments are
        known.

        Both are tuples, one entry for each positional argument or result (None where it is no
        tensor or needs no gradient). A tuple that the hook returns replaces `grad_input`. A result
        that nothing used counts as zero.

        Raises:
            RuntimeError: the module has hooks of `register_backward_hook`.
        """
        if self._is_full_backward_hook is False:
            raise RuntimeError(MIXED)
        self._is_full_backward_hook = True
        return RemovableHandle(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` after the gradients of the operation that
        made the module's (first) result were computed, with that operation's gradients.

        Deprecated in PyTorch, as `register_full_backward_hook` sees the whole module.

        Raises:
            RuntimeError: the module has hooks of `register_full_backward_hook`.
        """
        if self._is_full_backward_hook is True:
            raise RuntimeError(MIXED)
        self._is_full_backward_hook = False
        return RemovableHandle(self._backward_hooks, hook)
