"""Utilities around training: `data` loads data, `checkpoint` trades computation for memory,
`dlpack` shares memory with other libraries, `trainer` is a training loop.

`model_zoo`, `safetensors`, `tensorboard` and `trainer` are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from braze.utils import checkpoint, data, dlpack, hooks

__all__ = ["checkpoint", "data", "dlpack", "hooks"]

_LATER = (
    *("backcompat", "bottleneck", "collect_env", "model_zoo", "safetensors", "serialization"),
    *("tensorboard", "trainer"),
)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"braze.utils.{name}")
    raise AttributeError(f"module 'braze.utils' has no attribute {name!r}")
