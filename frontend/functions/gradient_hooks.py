"""Tensor methods by which users see gradients: hooks, and gradients that are kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from braze.removable import RemovableHandle
from braze.tensors import Tensor


def retain_grad(self: Tensor) -> None:
    """Keep the gradient of a tensor that is not a leaf in `grad`: what it is after all hooks.

    Raises:
        RuntimeError: the tensor requires no gradient.
    """
    self._current()
    if not self._requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self._node is not None:
        self._node.own_hooks().retained[self._index] = weakref.ref(self)


def _retains_grad(self: Tensor) -> bool:
    """Whether this is not a leaf and `retain_grad` was called."""
    hooks = None if self._node is None else self._node.hooks
    reference = None if hooks is None else hooks.retained.get(self._index)
    return reference is not None and reference() is self


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(gradient)` when the gradient of this tensor is known; what it returns replaces
    it. Hooks are called in the order of their registration.

    Returns:
        A handle whose `remove()` takes the hook off again.

    Raises:
        RuntimeError: the tensor requires no gradient.
    """
    self._current()
    if not self._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._node is not None:
        table = self._node.own_hooks().results.setdefault(self._index, {})
    else:
        if not hasattr(self, "_hooks"):
            self._hooks = {}
        table = self._hooks
    return RemovableHandle(table, hook)


def register_post_accumulate_grad_hook(
    self: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Call `hook(tensor)` after a backward pass has added to this leaf's `grad`.

    Raises:
        RuntimeError: the tensor requires no gradient, or is not a leaf.
    """
    if not self._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._node is not None:
        raise RuntimeError(
            "post accumulate grad hooks cannot be registered on non-leaf tensors"
        )
    if not hasattr(self, "_post_hooks"):
        self._post_hooks = {}
    return RemovableHandle(self._post_hooks, hook)


METHODS: dict[str, Any] = {
    "retain_grad": retain_grad,
    "retains_grad": property(_retains_grad),
    "register_hook": register_hook,
    "register_post_accumulate_grad_hook": register_post_accumulate_grad_hook,
}
