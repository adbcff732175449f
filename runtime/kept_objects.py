"""What compiling leaves on the disk, and object code that belongs to no graph.

In: a name, and what makes the code.  Out: the code, from the disk where it was made before.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.disk_cache import DiskCache


def disk_cache() -> DiskCache | None:
    """The disk cache, unless it is off."""
    if not config.cache_dir or not config.cache_bytes:
        return None
    return DiskCache(Path(config.cache_dir), config.cache_bytes)


def pool_object() -> bytes:
    """The thread pool's object code, from the disk or the compiler."""

    def made() -> bytes:
        from braze.codegen.llvm import pool

        return pool.pool_object(host_target())

    return kept_object("pool", made)


def kept_object(name: str, make: Callable[[], bytes]) -> bytes:
    """Object code that belongs to no graph, for this processor: from the disk or, by `make`, from
    the compiler."""
    disk, key = disk_cache(), f"{name} {host_target().to_text()}"
    found = disk.load(key) if disk is not None else None
    if found is not None:
        facts, (data,) = found
        if facts == {"sha256": sha256(data).hexdigest()}:
            return data
    data = make()
    if disk is not None:
        disk.store(key, {"sha256": sha256(data).hexdigest()}, [data])
    return data
