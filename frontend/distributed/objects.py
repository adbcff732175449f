"""Collectives of Python objects, which are pickled: trust the other ranks, or do not use them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from braze.capture import flush
from braze.distributed.collectives import _root
from braze.distributed.groups import ProcessGroup, member
from braze.distributed.point_to_point import _peer


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Fill a list, which has an item for each rank, with the objects of all.

    Raises:
        ValueError: the list has another length.
    """
    found = member(group)
    if found is None:
        return
    _check_length("object_list", object_list, found)
    object_list[:] = _gathered(found, obj)


def gather_object(
    obj: Any,
    object_gather_list: list[Any] | None = None,
    dst: int | None = None,
    group: Any = None,
    group_dst: int | None = None,
) -> None:
    """As `all_gather_object`, for the list of rank `dst`; others give none."""
    found = member(group)
    if found is None:
        return
    root = _root("gather_object", found, 0 if dst is group_dst is None else dst, group_dst)
    objects = _gathered(found, obj)
    if found.rank() == root:
        if object_gather_list is None:
            raise ValueError("object_gather_list must be given on the destination rank")
        _check_length("object_gather_list", object_gather_list, found)
        object_gather_list[:] = objects


def broadcast_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
) -> None:
    """Every rank's list gets the items of rank `src`'s. All have one length."""
    found = member(group)
    if found is None:
        return
    root = _root("broadcast_object_list", found, 0 if src is group_src is None else src, group_src)
    objects = _broadcast(found, list(object_list), root)
    if len(objects) != len(object_list):
        raise ValueError(
            f"[broadcast_object_list] rank {found.ranks[root]} has {len(objects)} objects, this "
            f"rank {len(object_list)}"
        )
    object_list[:] = objects


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: list[Any] | None = None,
    src: int | None = None,
    group: Any = None,
    group_src: int | None = None,
) -> None:
    """The first item of each rank's output list becomes its own of rank `src`'s input list."""
    found = member(group)
    if found is None:
        return
    if len(scatter_object_output_list) < 1:
        raise ValueError("scatter_object_output_list must have an item")
    root = _root("scatter_object_list", found, 0 if src is group_src is None else src, group_src)
    if found.rank() == root:
        if scatter_object_input_list is None:
            raise ValueError("scatter_object_input_list must be given on the source rank")
        _check_length("scatter_object_input_list", scatter_object_input_list, found)
    objects = _broadcast(found, scatter_object_input_list, root)
    scatter_object_output_list[0] = objects[found.rank()]


def send_object_list(
    object_list: list[Any],
    dst: int | None = None,
    group: Any = None,
    device: Any = None,
    group_dst: int | None = None,
    use_batch: bool = False,
) -> None:
    """Send the items of a list to rank `dst` of the world, which calls `recv_object_list`.

    Args:
        group_dst: a rank of the group, in place of `dst`.
        device, use_batch: have no effect; MPI carries objects.

    Raises:
        ValueError: there is no such rank, or it is this one.
    """
    found = member(group)
    if found is None:
        return
    to = _peer("send_object_list", found, dst, group_dst)
    flush()
    data = np.frombuffer(pickle.dumps(list(object_list)), np.uint8)
    communicator = found._communicator
    communicator.send(np.array([data.size], np.int64), to).wait()
    communicator.send(data, to).wait()


def recv_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
    use_batch: bool = False,
) -> int:
    """Fill a list with the items of the one that rank `src` of the world sends, which is as long.

    Args:
        src: None: any rank.
        group_src: a rank of the group, in place of `src`.
        device, use_batch: have no effect; MPI carries objects.

    Returns:
        The rank, of the world, that sent them; -1 where this process is no member of the group.

    Raises:
        ValueError: there is no such rank, or it is this one; the lists' lengths differ.
    """
    found = member(group)
    if found is None:
        return -1
    source = None
    if src is not None or group_src is not None:
        source = _peer("recv_object_list", found, src, group_src)
    flush()
    communicator = found._communicator
    size = np.empty(1, np.int64)
    first = communicator.receive(size, source)
    first.wait()
    data = np.empty(int(size[0]), np.uint8)
    communicator.receive(data, first.source).wait()
    objects = pickle.loads(data.tobytes())
    sender = found.ranks[first.source]
    if len(objects) != len(object_list):
        raise ValueError(
            f"[recv_object_list] rank {sender} has sent {len(objects)} objects, this rank's list "
            f"has {len(object_list)}"
        )
    object_list[:] = objects
    return sender


def _gathered(group: ProcessGroup, obj: Any) -> list[Any]:
    flush()
    communicator = group._communicator
    data = np.frombuffer(pickle.dumps(obj), np.uint8)
    sizes = np.empty(group.size(), np.int64)
    communicator.all_gather(np.array([data.size], np.int64), sizes).wait()
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    everything = np.empty((group.size(), padded.size), np.uint8)
    communicator.all_gather(padded, everything).wait()
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(everything, sizes, strict=True)]


def _broadcast(group: ProcessGroup, obj: Any, root: int) -> Any:
    flush()
    communicator = group._communicator
    data = np.zeros(0, np.uint8)
    if group.rank() == root:
        data = np.frombuffer(pickle.dumps(obj), np.uint8).copy()
    size = np.array([data.size], np.int64)
    communicator.broadcast(size, root).wait()
    if group.rank() != root:
        data = np.empty(int(size[0]), np.uint8)
    communicator.broadcast(data, root).wait()
    return obj if group.rank() == root else pickle.loads(data.tobytes())


def _check_length(what: str, objects: list[Any], group: ProcessGroup) -> None:
    if len(objects) != group.size():
        raise ValueError(
            f"{what} must have an item for each of {group.size()} ranks, given {len(objects)}"
        )
