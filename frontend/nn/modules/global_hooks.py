"""Hooks of all modules at once, as `torch.nn.modules.module.register_module_...`: for debugging.

They are called before the modules' own. While there are none, a call of a module pays one look at
`CALL_HOOKS` for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.removable import HookTable, RemovableHandle

CALL_HOOKS: HookTable = {}  # the numbers of all that have a part in a call
FORWARD_PRE: HookTable = {}
FORWARD: HookTable = {}
FORWARD_WITH_KWARGS: HookTable = {}
FORWARD_ALWAYS: HookTable = {}
BACKWARD_PRE: HookTable = {}
BACKWARD: HookTable = {}
BACKWARD_NOT_FULL: HookTable = {}  # those of `BACKWARD` that see a module's last operation only
BUFFERS: HookTable = {}
PARAMETERS: HookTable = {}
MODULES: HookTable = {}

MIXED = (
    "Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
    "Please use only one of them."
)


def registered(table: HookTable, module: Any, name: str, value: Any) -> Any:
    """What is to be registered, after the hooks of a table have seen it."""
    for hook in list(table.values()):
        changed = hook(module, name, value)
        if changed is not None:
            value = changed
    return value


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, buffer)` at each `register_buffer`; what it returns is registered
    in place of the buffer."""
    return RemovableHandle(BUFFERS, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, submodule)` whenever a child is added; what it returns is added in
    its place."""
    return RemovableHandle(MODULES, hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, param)` at each `register_parameter`; what it returns is registered
    in place of the parameter."""
    return RemovableHandle(PARAMETERS, hook)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_forward_pre_hook` for all modules."""
    return RemovableHandle(FORWARD_PRE, hook, marks=[CALL_HOOKS])


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """`Module.register_forward_hook` for all modules."""
    marks = [CALL_HOOKS]
    if with_kwargs:
        marks.append(FORWARD_WITH_KWARGS)
    if always_call:
        marks.append(FORWARD_ALWAYS)
    return RemovableHandle(FORWARD, hook, marks=marks)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_backward_hook` for all modules.

    Raises:
        RuntimeError: there are full backward hooks of all modules.
    """
    if len(BACKWARD) > len(BACKWARD_NOT_FULL):
        raise RuntimeError(MIXED)
    return RemovableHandle(BACKWARD, hook, marks=[CALL_HOOKS, BACKWARD_NOT_FULL])


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_full_backward_pre_hook` for all modules."""
    return RemovableHandle(BACKWARD_PRE, hook, marks=[CALL_HOOKS])


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_full_backward_hook` for all modules.

    Raises:
        RuntimeError: there are backward hooks of all modules that are not full.
    """
    if BACKWARD_NOT_FULL:
        raise RuntimeError(MIXED)
    return RemovableHandle(BACKWARD, hook, marks=[CALL_HOOKS])
