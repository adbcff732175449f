"""Collectives and messages of tensors on GPUs.

In: tensors that `collectives` and `point_to_point` have checked.  Out: `Work`. NCCL reads and
writes their memory itself wherever their elements lie in order; others go through a copy. Work is
enqueued on the current stream of the GPU, so what is computed from the results later waits for
them, and the program does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from braze import engine
from braze.autograd.modes import no_grad
from braze.capture import flush, materialise
from braze.distributed.groups import ProcessGroup
from braze.distributed.memory import written
from braze.distributed.works import Work
from braze.ir.types import TensorType
from braze.tensors import Tensor
from braze.views import address_of, check_writable, is_contiguous, root_of


class DeviceWork(Work):
    """An operation that a GPU does in its turn."""

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Let what comes next on the current stream wait for it. Without a timeout, the program
        goes on meanwhile; with one, it waits, too.

        Raises:
            DistBackendError: it has failed, as a rank is gone or did not come in time.
        """
        if timeout is not None:
            return super().wait(timeout)
        self._group._devices.order(self._running)
        return True


class _Target:
    """A tensor that is to be written.

    block: what NCCL writes to.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()
        self._copy: Tensor | None = None
        if not is_contiguous(tensor):
            check_writable(self._tensor)
            self._copy = self._tensor.contiguous()
            self.block = to_read(self._copy)
            return
        self.block = to_read(tensor)
        written(root_of(tensor))

    def finish(self) -> None:
        """Put the elements where they belong, after what has been enqueued."""
        if self._copy is not None:
            with no_grad():
                self._tensor.copy_(self._copy)


def to_read(tensor: Tensor) -> Any:
    """The memory that has the elements of a tensor in order, behind all that was captured."""
    flush()
    own = tensor.detach()
    if not is_contiguous(own):
        own = own.contiguous()
    address = address_of(own)
    return _block(materialise(root_of(own)._current()), own._handle.type, address)


def _block(storage: Any, type: TensorType, address: int) -> Any:
    return engine.distributed().Block.of(
        storage, address, type.dtype.numpy, tuple(type.shape)
    )


def _started(
    group: ProcessGroup,
    running: Any,
    async_op: bool,
    result: Sequence[Tensor],
    targets: Sequence[_Target] = (),
) -> Work | None:
    for target in targets:
        target.finish()
    return DeviceWork(running, group, list(result)) if async_op else None


def all_reduce(tensor: Tensor, reduction: str, group: ProcessGroup, async_op: bool) -> Work | None:
    """As `collectives.all_reduce`."""
    target = _Target(tensor)
    running = group._devices.collective("all_reduce", target.block, target.block, reduction)
    return _started(group, running, async_op, [tensor], [target])


def broadcast(tensor: Tensor, root: int, group: ProcessGroup, async_op: bool) -> Work | None:
    """As `collectives.broadcast`; `root` is a rank of the group."""
    target = _Target(tensor)
    running = group._devices.collective("broadcast", target.block, target.block, root=root)
    return _started(group, running, async_op, [tensor], [target])


def reduce(
    tensor: Tensor, root: int, reduction: str, group: ProcessGroup, async_op: bool
) -> Work | None:
    """As `collectives.reduce`; `root` is a rank of the group."""
    if group.rank() != root:
        given = to_read(tensor)
        running = group._devices.collective("reduce", given, given, reduction, root)
        return _started(group, running, async_op, [])
    target = _Target(tensor)
    running = group._devices.collective("reduce", target.block, target.block, reduction, root)
    return _started(group, running, async_op, [tensor], [target])


def all_gather_into_tensor(
    output: Tensor, input: Tensor, group: ProcessGroup, async_op: bool
) -> Work | None:
    """As `collectives.all_gather_into_tensor`."""
    given, target = to_read(input), _Target(output)
    running = group._devices.collective("all_gather", given, target.block)
    return _started(group, running, async_op, [output], [target])


def reduce_scatter_tensor(
    output: Tensor, input: Tensor, reduction: str, group: ProcessGroup, async_op: bool
) -> Work | None:
    """As `collectives.reduce_scatter_tensor`."""
    given, target = to_read(input), _Target(output)
    running = group._devices.collective("reduce_scatter", given, target.block, reduction)
    return _started(group, running, async_op, [output], [target])


def reduce_scatter(
    output: Tensor, inputs: Sequence[Tensor], reduction: str, group: ProcessGroup, async_op: bool
) -> Work | None:
    """As `collectives.reduce_scatter`."""
    given, target = [to_read(each) for each in inputs], _Target(output)
    running = group._devices.reduce_each(given, target.block, reduction)
    return _started(group, running, async_op, [output], [target])


def exchange(
    what: str,
    given: Sequence[tuple[int, Tensor]],
    kept: Sequence[tuple[int, Tensor]],
    group: ProcessGroup,
    async_op: bool,
) -> Work | None:
    """What gathers and scatters are made of: every rank says what it sends to which rank of the
    group, and what it receives, itself included."""
    message = engine.distributed().Message
    sent = [message(to_read(tensor), peer, True) for peer, tensor in given]
    targets = [_Target(tensor) for _, tensor in kept]
    received = [
        message(target.block, peer, False)
        for (peer, _), target in zip(kept, targets, strict=True)
    ]
    messages = [*sent, *received]
    running = group._devices.exchange(f"{what} of {messages[0].block}", messages)
    return _started(group, running, async_op, [tensor for _, tensor in kept], targets)


def send(tensor: Tensor, peer: int, group: ProcessGroup) -> Work:
    """As `point_to_point.isend`; `peer` is a rank of the group."""
    message = engine.distributed().Message(to_read(tensor), peer, True)
    return DeviceWork(group._devices.message(message), group, [])


def receive(tensor: Tensor, peer: int, group: ProcessGroup) -> Work:
    """As `point_to_point.irecv`; `peer` is a rank of the group."""
    target = _Target(tensor)
    running = group._devices.message(engine.distributed().Message(target.block, peer, False))
    target.finish()
    return DeviceWork(running, group, [tensor])


def batch(messages: Sequence[tuple[Tensor, int, bool]], group: ProcessGroup) -> Work:
    """Several messages at once: tensors, ranks of the group, and whether they are sent."""
    made = engine.distributed().Message
    targets, all_of_them = [], []
    for tensor, peer, is_sent in messages:
        if is_sent:
            all_of_them.append(made(to_read(tensor), peer, True))
        else:
            targets.append(_Target(tensor))
            all_of_them.append(made(targets[-1].block, peer, False))
    running = group._devices.batch(all_of_them)
    for target in targets:
        target.finish()
    return DeviceWork(running, group, [tensor for tensor, _, is_sent in messages if not is_sent])
