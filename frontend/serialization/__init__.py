"""`braze.serialization`: saving and loading objects, and what a loaded file may name."""

from __future__ import annotations

from braze.serialization.allowed import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    safe_globals,
)
from braze.serialization.loading import get_unsafe_globals_in_checkpoint, load
from braze.serialization.saving import save

__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "get_unsafe_globals_in_checkpoint",
    "load",
    "safe_globals",
    "save",
]
