"""Blocks of memory for tensors, recycled rather than returned to the system.

In: a number of bytes, or a NumPy array to share.  Out: a `Storage`, with an address for native code
and NumPy views for people.

Fresh pages are expensive (the system clears each one, often at a greater cost than the arithmetic
that fills it), so a block goes to a free list as its `Storage` dies, and the next storage of about
its size takes it.  The base of a NumPy view is its storage: no block is recycled under a live view.

Free lists hold plain addresses, one list for each size class.  Appending to a list and popping from
it are atomic, and there is no other shared count to keep right: a storage may die at any moment, in
any thread, in the middle of anything.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from braze.ir.dtypes import DType, bf16
from braze.runtime.config import default_storage_cache_bytes
from braze.runtime.libc import libc, map_anonymous, unmap

ALIGNMENT = 64
# From this size on, blocks are mapped on boundaries of huge pages.
HUGE_BLOCK_BYTES = 4 << 20
_HUGE_PAGE = 2 << 20

_LARGEST_SMALL_CLASS = 1 << 20
# 64 to 512 bytes in steps of 64, then eight classes for each doubling up to 1 MiB.
_SMALL_CLASSES = 8 + 11 * 8
# Small classes have this share of the cache, in equal parts; large blocks have the rest.
_SMALL_SHARE = 4
# What the dtypes that C has are called there.
_C_TYPES: dict[str, Any] = {
    "bool": ctypes.c_bool, "f32": ctypes.c_float, "f64": ctypes.c_double,
    "i8": ctypes.c_int8, "i16": ctypes.c_int16, "i32": ctypes.c_int32, "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8, "u16": ctypes.c_uint16, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
}  # fmt: skip


def size_class(nbytes: int) -> int:
    """The size of the block that serves `nbytes` bytes: at most an eighth more (or 64 bytes)."""
    if nbytes <= 512:
        return nbytes + 63 & -64 or 64
    shift = (nbytes - 1).bit_length() - 4
    return (nbytes - 1 >> shift) + 1 << shift


def _mapped_length(capacity: int) -> int:
    return capacity + mmap.PAGESIZE - 1 & -mmap.PAGESIZE


def _allocate(capacity: int) -> int:
    if capacity < HUGE_BLOCK_BYTES:
        address = libc().aligned_alloc(ALIGNMENT, capacity)
        if not address:
            raise MemoryError(f"[storage] no memory for {capacity} bytes")
        return int(address)
    # Map more than is needed and give back what lies before and behind the aligned block.
    length = _mapped_length(capacity)
    start = map_anonymous(length + _HUGE_PAGE)
    address = start + _HUGE_PAGE - 1 & -_HUGE_PAGE
    if address > start:
        unmap(start, address - start)
    if address < start + _HUGE_PAGE:
        unmap(address + length, start + _HUGE_PAGE - address)
    # Advice only: where the system has no huge pages, the block has small ones.
    libc().madvise(address, length, mmap.MADV_HUGEPAGE)
    return address


def _release(address: int, capacity: int) -> None:
    if capacity < HUGE_BLOCK_BYTES:
        libc().free(address)
    else:
        unmap(address, _mapped_length(capacity))


class _FreeList(list[int]):
    """The addresses of a size class's free blocks.

    room: how many may be kept without a look at the other classes; 0 for large blocks, which share
    one limit.
    """

    __slots__ = ("capacity", "room")

    def __init__(self, capacity: int, room: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.room = room


class _Cache:
    """The free blocks by size class.  A list stays for good once it is there."""

    def __init__(self, limit: int) -> None:
        self.lists: dict[int, _FreeList] = {}
        self.set_limit(limit)

    def set_limit(self, limit: int) -> None:
        self.small_class_limit = limit // _SMALL_SHARE // _SMALL_CLASSES
        self.large_limit = limit - limit // _SMALL_SHARE
        for free in list(self.lists.values()):
            free.room = self._room(free.capacity)

    def _room(self, capacity: int) -> int:
        return 0 if capacity > _LARGEST_SMALL_CLASS else self.small_class_limit // capacity

    def take(self, capacity: int) -> tuple[int, _FreeList]:
        """A block, recycled or fresh, and the list that it returns to.

        Raises: MemoryError, if not even giving up all cached blocks helps.
        """
        free = self.lists.get(capacity)
        if free is None:
            free = self.lists.setdefault(capacity, _FreeList(capacity, self._room(capacity)))
        try:
            return free.pop(), free
        except IndexError:
            pass
        try:
            return _allocate(capacity), free
        except MemoryError:
            self.empty()
            return _allocate(capacity), free

    def give(self, address: int, free: _FreeList) -> None:
        """Keep a block for which its list has no room, or return it to the system."""
        if not free.room and self._make_room(free.capacity):
            free.append(address)
        else:
            _release(address, free.capacity)

    def _make_room(self, capacity: int) -> bool:
        """Whether another large block fits, after other classes have made way for it.

        The class just used is the one most likely to be wanted again.
        """
        large = [free for free in list(self.lists.values()) if not free.room]
        kept = sum(free.capacity * len(free) for free in large)
        for free in large:
            if kept + capacity <= self.large_limit:
                break
            if free.capacity != capacity:
                kept -= self._drop(free)
        return kept + capacity <= self.large_limit

    @staticmethod
    def _drop(free: _FreeList) -> int:
        dropped = 0
        while True:
            try:
                address = free.pop()
            except IndexError:
                return dropped
            _release(address, free.capacity)
            dropped += free.capacity

    def empty(self) -> None:
        for free in list(self.lists.values()):
            self._drop(free)

    def nbytes(self) -> int:
        return sum(free.capacity * len(free) for free in list(self.lists.values()))


_cache = _Cache(default_storage_cache_bytes())


def sized(nbytes: int) -> tuple[int, int]:
    """A size with its size class's, as `Storage.several` wants it."""
    return nbytes, size_class(nbytes)


