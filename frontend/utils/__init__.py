"""Utilities around training: `data` loads data, `checkpoint` trades computation for memory."""

from braze.utils import checkpoint, data, hooks

__all__ = ["checkpoint", "data", "hooks"]
