"""Utilities around training: `braze.utils.data` loads data, `braze.utils.dlpack` shares memory."""

from braze.utils import data, dlpack

__all__ = ["data", "dlpack"]
