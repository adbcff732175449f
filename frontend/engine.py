"""The one door from the front end to the runtime: pending traces go out, storages come back."""

from __future__ import annotations

from braze.runtime.cache import Entry, prepare
from braze.runtime.config import config
from braze.runtime.stats import stats
from braze.runtime.storage import Storage

__all__ = ["Entry", "Storage", "config", "prepare", "stats"]
