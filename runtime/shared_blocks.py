"""Blocks of memory that several processes map at once.

In: a number of bytes, or what another process sent.  Out: a `SharedBlock`, on which arrays and
storages can lie.

A block is a file in memory.  By default it has no name (memfd_create), only descriptors: the system
frees it with the last one, whoever is killed and however.  A named one (`shared_files`) is a file
in /dev/shm.  A process maps a file once, however often it arrives: known blocks are found by inode.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from braze.runtime.libc import libc, map_on_boundary, map_pages, unmap

SHM_FOLDER = Path("/dev/shm")

Key = tuple[int, int]  # device and inode

HUGE_PAGE = 2 << 20
_MADV_COLLAPSE = 25


class SharedBlock:
    """`nbytes` bytes of a file in memory, mapped; zeros at first.

    Attributes:
        address: of the first byte. fd: of the file, open as long as the block lives; -1 if the
            file has a name, by which it can be opened again.
        key: the file's device and inode.
        name: of the file, or None where it has none.
        ended: called once the memory is unmapped (to count a named file's users).
    """

    __slots__ = ("__weakref__", "_length", "address", "ended", "fd", "key", "name", "nbytes")

    def __init__(self, fd: int, nbytes: int, name: str | None = None) -> None:
        self.fd = fd
        self.nbytes = nbytes
        self.name = name
        self.ended: Callable[[], None] | None = None
        self.address = 0
        self._length = max(nbytes, 1)
        status = os.fstat(fd)
        self.key: Key = (status.st_dev, status.st_ino)
        if status.st_size < nbytes:
            raise ValueError(f"[shared] a file of {status.st_size} bytes, not {nbytes}")
        if nbytes >= HUGE_PAGE:  # where pages may be huge
            self.address = map_on_boundary(self._length, mmap.MAP_SHARED, fd, HUGE_PAGE)
        else:
            self.address = map_pages(self._length, mmap.MAP_SHARED, fd)
        if not self.address:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot map {nbytes} shared bytes: {os.strerror(error)}")
        if name is not None:
            self.fd = -1
            os.close(fd)

    def __del__(
        self,
        _unmap: Callable[[int, int], None] = unmap,
        _close: Callable[[int], None] = os.close,
    ) -> None:
        if self.address:
            _unmap(self.address, self._length)
        if self.fd >= 0:
            _close(self.fd)
        if self.ended is not None:
            self.ended()

    def in_huge_pages(self) -> bool:
        """Have the memory in huge pages, all of it at once. Whether the system does that."""
        length = self._length & -HUGE_PAGE
        # The system looks for pages that are there. They are read only: others may write to them.
        np.asarray(self)[::HUGE_PAGE].max(initial=0)
        return bool(length) and not libc().madvise(self.address, length, _MADV_COLLAPSE)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
        }

    def __repr__(self) -> str:
        place = self.name or f"descriptor {self.fd}"
        return f"SharedBlock({self.nbytes} bytes at {self.address:#x}, {place})"


class _Known:
    """The blocks of this process by inode."""

    def __init__(self) -> None:
        self.blocks: weakref.WeakValueDictionary[Key, SharedBlock] = weakref.WeakValueDictionary()
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self.lock = threading.RLock()  # another thread of the parent may have held it

    def keep(self, block: SharedBlock) -> SharedBlock:
        with self.lock:
            self.blocks[block.key] = block
        return block


_known = _Known()


def live_blocks() -> list[SharedBlock]:
    """Every block that this process maps."""
    with _known.lock:
        return list(_known.blocks.values())


def block_under(array: object) -> SharedBlock | None:
    """The block that an array lies in, if it does."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, SharedBlock) else None


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("braze", os.MFD_CLOEXEC)
    import tempfile

    folder = SHM_FOLDER if SHM_FOLDER.is_dir() else None
    fd, name = tempfile.mkstemp(prefix="braze-", dir=folder)
    os.unlink(name)
    return fd


def new_block(nbytes: int) -> SharedBlock:
    """A fresh block without a name.

    Raises:
        OSError: the system has no memory or no descriptor for it.
    """
    fd = _unnamed_file()
    try:
        os.ftruncate(fd, max(nbytes, 1))
    except BaseException:
        os.close(fd)
        raise
    return _known.keep(SharedBlock(fd, nbytes))


def block_from_file(
    fd: int,
    nbytes: int,
    name: str | None = None,
    fresh: Callable[[SharedBlock], None] | None = None,
) -> SharedBlock:
    """The block of a file that came from another process.

    Args:
        fd: a descriptor, which the block takes over.
        fresh: called with the block if this process did not have it yet.
    """
    status = os.fstat(fd)
    with _known.lock:
        block = _known.blocks.get((status.st_dev, status.st_ino))
        if block is not None:
            os.close(fd)
            return block
        block = SharedBlock(fd, nbytes, name)
        if fresh is not None:
            fresh(block)
        return _known.keep(block)
