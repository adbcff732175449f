"""Utilities around training: `braze.utils.data` loads data."""

from braze.utils import data

__all__ = ["data"]
