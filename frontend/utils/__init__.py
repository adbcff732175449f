"""Utilities around training: `data` loads data, `checkpoint` trades computation for memory,
`dlpack` shares memory with other libraries."""

from braze.utils import checkpoint, data, dlpack, hooks

__all__ = ["checkpoint", "data", "dlpack", "hooks"]
