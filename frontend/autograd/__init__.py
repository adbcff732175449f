"""Automatic differentiation by a tape of the operations that were captured."""

from __future__ import annotations

import importlib
from typing import Any

from braze.autograd.anomaly import detect_anomaly, set_detect_anomaly
from braze.autograd.engine import backward, grad
from braze.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

# These are built on tensors, and tensors on this package: loaded when they are first used.
_LATER = {
    "Function": "function",
    "Variable": "variable",
    "GradcheckError": "numerical",
    "gradcheck": "numerical",
    "gradgradcheck": "numerical",
}
_MODULES = ("function", "functional", "profiler")

__all__ = [
    "Function",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "profiler",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"braze.autograd.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'braze.autograd' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"braze.autograd.{_LATER[name]}"), name)
    globals()[name] = value
    return value
