"""How tensors travel between processes: by a handle of their memory, not by their elements.

Python's `multiprocessing` pickles what is sent with a pickler of its own, which asks this module
about tensors. Their memory is moved to a shared block first, if it is not in one, and what is
sent is a descriptor of the block's file (or its name) and where in it the tensor looks. Views are
sent as their root and the movements from there. What is on a GPU stays where it is
(`braze.multiprocessing.gpu_memory`).
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from multiprocessing.reduction import DupFd, ForkingPickler
from multiprocessing.util import register_after_fork
from typing import Any

from braze import engine
from braze.autograd.modes import no_grad
from braze.capture import call_of, materialise
from braze.capture import flush as sync
from braze.copying import retype
from braze.handle import BUFFER, EXPOSED, PARAM, concrete
from braze.ir.dtypes import dtype_named
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.multiprocessing.gpu_memory import SentGpuMemory, exposed, lend, take_back
from braze.nn.parameter import Parameter
from braze.sharing import block_of, check_sendable, move_to_shared_memory, storage_on
from braze.tensors import Tensor, view_of, wrap
from braze.views import base_of, root_of

STRATEGIES = frozenset({"file_descriptor", "file_system"})

# A movement from one tensor to a view of it: the operation's name and attributes; None: all of it.
Movement = tuple[str, dict[str, Any]] | None


class _Strategy:
    """How this process shares memory from now on."""

    name = "file_descriptor"


def get_sharing_strategy() -> str:
    """How memory is shared: "file_descriptor" or "file_system"."""
    return _Strategy.name


def set_sharing_strategy(new_strategy: str) -> None:
    """Set how memory is shared from now on, in this process.

    "file_descriptor": by descriptors of files without a name, so nothing can be left over. A
    process may have only so many of them open (`ulimit -n`), one for each tensor.
    "file_system": by names in /dev/shm. What killed processes leave over is removed once all
    that shared it have ended.

    Raises:
        AssertionError: there is no such strategy.
    """
    if new_strategy not in STRATEGIES:
        raise AssertionError(
            f"invalid sharing strategy {new_strategy!r}, expected one of {set(STRATEGIES)}"
        )
    _Strategy.name = new_strategy


def get_all_sharing_strategies() -> set[str]:
    """The ways of sharing memory that there are."""
    return set(STRATEGIES)


def share(root: Tensor) -> engine.SharedBlock:
    """Move a tensor that is no view to shared memory, if it is not there. A sync point then."""
    while (block := block_of(root._current())) is None:  # again, if another thread updates it
        handle = root._current()
        sync()
        materialise(handle)
        pending = handle.pending
        if pending is not None and pending is pending.tracer.pending:
            pending.tracer.flush()  # another thread's operations that read the elements as they are
        move_to_shared_memory(handle, named=_Strategy.name == "file_system")
    return block


# Memory -------------------------------------------------------------------------------------------


class SentDescriptor:
    """A block's file, on its way by descriptor."""

    def __init__(self, block: engine.SharedBlock) -> None:
        self.descriptor = DupFd(block.fd)
        self.nbytes = block.nbytes
        self.process = os.getpid()

    def receive(self) -> engine.SharedBlock:
        """The block.

        Raises:
            ConnectionError, FileNotFoundError, EOFError: the process that sent it has ended.
        """
        try:
            fd = self.descriptor.detach()
        except (ConnectionError, FileNotFoundError, EOFError) as error:
            raise type(error)(
                f"a tensor cannot be received, because the process that sent it (pid "
                f"{self.process}) has ended; let it wait until its tensors have arrived, or use "
                f'set_sharing_strategy("file_system") ({error})'
            ) from None
        return engine.block_from_file(fd, self.nbytes)


class SentName:
    """A block's file, on its way by name."""

    def __init__(self, block: engine.SharedBlock) -> None:
        self.handle = engine.shared_files().send_file(block)

    def receive(self) -> engine.SharedBlock:
        """The block.

        Raises:
            FileNotFoundError: every process that had it has ended.
        """
        block: engine.SharedBlock = engine.shared_files().open_file(self.handle)
        return block


def sent_gpu_memory(storage: Any) -> SentGpuMemory:
    """What stands for a GPU's memory in a message; it must be received once."""
    block = lend(storage.lend(), named=_Strategy.name == "file_system")
    try:
        return SentGpuMemory(storage, sent(block))
    except BaseException:
        take_back(block)
        raise


def sent(block: engine.SharedBlock) -> SentDescriptor | SentName:
    """What stands for a block in a message; it must be received once."""
    return SentDescriptor(block) if block.name is None else SentName(block)


# Tensors ------------------------------------------------------------------------------------------


def reduce_tensor(tensor: Tensor) -> tuple[Any, ...]:
    """What `multiprocessing` sends of a tensor.

    Raises:
        RuntimeError: it requires a gradient and is no leaf, or is on memory of a GPU that this
            process has from elsewhere.
    """
    check_sendable(tensor)
    if getattr(tensor, "_hooks", None) or getattr(tensor, "_post_hooks", None):
        warnings.warn(
            "the hooks of a tensor stay in this process: they are not sent with it", stacklevel=2
        )
    root = root_of(tensor)
    if not root._handle.type.nbytes:
        return tensor.__reduce_ex__(2)  # type: ignore[return-value]
    movements: list[Movement] = []
    view = tensor
    while (base := base_of(view)) is not None:
        call = view._view
        movements.append(None if call is None else (call.op.name, dict(call.attributes)))
        view = base
    memory: SentDescriptor | SentName | SentGpuMemory
    if root.is_cuda:
        handle, storage = exposed(root)
        memory = sent_gpu_memory(storage)
    else:
        memory = sent(share(root))
        handle = root._current()
    flags = handle.flags & (PARAM | BUFFER)
    arguments = (
        type(tensor),
        memory,
        (handle.type.dtype.name, tuple(handle.type.shape), handle.type.device, flags),
        tuple(reversed(movements)),
        tensor.requires_grad,
    )
    made: tuple[Any, ...] = (rebuild_tensor, arguments)
    return (*made, dict(tensor.__dict__)) if tensor.__dict__ else made


def rebuild_tensor(
    kind: type[Tensor],
    memory: SentDescriptor | SentName | SentGpuMemory,
    described: tuple[str, tuple[int, ...], str, int],
    movements: Sequence[Movement],
    requires_grad: bool,
) -> Tensor:
    """A tensor on memory that another process has too."""
    dtype, shape, device, flags = described
    received = memory.receive()
    storage = received if isinstance(received, engine.Storage) else storage_on(received)
    root = concrete(tensor_type(dtype_named(dtype), shape, device), storage, flags | EXPOSED)
    plain = wrap(root, None, 0)
    with no_grad():
        for movement in movements:
            if movement is None:
                plain = plain.detach()
            else:
                plain = view_of(call_of(op_named(movement[0]), **movement[1]), plain)
    tensor = retype(plain, kind)
    tensor._requires_grad = requires_grad
    return tensor


def init_reductions() -> None:
    """Let `multiprocessing` send tensors by their memory."""
    ForkingPickler.register(Tensor, reduce_tensor)
    ForkingPickler.register(Parameter, reduce_tensor)
    register_after_fork(_Strategy, _forked)


def _forked(_: Any) -> None:
    with contextlib.suppress(OSError):
        if any(block.name is not None for block in engine.live_blocks()):
            engine.shared_files().after_multiprocessing_fork()


init_reductions()
