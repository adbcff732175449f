"""Modules without their first values."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from braze.functions.random_states import positions, take_back
from braze.nn.modules.module import Module

AnyModule = TypeVar("AnyModule", bound=Module)


def skip_init(module_cls: type[AnyModule], *args: Any, **kwargs: Any) -> AnyModule:
    """A module whose parameters and buffers have no values yet: neither is anything computed for
    them, nor a random number drawn.

    Args:
        args, kwargs: of the class, which must take a `device`.

    Raises:
        RuntimeError: it is no module, or takes no device.
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    device = kwargs.pop("device", "cpu")
    before = positions()
    # What the constructor captures is never computed, since nothing refers to it in the end.
    made = module_cls(*args, **kwargs).to_empty(device=device)
    take_back(before)
    return made
