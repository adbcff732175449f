"""Shared blocks that are files with a name, for programs with more tensors than descriptors.

In: a number of bytes, or a `FileHandle` from another process.  Out: a `SharedBlock`.

A file counts, in its last bytes, who needs it: processes that have it mapped, and messages on their
way.  Whoever counts down to none removes the file.  A process that is killed cannot count; what
is left over is removed by a small process of its own (`shared_cleaner`), when all processes that
know it have ended.  They know it by a connection each, which ends with them.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from braze.runtime.shared_blocks import SHM_FOLDER, SharedBlock, block_from_file, live_blocks

_COUNT_BYTES = 8


@dataclass(frozen=True)
class FileHandle:
    """What is sent in place of a block: it stands for one use of the file.

    Attributes:
        cleaner: the address of the process that removes what is left over.
    """

    name: str
    nbytes: int
    cleaner: str


def new_file_block(nbytes: int) -> SharedBlock:
    """A fresh block in a file with a name.

    Raises:
        OSError: no memory for it.
    """
    name = f"braze-{os.getpid()}-{secrets.token_hex(8)}"
    _cleaner.watch(name)
    fd = os.open(SHM_FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, _count_offset(nbytes) + _COUNT_BYTES)
    except OSError:
        os.close(fd)
        os.unlink(SHM_FOLDER / name)
        _cleaner.forget(name)
        raise
    block = block_from_file(fd, nbytes, name)
    _count_from_now(block)
    return block


def send_file(block: SharedBlock) -> FileHandle:
    """A handle for another process, which must open it once."""
    assert block.name is not None
    _change(block.name, block.nbytes, 1)
    return FileHandle(block.name, block.nbytes, _cleaner.address)


def open_file(handle: FileHandle) -> SharedBlock:
    """The block of a handle.

    Raises:
        FileNotFoundError: every process that had it has ended.
    """
    _cleaner.join(handle.cleaner)
    fd = os.open(SHM_FOLDER / handle.name, os.O_RDWR | os.O_CLOEXEC)
    block = block_from_file(fd, handle.nbytes, handle.name, fresh=_count_from_now)
    _change(handle.name, handle.nbytes, -1)  # the message's use ends, the block's has begun
    return block


# Counting -----------------------------------------------------------------------------------------


def _count_offset(nbytes: int) -> int:
    return nbytes + 63 & -64


def _change(name: str, nbytes: int, step: int) -> None:
    """Count up or down; the file goes with its last user."""
    with suppress(FileNotFoundError), _locked(name) as fd:
        place = _count_offset(nbytes)
        count = int.from_bytes(os.pread(fd, _COUNT_BYTES, place), "little") + step
        os.pwrite(fd, max(count, 0).to_bytes(_COUNT_BYTES, "little"), place)
        if count <= 0:
            os.unlink(SHM_FOLDER / name)
            _cleaner.forget(name)


@contextmanager
def _locked(name: str) -> Iterator[int]:
    # Opened anew, since a lock belongs to an open file, which forked processes share.
    fd = os.open(SHM_FOLDER / name, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


class _Use:
    """This process's use of a file, given up once."""

    def __init__(self, name: str, nbytes: int) -> None:
        self.name = name
        self.nbytes = nbytes
        self.process = os.getpid()
        self.over = False
        _change(name, nbytes, 1)

    def __call__(self) -> None:
        if not self.over and self.process == os.getpid():
            self.over = True
            _change(self.name, self.nbytes, -1)


def _count_from_now(block: SharedBlock) -> None:
    assert block.name is not None
    block.ended = _Use(block.name, block.nbytes)


def _give_up_all() -> None:
    """At a process's end: blocks that are never deleted stop counting."""
    for block in live_blocks():
        if block.name is not None and block.ended is not None:
            block.ended()


def after_multiprocessing_fork() -> None:
    """In a process that `multiprocessing` started: blocks count for it, until it ends."""
    from multiprocessing.util import Finalize

    for block in live_blocks():
        inherited = isinstance(block.ended, _Use) and block.ended.process != os.getpid()
        if block.name is not None and inherited:
            with suppress(FileNotFoundError):
                _count_from_now(block)
    Finalize(None, _give_up_all, exitpriority=-100)


atexit.register(_give_up_all)


# The cleaner --------------------------------------------------------------------------------------


class _Cleaner:
    """This process's connections to cleaners: to its own, and to those of files it was sent."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.address = ""
        self._connections: dict[str, socket.socket] = {}
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # Messages have boundaries, so processes can share a connection.
        self.lock = threading.RLock()

    def watch(self, name: str) -> None:
        """Have a file removed in the end; starts the cleaner."""
        with self.lock:
            if not self.address:
                self._start()
            self._connections[self.address].send(b"+" + name.encode())

    def forget(self, name: str) -> None:
        """A file is removed already."""
        with self.lock:
            for connection in self._connections.values():
                with suppress(OSError):
                    connection.send(b"-" + name.encode())

    def join(self, address: str) -> None:
        """Be one of the processes that a cleaner waits for."""
        with self.lock:
            if address not in self._connections:
                with suppress(OSError):  # it was killed: the files go when their counts say so
                    self._connections[address] = _connect(address)
                    self.address = self.address or address

    def _start(self) -> None:
        address = f"braze-cleaner-{os.getpid()}-{secrets.token_hex(8)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind("\0" + address)  # a name that is no file
        listener.listen(128)
        script = Path(__file__).with_name("shared_cleaner.py")
        with listener:
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), str(listener.fileno()), str(SHM_FOLDER)],
                pass_fds=[listener.fileno()],
                start_new_session=True,  # an interrupt from the keyboard is not for it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._connections[address] = _connect(address)
        self.address = address


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect("\0" + address)
    except BaseException:
        connection.close()
        raise
    return connection


_cleaner = _Cleaner()
