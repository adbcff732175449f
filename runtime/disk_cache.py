"""Compiled code on disk, so that a program's second start compiles nothing.

In: a key, facts (JSON values) and objects (bytes).  Out: the same, or None.  A file is

    "BRAZECACHE1\\n" | SHA-256 of what follows, 32 bytes | length of the header, 8 bytes
    header: JSON {environment, key, facts, sizes of the objects} | the objects

Files are written beside their place and renamed into it, so that several processes may share the
directory and a crash leaves nothing half-written. What cannot be trusted (damaged, of another
compiler, of another user) is discarded with a warning and made anew. The least recently used files
make way once the directory has grown beyond its limit. Looking at all of them takes longer than
storing one does, so it is done once for about every hundredth of the limit that is written.
"""

from __future__ import annotations

import json
import os
import struct
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from braze.runtime.environment import environment
from braze.runtime.files import replacing

MAGIC = b"BRAZECACHE1\n"
SUFFIX = ".entry"
_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = 32
_TEMPORARY_PREFIX = ".writing-"
_ABANDONED_SECONDS = 3600.0
# Evicting a little more than needed, so that not every look has to.
_KEPT_FRACTION = 0.9
_LOOKED_FRACTION = 0.01


class CacheWarning(RuntimeWarning):
    """The disk cache is damaged or cannot be used; nothing but time is lost."""


class _Unusable(Exception):
    """Why a file is not used."""


@dataclass(frozen=True, slots=True)
class DiskCache:
    """A directory of compiled code, of about `limit` bytes at most."""

    directory: Path
    limit: int

    def path(self, key: str) -> Path:
        """The file of a key. Another compiler's code for the same key lies in another file."""
        text = json.dumps([key, environment()], sort_keys=True)
        return self.directory / (sha256(text.encode()).hexdigest() + SUFFIX)

    def load(self, key: str) -> tuple[dict[str, Any], tuple[bytes, ...]] | None:
        """The facts and objects stored under `key`, or None.

        A file that cannot be used is removed, with a `CacheWarning` that names it.
        """
        path = self.path(key)
        try:
            data = _read_own(path)
            if data is None:
                return None
            found = _decode(data, key)
        except _Unusable as reason:
            self.discard(key, str(reason))
            return None
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            self.discard(key, "it is of another form")
            return None
        try:
            os.utime(path)
        except OSError:
            pass  # of a read-only directory nothing is evicted either
        return found

    def discard(self, key: str, reason: str) -> None:
        """Remove the file of `key` and say why."""
        path = self.path(key)
        warnings.warn(
            f"compiled code in {path} is discarded ({reason}) and will be made anew",
            CacheWarning,
            stacklevel=2,
        )
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass  # a file of somebody else's; it is not used in any case

    def store(self, key: str, facts: dict[str, Any], objects: Sequence[bytes]) -> None:
        """Keep facts and objects under `key`. If the disk refuses, a `CacheWarning` says so."""
        header = json.dumps(
            {
                "environment": environment(),
                "key": key,
                "facts": facts,
                "sizes": [len(data) for data in objects],
            }
        ).encode()
        content = b"".join((_LENGTH.pack(len(header)), header, *objects))
        data = MAGIC + sha256(content).digest() + content
        if len(data) > self.limit:
            return
        try:
            # Code will be run from there, so nobody else may write to it.
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(self.path(key), _TEMPORARY_PREFIX) as file:
                file.write(data)
            if self._looks(self.path(key), len(data)):
                self._evict(self.path(key))
        except OSError as error:
            # One text for all failures, so that Python shows it once.
            warnings.warn(
                f"cannot keep compiled code in {self.directory}: {error.strerror}; set "
                "BRAZE_CACHE_DIR to another directory, or to nothing",
                CacheWarning,
                stacklevel=2,
            )

    def _looks(self, newest: Path, nbytes: int) -> bool:
        """Whether storing these bytes is when to look for what to evict.

        The file's name is a digest, and decides: of all processes that write to the directory one
        looks in time, and none has to know how much the others wrote.
        """
        share = nbytes / (self.limit * _LOOKED_FRACTION)
        return int(newest.name[:8], 16) < share * 16**8

    def _evict(self, newest: Path) -> None:
        files = []
        abandoned = time.time() - _ABANDONED_SECONDS
        with os.scandir(self.directory) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.name.endswith(SUFFIX) and entry.path != str(newest):
                    files.append((status.st_mtime_ns, status.st_size, entry.path))
                elif entry.name.startswith(_TEMPORARY_PREFIX) and status.st_mtime < abandoned:
                    Path(entry.path).unlink(missing_ok=True)
        total = newest.stat().st_size + sum(size for _, size, _ in files)
        if total <= self.limit:
            return
        for _, size, path in sorted(files):
            if total <= self.limit * _KEPT_FRACTION:
                break
            Path(path).unlink(missing_ok=True)
            total -= size


def _read_own(path: Path) -> bytes | None:
    """The bytes of a file that this user or root wrote; None if there is none."""
    try:
        with open(path, "rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            if owner not in (0, os.geteuid()):
                raise _Unusable(f"it belongs to user {owner}")
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Unusable(f"it cannot be read: {error.strerror}") from None


def _decode(data: bytes, key: str) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    start = len(MAGIC) + _DIGEST_BYTES
    if data[: len(MAGIC)] != MAGIC:
        raise _Unusable("it is not an entry of this cache")
    if sha256(memoryview(data)[start:]).digest() != data[len(MAGIC) : start]:
        raise _Unusable("it is damaged")
    (length,) = _LENGTH.unpack_from(data, start)
    start += _LENGTH.size
    header = json.loads(data[start : start + length])
    for name, value in environment().items():
        made_by = header["environment"].get(name)
        if made_by != value:
            raise _Unusable(f"it was made by {name} {made_by}, this is {value}")
    if header["key"] != key:
        raise _Unusable("it is another graph's")
    objects = []
    start += length
    for size in header["sizes"]:
        objects.append(data[start : start + size])
        start += size
    return header["facts"], tuple(objects)
