"""Messages from one rank to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze import engine
from braze.distributed import on_devices
from braze.distributed.groups import ProcessGroup, get_group_rank
from braze.distributed.memory import Target, takes, to_read
from braze.distributed.works import Work
from braze.tensors import Tensor


def isend(
    tensor: Tensor, dst: int | None = None, group: Any = None, tag: int = 0,
    group_dst: int | None = None,
) -> Work | None:  # fmt: skip
    """Send a tensor to rank `dst` of the world.

    Returns:
        What tells when the tensor may be changed; None where this process is no member.

    Raises:
        ValueError: there is no such rank, or it is this one, or there is no such tag.
    """
    found = takes("send", group, tensor)
    if found is None:
        return None
    to = _peer("send", found, dst, group_dst)
    if found._devices is not None:
        _check_tag("send", tag)
        return on_devices.send(tensor, to, found)
    engine.distributed().require_free("send", tag)
    running = found._communicator.send(to_read(tensor), to, tag)
    return Work(running, found, [])


def irecv(
    tensor: Tensor, src: int | None = None, group: Any = None, tag: int = 0,
    group_src: int | None = None,
) -> Work | None:  # fmt: skip
    """Receive a tensor from rank `src` of the world; None: from any rank.

    Returns:
        What tells when it is there; None where this process is no member.

    Raises:
        ValueError: there is no such rank, or it is this one, or there is no such tag.
    """
    found = takes("recv", group, tensor)
    if found is None:
        return None
    source = None
    if src is not None or group_src is not None:
        source = _peer("recv", found, src, group_src)
    if found._devices is not None:
        _check_tag("recv", tag)
        if source is None:
            raise ValueError("[recv] the nccl backend receives from a rank that is named: give src")
        return on_devices.receive(tensor, source, found)
    engine.distributed().require_free("recv", tag)
    target = Target(tensor)
    running = found._communicator.receive(target.array, source, tag)
    running.then(target.finish)
    return Work(running, found, [tensor])


def send(
    tensor: Tensor, dst: int | None = None, group: Any = None, tag: int = 0,
    group_dst: int | None = None,
) -> None:  # fmt: skip
    """As `isend`, and wait until the tensor may be changed."""
    work = isend(tensor, dst, group, tag, group_dst)
    if work is not None:
        work.wait()


def recv(
    tensor: Tensor, src: int | None = None, group: Any = None, tag: int = 0,
    group_src: int | None = None,
) -> int:  # fmt: skip
    """As `irecv`, and wait until it is there.

    Returns:
        The rank that sent it; -1 where this process is no member of the group.
    """
    work = irecv(tensor, src, group, tag, group_src)
    if work is None:
        return -1
    work.wait()
    return work.source_rank()


class P2POp:
    """A message for `batch_isend_irecv`.

    Args:
        op: `isend` or `irecv`.
        tensor: to be sent, or to be written.
        peer: the other rank, of the world.

    Raises:
        ValueError: `op` is another function.
    """

    def __init__(
        self,
        op: Callable[..., Work | None],
        tensor: Tensor,
        peer: int | None = None,
        group: Any = None,
        tag: int = 0,
        group_peer: int | None = None,
    ) -> None:
        if op not in (isend, irecv):
            raise ValueError(
                "Invalid ``op``. Expected ``op`` to be of type ``braze.distributed.isend`` or "
                "``braze.distributed.irecv``."
            )
        self.op = op
        self.tensor = tensor
        self.peer = peer
        self.group = group
        self.tag = tag
        self.group_peer = group_peer


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[Work]:
    """Begin several messages; they may be waited for in any order. Between GPUs they are one
    operation, with one `Work`; if it is the group's first, all its ranks must take part.

    Raises:
        ValueError: the list is empty, or holds something else.
    """
    if not p2p_op_list or not all(isinstance(op, P2POp) for op in p2p_op_list):
        raise ValueError("batch_isend_irecv: expected a list of P2POp with at least one")
    found = takes("batch_isend_irecv", p2p_op_list[0].group, *(op.tensor for op in p2p_op_list))
    if found is not None and found._devices is not None:
        return [_batch(p2p_op_list, found)]
    works = [op.op(op.tensor, op.peer, op.group, op.tag, op.group_peer) for op in p2p_op_list]
    return [work for work in works if work is not None]


def _batch(operations: Sequence[P2POp], group: ProcessGroup) -> Work:
    messages = []
    for op in operations:
        if op.group is not operations[0].group:
            raise ValueError("batch_isend_irecv: all P2POp must have one group")
        name = "send" if op.op is isend else "recv"
        _check_tag(name, op.tag)
        messages.append((op.tensor, _peer(name, group, op.peer, op.group_peer), op.op is isend))
    return on_devices.batch(messages, group)


def _check_tag(name: str, tag: int) -> None:
    if tag:
        raise ValueError(f"[{name}] messages of the nccl backend have no tags, given {tag}")


def _peer(name: str, group: Any, rank: int | None, group_rank: int | None) -> int:
    if (rank is None) == (group_rank is None):
        raise ValueError(f"[{name}] give a rank, of the world or of the group, but not both")
    peer = get_group_rank(group, rank) if rank is not None else group_rank
    if peer is None or not 0 <= peer < group.size():
        raise ValueError(f"[{name}] there is no rank {peer} in {group!r}")
    if peer == group.rank():
        raise ValueError(f"[{name}] a rank cannot exchange messages with itself (rank {rank})")
    return peer
