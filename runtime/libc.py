"""The C library's functions that the runtime calls, with their signatures.

In: addresses and sizes.  Out: fresh memory, protected or returned memory, addresses of functions.
"""

import ctypes
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_PR_SET_PDEATHSIG = 1
_MAP_FIXED = 0x10
_SIGSET_BYTES = 128  # of a sigset_t, in every C library for Linux


@cache
def libc() -> ctypes.CDLL:
    """The process's C library."""
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.restype = pointer
    library.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_long]
    library.mprotect.argtypes = [pointer, size, number]
    library.munmap.argtypes = [pointer, size]
    library.madvise.argtypes = [pointer, size, number]
    library.aligned_alloc.restype = pointer
    library.aligned_alloc.argtypes = [size, size]
    library.free.argtypes = [pointer]
    library.free.restype = None
    library.pthread_create.argtypes = [pointer, pointer, pointer, pointer]
    library.pthread_join.argtypes = [ctypes.c_ulong, pointer]
    library.pthread_setname_np.argtypes = [ctypes.c_ulong, ctypes.c_char_p]
    library.pthread_sigmask.argtypes = [number, pointer, pointer]
    return library


def libc_address(name: str) -> int:
    """Where the C library's function `name` lies.  Raises: AttributeError if it has none."""
    return ctypes.cast(getattr(libc(), name), ctypes.c_void_p).value or 0


def map_pages(size: int, kind: int, fd: int = -1) -> int:
    """The address of a new mapping of `size` bytes, readable and writable.

    0 if the system grants none; `ctypes.get_errno()` says why.
    """
    address = libc().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, fd, 0)
    return 0 if address is None or address == ctypes.c_void_p(-1).value else int(address)


def map_on_boundary(size: int, kind: int, fd: int, boundary: int) -> int:
    """As `map_pages`, at a multiple of `boundary` bytes."""
    length = size + mmap.PAGESIZE - 1 & -mmap.PAGESIZE
    start = map_pages(length + boundary, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not start:
        return 0
    address = start + boundary - 1 & -boundary
    access = mmap.PROT_READ | mmap.PROT_WRITE
    found = libc().mmap(address, size, access, kind | _MAP_FIXED, fd, 0)
    if found != address:
        error = ctypes.get_errno()
        unmap(start, length + boundary)
        ctypes.set_errno(error)
        return 0
    if address > start:
        unmap(start, address - start)
    unmap(address + length, start + boundary - address)
    return address


def map_anonymous(size: int) -> int:
    """The address of `size` fresh zeroed bytes, private to this process, readable and writable.

    Raises: MemoryError if the system grants none.
    """
    address = map_pages(size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not address:
        raise MemoryError(f"cannot map {size} bytes: {os.strerror(ctypes.get_errno())}")
    return address


def unmap(address: int, size: int) -> None:
    """Return whole pages to the system."""
    libc().munmap(address, size)


def protect(address: int, size: int, protection: int) -> None:
    """Change what may be done with whole pages.  Raises: OSError."""
    if libc().mprotect(address, size, protection):
        error = ctypes.get_errno()
        raise OSError(error, f"mprotect: {os.strerror(error)}")


@contextmanager
def signals_blocked() -> Iterator[None]:
    """No signal reaches this thread, nor threads that are started within. The standard library's
    function makes an enumeration's member of every signal, which takes a third of a millisecond."""
    every, before = (ctypes.create_string_buffer(_SIGSET_BYTES) for _ in range(2))
    libc().sigfillset(every)
    libc().pthread_sigmask(signal.SIG_BLOCK, every, before)
    try:
        yield
    finally:
        libc().pthread_sigmask(signal.SIG_SETMASK, before, None)


def die_with_parent(number: int) -> None:
    """Have the system send this process a signal when the thread that started it has ended.

    Where there is no such call, nothing happens.
    """
    with suppress(AttributeError):
        libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
