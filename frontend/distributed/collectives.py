"""Operations that all ranks of a group call together, in the same order.

Each writes its results into tensors that it is given. With `async_op` it returns a `Work` at once,
and `Work.wait` tells when the tensors may be used; without, it returns None. A process that is no
member of the group does nothing. Errors: TypeError or ValueError for tensors that do not fit;
`DistBackendError` if a rank is gone or does not come within the timeout, naming it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from braze.capture import flush
from braze.distributed import on_devices
from braze.distributed.captured import is_to_come, replaced_by
from braze.distributed.groups import ProcessGroup, get_group_rank, member
from braze.distributed.memory import Target, check_alike, spread, takes, to_read
from braze.distributed.premultiplied import premultiplied
from braze.distributed.works import CapturedWork, PremultipliedSum, ReduceOp, Work
from braze.tensors import Tensor

Operation = ReduceOp | PremultipliedSum


def all_reduce(
    tensor: Tensor, op: Operation = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Every rank's tensor becomes the reduction of all of theirs."""
    found = takes("all_reduce", group, tensor)
    if found is None:
        return None
    if isinstance(op, PremultipliedSum):
        return premultiplied("all_reduce", tensor, [tensor], op, found, async_op)
    reduction = _reduction("all_reduce", op)
    if is_to_come(tensor):
        return _captured("all_reduce", tensor, tensor, found, async_op, reduction=reduction)
    if found._devices is not None:
        return on_devices.all_reduce(tensor, reduction, found, async_op)
    target = Target(tensor)
    running = found._communicator.all_reduce(target.array, reduction)
    return _started(found, running, async_op, [tensor], target)


