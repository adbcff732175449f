"""What goes wrong between processes."""

from __future__ import annotations


class DistError(RuntimeError):
    """An error of `braze.distributed`."""


class DistBackendError(DistError):
    """A collective or message could not be completed: a rank is gone, or did not come in time."""
