"""How tensors of GPUs travel between processes: by a handle of their memory, as CUDA opens it.

In: a tensor that is sent, or what arrives of it.  Out: what stands for its memory in a message, or
a storage on the same memory.

The process that made a tensor keeps its memory until whoever received it has dropped it. That is
said in a few shared bytes of the host, of each message its own, which travel as those of a CPU's
tensors do. They are looked at whenever another tensor is sent, and by `cuda.ipc_collect`.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from typing import Any

import numpy as np

from braze import engine
from braze.capture import flush, materialise
from braze.devices import place_of
from braze.handle import EXPOSED, Handle
from braze.tensors import Tensor

_WORD = 8  # bytes that say whether memory is in use
_IN_USE, _DROPPED = 1, 2


class _Lent:
    """Memory that another process has, or will have once it takes a message from its queue."""

    def __init__(self, loan: object, block: engine.SharedBlock) -> None:
        self.loan = loan
        self.word = np.asarray(block).view(np.int64)

    @property
    def is_in_use(self) -> bool:
        """Whether it has not said that it dropped it."""
        return int(self.word[0]) != _DROPPED


class _Lending:
    """All that is lent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lent: list[_Lent] = []
        self.inherited: list[_Lent] = []

    def after_fork(self) -> None:
        """In the child: what was lent is the parent's to take back."""
        self.lock = threading.Lock()
        self.inherited, self.lent = self.lent, []  # a fork cannot free a GPU's memory


_lending = _Lending()
os.register_at_fork(after_in_child=_lending.after_fork)


def lend(loan: object, named: bool) -> engine.SharedBlock:
    """Keep something until the bytes that are given say that nobody needs it.

    Args:
        named: whether these are a file with a name.
    """
    collect()
    make = engine.shared_files().new_file_block if named else engine.new_block
    block: engine.SharedBlock = make(_WORD)
    lent = _Lent(loan, block)
    lent.word[0] = _IN_USE
    with _lending.lock:
        _lending.lent.append(lent)
    return block


def take_back(block: engine.SharedBlock) -> None:
    """Let go of what was lent and not sent."""
    np.asarray(block).view(np.int64)[0] = _DROPPED
    collect()


def collect() -> None:
    """Let go of what other processes have dropped."""
    with _lending.lock:
        dropped = [lent for lent in _lending.lent if not lent.is_in_use]
        _lending.lent = [lent for lent in _lending.lent if lent.is_in_use]
    del dropped  # without the lock: freeing memory may run anything


def warn_at_exit() -> None:
    """Who ends first takes its memory with it."""
    collect()
    if _lending.lent:
        warnings.warn(
            f"Producer process has been terminated before all shared CUDA tensors released: "
            f"{len(_lending.lent)} are still in use, and their memory is gone now. Let it wait "
            "until the processes that received them have ended.",
            stacklevel=1,
        )


atexit.register(warn_at_exit)


def exposed(root: Tensor) -> tuple[Handle, Any]:
    """A tensor's value and its storage, which others reach from now on. A sync point."""
    flush()
    while True:  # again, if another thread updates it
        handle = root._current()
        storage = materialise(handle)
        pending = handle.pending
        if pending is not None and pending is pending.tracer.pending:
            pending.tracer.flush()  # another thread's operations that read the elements as they are
        if handle is root._current():
            handle.flags |= EXPOSED
            return handle, storage


class SentGpuMemory:
    """A GPU's memory, on its way.

    Args:
        use: the bytes that say whether it is in use, on their way.
    """

    def __init__(self, storage: Any, use: Any) -> None:
        self.handle: bytes = engine.cuda().shared_handle(storage)
        self.device: int = storage.device.index
        self.nbytes: int = storage.nbytes
        self.use = use

    def receive(self) -> engine.Storage:
        """The memory.

        Raises:
            ConnectionError, FileNotFoundError, EOFError, RuntimeError: the process that sent it has
                ended, or this one has no such device.
        """
        word = np.asarray(self.use.receive()).view(np.int64)

        def dropped() -> None:
            word[0] = _DROPPED

        try:
            place_of(f"cuda:{self.device}")  # from now on a device is in use here
            storage: engine.Storage = engine.cuda().open_shared(
                self.device, self.handle, self.nbytes, dropped
            )
        except BaseException:
            dropped()
            raise
        return storage
