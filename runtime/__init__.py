"""Run compiled graphs: cache, memory, threads, packages.

Names are loaded when they are first used, so that a package runs without the cache's machinery.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Entry": "cache",
    "clear_memory": "cache",
    "prepare": "cache",
    "explain": "recompiles",
    "Storage": "storage",
    "get_num_threads": "pool",
    "set_num_threads": "pool",
    "host_target": "cpu",
    "stages": "compiler",
    "LoadedModel": "package",
    "PackageError": "package",
    "load": "package",
    "write_package": "package_writer",
}
# `config` and `stats` are missing: these names mean the modules, which hold objects of that name.
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'braze.runtime' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"braze.runtime.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