def broadcast(
    tensor: Tensor,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Every rank's tensor becomes that of rank `src` (of the world)."""
    found = takes("broadcast", group, tensor)
    if found is None:
        return None
    root = _root("broadcast", found, src, group_src)
    if is_to_come(tensor):
        return _captured("broadcast", tensor, tensor, found, async_op, root=root)
    if found._devices is not None:
        return on_devices.broadcast(tensor, root, found, async_op)
    target = Target(tensor)
    running = found._communicator.broadcast(target.array, root)
    return _started(found, running, async_op, [tensor], target)


def reduce(
    tensor: Tensor,
    dst: int | None = None,
    op: Operation = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """The tensor of rank `dst` becomes the reduction of all ranks'; others stay as they are."""
    found = takes("reduce", group, tensor)
    if found is None:
        return None
    root = _root("reduce", found, dst, group_dst)
    if isinstance(op, PremultipliedSum):
        return premultiplied("reduce", tensor, [tensor], op, found, async_op, root)
    reduction = _reduction("reduce", op)
    if found._devices is not None:
        return on_devices.reduce(tensor, root, reduction, found, async_op)
    if found.rank() == root:
        target = Target(tensor)
        running = found._communicator.reduce(target.array, root, reduction)
        return _started(found, running, async_op, [tensor], target)
    running = found._communicator.reduce(to_read(tensor), root, reduction)
    return _started(found, running, async_op, [tensor])


def all_gather(
    tensor_list: Sequence[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """The tensors of the list become those of all ranks, in their order."""
    found = takes("all_gather", group, tensor, *tensor_list)
    if found is None:
        return None
    _check_count("all_gather", "tensor_list", tensor_list, found)
    check_alike("all_gather", [tensor, *tensor_list])
    if found._devices is not None:
        given_to = [(peer, tensor) for peer in range(found.size())]
        kept = list(enumerate(tensor_list))
        return on_devices.exchange("all_gather", given_to, kept, found, async_op)
    given = to_read(tensor)
    parts = np.empty((found.size(), given.size), given.dtype)
    targets = [Target(each) for each in tensor_list]
    running = found._communicator.all_gather(given, parts)
    return _started(found, running, async_op, tensor_list, spread(parts, targets))


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """The output becomes the inputs of all ranks, one behind the other; it is as large as they
    together, concatenated or stacked."""
    found = takes("all_gather_into_tensor", group, output_tensor, input_tensor)
    if found is None:
        return None
    _check_whole("all_gather_into_tensor", output_tensor, input_tensor, found)
    if is_to_come(input_tensor):
        return _captured("all_gather", output_tensor, input_tensor, found, async_op)
    if found._devices is not None:
        return on_devices.all_gather_into_tensor(output_tensor, input_tensor, found, async_op)
    given, target = to_read(input_tensor), Target(output_tensor)
    running = found._communicator.all_gather(given, target.array)
    return _started(found, running, async_op, [output_tensor], target)


def gather(
    tensor: Tensor,
    gather_list: Sequence[Tensor] | None = None,
    dst: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """On rank `dst` the tensors of the list become those of all ranks; others give no list."""
    found = takes("gather", group, tensor, *(gather_list or ()))
    if found is None:
        return None
    root = _root("gather", found, 0 if dst is None and group_dst is None else dst, group_dst)
    if found.rank() != root:
        _check_none("gather", "gather_list", gather_list)
    else:
        _check_count("gather", "gather_list", gather_list, found)
        check_alike("gather", [tensor, *(gather_list or ())])
    if found._devices is not None:
        kept = list(enumerate(gather_list or ()))
        return on_devices.exchange("gather", [(root, tensor)], kept, found, async_op)
    given = to_read(tensor)
    if found.rank() != root:
        running = found._communicator.gather(given, None, root)
        return _started(found, running, async_op, [])
    assert gather_list is not None
    parts = np.empty((found.size(), given.size), given.dtype)
    targets = [Target(each) for each in gather_list]
    running = found._communicator.gather(given, parts, root)
    return _started(found, running, async_op, gather_list, spread(parts, targets))


def scatter(
    tensor: Tensor,
    scatter_list: Sequence[Tensor] | None = None,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Each rank's tensor becomes its own of rank `src`'s list; others give no list."""
    found = takes("scatter", group, tensor, *(scatter_list or ()))
    if found is None:
        return None
    root = _root("scatter", found, 0 if src is None and group_src is None else src, group_src)
    parts = None
    if found.rank() == root:
        _check_count("scatter", "scatter_list", scatter_list, found)
        check_alike("scatter", [tensor, *(scatter_list or ())])
    else:
        _check_none("scatter", "scatter_list", scatter_list)
    if found._devices is not None:
        given = list(enumerate(scatter_list or ()))
        return on_devices.exchange("scatter", given, [(root, tensor)], found, async_op)
    if scatter_list:
        parts = np.stack([to_read(each).reshape(-1) for each in scatter_list])
    target = Target(tensor)
    running = found._communicator.scatter(parts, target.array, root)
    return _started(found, running, async_op, [tensor], target)


def reduce_scatter(
    output: Tensor,
    input_list: Sequence[Tensor],
    op: Operation = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """The output becomes the reduction of the tensors that all ranks' lists have for this rank."""
    found = takes("reduce_scatter", group, output, *input_list)
    if found is None:
        return None
    _check_count("reduce_scatter", "input_list", input_list, found)
    check_alike("reduce_scatter", [output, *input_list])
    if isinstance(op, PremultipliedSum):
        return premultiplied("reduce_scatter", output, input_list, op, found, async_op)
    reduction = _reduction("reduce_scatter", op)
    if found._devices is not None:
        return on_devices.reduce_scatter(output, input_list, reduction, found, async_op)
    parts = np.stack([to_read(each).reshape(-1) for each in input_list])
    target = Target(output)
    running = found._communicator.reduce_scatter(parts, target.array, reduction)
    return _started(found, running, async_op, [output], target)


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: Operation = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """The output becomes this rank's part of the reduction of all ranks' inputs, which are as large
    as all outputs together."""
    found = takes("reduce_scatter_tensor", group, output, input)
    if found is None:
        return None
    _check_whole("reduce_scatter_tensor", input, output, found)
    if isinstance(op, PremultipliedSum):
        return premultiplied("reduce_scatter", output, [input], op, found, async_op)
    reduction = _reduction("reduce_scatter_tensor", op)
    if is_to_come(input):
        return _captured("reduce_scatter", output, input, found, async_op, reduction=reduction)
    if found._devices is not None:
        return on_devices.reduce_scatter_tensor(output, input, reduction, found, async_op)
    given, target = to_read(input), Target(output)
    running = found._communicator.reduce_scatter(given, target.array, reduction)
    return _started(found, running, async_op, [output], target)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Each rank sends every rank one part of its input, along the first dimension.

    Args:
        output_split_sizes, input_split_sizes: the parts' sizes; None: equal parts.
    """
    found = takes("all_to_all_single", group, output, input)
    if found is None:
        return None
    if output.dtype is not input.dtype:
        raise TypeError(
            f"[all_to_all_single] tensors must have one dtype, given {output.dtype!r} and "
            f"{input.dtype!r}"
        )
    received = _counts("output_split_sizes", output, output_split_sizes, found)
    sent = _counts("input_split_sizes", input, input_split_sizes, found)
    if found._devices is not None:
        given_to = _parts(input, sent)
        return on_devices.exchange(
            "all_to_all_single", given_to, _parts(output, received), found, async_op
        )
    given, target = to_read(input), Target(output)
    running = found._communicator.all_to_all(given, target.array, sent, received)
    return _started(found, running, async_op, [output], target)


def all_to_all(
    output_tensor_list: Sequence[Tensor],
    input_tensor_list: Sequence[Tensor],
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """The r-th output becomes what rank r has in its list for this rank. Sizes may differ."""
    found = takes("all_to_all", group, *output_tensor_list, *input_tensor_list)
    if found is None:
        return None
    _check_count("all_to_all", "output_tensor_list", output_tensor_list, found)
    _check_count("all_to_all", "input_tensor_list", input_tensor_list, found)
    if found._devices is not None:
        given_to, kept = enumerate(input_tensor_list), enumerate(output_tensor_list)
        return on_devices.exchange("all_to_all", list(given_to), list(kept), found, async_op)
    given = np.concatenate([to_read(each).reshape(-1) for each in input_tensor_list])
    targets = [Target(each) for each in output_tensor_list]
    data = np.empty(sum(t.array.size for t in targets), given.dtype)
    received = [t.array.size for t in targets]

    def copy() -> None:
        start = 0
        for target in targets:
            part = data[start : start + target.array.size]
            np.copyto(target.array, part.reshape(target.array.shape))
            start += part.size
            if target.finish is not None:
                target.finish()

    sent = [each.numel() for each in input_tensor_list]
    running = found._communicator.all_to_all(given, data, sent, received)
    return _started(found, running, async_op, output_tensor_list, copy)


def barrier(
    group: Any = None,
    async_op: bool = False,
    device_ids: Any = None,
    timeout: timedelta | None = None,
) -> Work | None:
    """Wait until all ranks are here. What has been captured runs first.

    Args:
        device_ids: has no effect; MPI carries it.
        timeout: of this one, if it is another than the group's.
    """
    found = member(group)
    if found is None:
        return None
    _finish(found)
    return _started(found, found._communicator.barrier(_seconds(timeout)), async_op, [])


def monitored_barrier(
    group: Any = None, timeout: timedelta | None = None, wait_all_ranks: bool = False
) -> None:
    """As `barrier`, with a timeout of its own. Whichever rank is late, every other one names it.

    Raises:
        DistBackendError: some ranks, all of which are named, did not come in time.
    """
    found = member(group)
    if found is None:
        return
    _finish(found)
    found._communicator.barrier(_seconds(timeout)).wait()


def _seconds(timeout: timedelta | None) -> float | None:
    return None if timeout is None else timeout.total_seconds()


def _finish(group: ProcessGroup) -> None:
    """Run what has been captured, and wait for what the GPU has to do for the group."""
    flush()
    if group._devices is not None:
        group._devices.finish()


def _parts(tensor: Tensor, counts: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Its rows, so many elements of them for each rank."""
    rows = tensor.detach() if tensor.dim() else tensor.detach().reshape(1)
    size = math.prod(rows.shape[1:]) or 1
    found, start = [], 0
    for rank, count in enumerate(counts):
        found.append((rank, rows.narrow(0, start, count // size)))
        start += count // size
    return found


def _started(
    group: ProcessGroup,
    running: Any,
    async_op: bool,
    result: Sequence[Tensor],
    finish: Any = None,
) -> Work | None:
    """What a collective returns once it is under way."""
    if isinstance(finish, Target):
        finish = finish.finish
    running.then(finish)
    if async_op:
        return Work(running, group, list(result))
    running.wait()
    return None


def _captured(
    kind: str, target: Tensor, given: Tensor, group: ProcessGroup, async_op: bool, **how: Any
) -> Work | None:
    """Capture a collective of a tensor that is still to be computed."""
    replaced_by(kind, target, given, group, **how)
    return CapturedWork([target]) if async_op else None


def _reduction(name: str, op: Any) -> str:
    if not isinstance(op, ReduceOp):
        raise TypeError(f"[{name}] op: expected a ReduceOp, given {op!r}")
    if op is ReduceOp.PREMUL_SUM:
        raise ValueError(f"[{name}] ReduceOp.PREMUL_SUM needs a factor: ReduceOp.PREMUL_SUM(0.5)")
    return op.value


def _root(name: str, group: ProcessGroup, rank: int | None, group_rank: int | None) -> int:
    """The rank in the group that is meant.

    Raises: ValueError if it is given twice or not at all, or is no member.
    """
    if (rank is None) == (group_rank is None):
        raise ValueError(f"[{name}] give a rank, of the world or of the group, but not both")
    if rank is not None:
        return get_group_rank(group, rank)
    assert group_rank is not None
    if not 0 <= group_rank < group.size():
        raise ValueError(f"[{name}] there is no rank {group_rank} in {group!r}")
    return group_rank


def _check_count(name: str, what: str, tensors: Any, group: ProcessGroup) -> None:
    if tensors is None:
        raise ValueError(f"[{name}] Argument ``{what}`` must be specified on this rank.")
    if len(tensors) != group.size():
        raise ValueError(
            f"[{name}] {what} must have a tensor for each of {group.size()} ranks, given "
            f"{len(tensors)}"
        )


def _check_none(name: str, what: str, tensors: Any) -> None:
    if tensors:
        raise ValueError(f"[{name}] Argument ``{what}`` must NOT be specified on other ranks.")


def _check_whole(name: str, whole: Tensor, part: Tensor, group: ProcessGroup) -> None:
    large, small = whole._current().type, part._current().type
    if large.dtype is not small.dtype:
        raise TypeError(f"[{name}] tensors must have one dtype, given {large} and {small}")
    if large.numel != small.numel * group.size():
        raise ValueError(
            f"[{name}] {large} is not {group.size()} times as large as {small} "
            f"({large.numel} != {group.size()} * {small.numel})"
        )


def _counts(what: str, tensor: Tensor, sizes: Sequence[int] | None, group: ProcessGroup) -> Any:
    """How many elements each rank sends or gets."""
    shape = tuple(tensor.shape)
    rows = shape[0] if shape else 1
    if sizes is None or not len(sizes):
        if rows % group.size():
            raise ValueError(
                f"[all_to_all_single] {what}: {rows} rows cannot be split evenly for "
                f"{group.size()} ranks"
            )
        sizes = [rows // group.size()] * group.size()
    if len(sizes) != group.size() or sum(sizes) != rows:
        raise ValueError(
            f"[all_to_all_single] {what}={list(sizes)} must be {group.size()} sizes with the sum "
            f"{rows}"
        )
    return [size * math.prod(shape[1:]) for size in sizes]