def empty_cache() -> None:
    """Return every block that no storage uses to the system."""
    _cache.empty()


def cached_bytes() -> int:
    """Bytes in blocks that wait to be used again."""
    return _cache.nbytes()


def set_cache_limit(nbytes: int) -> None:
    """Keep at most `nbytes` bytes in unused blocks (0: none) from now on.

    Raises: ValueError if negative.
    """
    if nbytes < 0:
        raise ValueError(f"[storage] a cache of {nbytes} bytes")
    _cache.set_limit(nbytes)
    _cache.empty()


class Storage:
    """`nbytes` bytes of uninitialised memory, aligned to 64 bytes.

    address: of the first byte; not 0, even for an empty storage.

    Raises: ValueError for a negative size; MemoryError.
    """

    __slots__ = ("__weakref__", "_owner", "address", "nbytes")

    address: int
    nbytes: int
    # The list that an owned block returns to, or the array that shared memory belongs to.
    _owner: _FreeList | NDArray[Any] | None

    def __init__(self, nbytes: int, _lists: dict[int, _FreeList] = _cache.lists) -> None:
        # This and `__del__` run for every result of every call: hence `size_class` is inlined.
        self._owner = None
        if nbytes <= 512:
            if nbytes < 0:
                raise ValueError(f"[storage] {nbytes} bytes")
            capacity = nbytes + 63 & -64 or 64
        else:
            shift = (nbytes - 1).bit_length() - 4
            capacity = (nbytes - 1 >> shift) + 1 << shift
        self.nbytes = nbytes
        try:
            free = _lists[capacity]
            self.address = free.pop()
        except (KeyError, IndexError):
            self.address, free = _cache.take(capacity)
        self._owner = free

    def __del__(
        self,
        _free_list: type[_FreeList] = _FreeList,
        _give: Callable[[int, _FreeList], None] = _cache.give,
        _is_finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        free = self._owner
        if not isinstance(free, _free_list):
            return
        if len(free) < free.room:
            free.append(self.address)
        elif not _is_finalizing():
            # (At the very end what `give` needs may be gone, and the system takes all back.)
            _give(self.address, free)

    @classmethod
    def several(
        cls, sizes: Sequence[tuple[int, int]], _lists: dict[int, _FreeList] = _cache.lists
    ) -> "list[Storage]":
        """A storage for each of some `sized` numbers of bytes.

        Raises: MemoryError.
        """
        made = []
        new = object.__new__
        for nbytes, capacity in sizes:
            storage = new(cls)
            storage._owner = None
            storage.nbytes = nbytes
            try:
                free = _lists[capacity]
                storage.address = free.pop()
            except (KeyError, IndexError):
                storage.address, free = _cache.take(capacity)
            storage._owner = free
            made.append(storage)
        return made

    @classmethod
    def from_bytes(cls, data: bytes) -> "Storage":
        """A copy of some bytes."""
        storage = cls(len(data))
        ctypes.memmove(storage.address, data, len(data))
        return storage

    @classmethod
    def from_numpy(cls, array: NDArray[Any]) -> "Storage":
        """The bytes of `array` in row-major order and native byte order.

        Memory is shared with the array, without a copy, if it is contiguous and its address is a
        multiple of its item size; the address may then be aligned to no more than that.

        Raises: TypeError for what is not an array of numbers.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f"[storage] expected a NumPy array, given {type(array).__name__}")
        if array.dtype.hasobject:
            raise TypeError(f"[storage] an array of {array.dtype} has no plain bytes")
        address = array.__array_interface__["data"][0]
        item = max(array.itemsize, 1)
        if array.flags.c_contiguous and array.dtype.isnative and address % item == 0:
            shared = cls.__new__(cls)
            shared.address, shared.nbytes, shared._owner = address, array.nbytes, array
            return shared
        copy = cls(array.nbytes)
        copy.array(array.dtype.newbyteorder("="), array.shape)[...] = array
        return copy

    @property
    def is_shared(self) -> bool:
        """Whether the memory belongs to a NumPy array."""
        return isinstance(self._owner, np.ndarray)

    @property
    def owner(self) -> NDArray[Any] | None:
        """The array that shared memory belongs to."""
        return self._owner if isinstance(self._owner, np.ndarray) else None

    @property
    def readonly(self) -> bool:
        """Whether the memory belongs to an array that must not be written to."""
        return isinstance(self._owner, np.ndarray) and not self._owner.flags.writeable

    @property
    def is_reachable(self) -> bool:
        """Whether something else may refer to the shared memory: the array itself, one that it is a
        view of, or whoever is not NumPy."""
        array = self._owner
        if not isinstance(array, np.ndarray):
            return False
        held = 3  # by the slot or by the array before, by `array`, by the call
        while isinstance(array, np.ndarray):
            if sys.getrefcount(array) > held:
                return True
            array = array.base  # type: ignore[assignment]
        return array is not None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, self.readonly),
        }

    def array(
        self, dtype: DTypeLike, shape: tuple[int, ...] | int, offset: int = 0
    ) -> NDArray[Any]:
        """A view of the memory from byte `offset` on; it keeps the storage alive.

        Raises: ValueError if the view does not lie within the storage.
        """
        shape = (shape,) if isinstance(shape, int) else shape
        try:
            # NumPy itself accepts negative numbers here.
            if offset >= 0 and (not shape or min(shape) >= 0):
                # The inner array's base is this storage, by the array interface.
                return np.ndarray(shape, dtype, np.asarray(self), offset)
        except TypeError:
            pass  # the buffer is too small
        raise ValueError(
            f"[storage] a view of shape {shape} and dtype {np.dtype(dtype)} at byte {offset}"
            f" exceeds {self.nbytes} bytes"
        )

    def number(self, dtype: DType) -> Any:
        """The first element as a Python number."""
        kind = _C_TYPES.get(dtype.name)
        if kind is not None:  # several times as quick as by way of an array
            return kind.from_address(self.address).value
        value = self.array(dtype.numpy, ())
        return (value.astype(np.float32) if dtype is bf16 else value).item()

    def __repr__(self) -> str:
        kind = "shared" if self.is_shared else "owned"
        return f"Storage({self.nbytes} bytes at {self.address:#x}, {kind})"
