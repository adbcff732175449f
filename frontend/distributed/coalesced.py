"""Collectives of several tensors in one message, and the other names of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.distributed.bucket_layout import layout_of
from braze.distributed.captured import collective, together
from braze.distributed.collectives import (
    Operation,
    _check_count,
    _reduction,
    all_gather_into_tensor,
    reduce_scatter_tensor,
)
from braze.distributed.memory import takes
from braze.distributed.premultiplied import multiplied
from braze.distributed.works import PremultipliedSum, ReduceOp
from braze.futures import Future
from braze.tensors import Tensor, wrap

# PyTorch has both names for each.
all_gather_single = all_gather_into_tensor
reduce_scatter_single = reduce_scatter_tensor


def all_reduce_coalesced(
    tensors: Tensor | Sequence[Tensor],
    op: Operation = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Future | None:
    """Every tensor becomes the reduction of all ranks' tensors in its place, all in one message.
    It is captured, as part of what is still to be computed.

    Returns:
        With `async_op` a future of the tensors; else None.

    Raises:
        TypeError: they have several dtypes, or one that has no such reduction.
        ValueError: there is none.
    """
    own = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    found = takes("all_reduce_coalesced", group, *own)
    if found is None:
        return None
    _check_dtype("all_reduce_coalesced", own)
    given = own
    if isinstance(op, PremultipliedSum):
        given = [multiplied("all_reduce_coalesced", tensor, op) for tensor in own]
        op = ReduceOp.SUM
    handles = [tensor._current() for tensor in given]
    reduction = _reduction("all_reduce_coalesced", op)
    carrier = found._communicator if found._devices is None else found._devices
    carrier.check(reduction, own[0].dtype.numpy)
    parts = together("all_reduce", handles, found, reduction=reduction)
    for tensor, part in zip(own, parts, strict=True):
        tensor._replace(wrap(part, None, 0), tracked=False)
    return _future(own) if async_op else None


def all_gather_coalesced(
    output_tensor_lists: Sequence[Sequence[Tensor]],
    input_tensor_list: Sequence[Tensor],
    group: Any = None,
    async_op: bool = False,
) -> Future | None:
    """The r-th list of outputs becomes the list of inputs of rank r, all in one message.

    Returns:
        With `async_op` a future of the outputs; else None.

    Raises:
        TypeError: tensors have several dtypes.
        ValueError: there is no list for each rank, or a list's tensors are not like the inputs.
    """
    name = "all_gather_coalesced"
    given, lists = list(input_tensor_list), [list(each) for each in output_tensor_lists]
    every = [tensor for each in lists for tensor in each]
    found = takes(name, group, *given, *every)
    if found is None:
        return None
    _check_count(name, "output_tensor_lists", lists, found)
    _check_dtype(name, [*given, *every])
    wanted = [tuple(tensor.shape) for tensor in given]
    for each in lists:
        shapes = [tuple(tensor.shape) for tensor in each]
        if shapes != wanted:
            raise ValueError(
                f"[{name}] each list of outputs has tensors like the inputs, of shapes {wanted}, "
                f"given {shapes}"
            )
    handles = [tensor._current() for tensor in given]
    layout = layout_of(tuple(handle.type for handle in handles) * found.size(), alignment=1)
    whole = collective("all_gather", handles, found, (layout.numel,))
    for tensor, part in zip(every, layout.parts(whole), strict=True):
        tensor._replace(wrap(part, None, 0), tracked=False)
    return _future(every) if async_op else None


def _check_dtype(name: str, tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise ValueError(f"[{name}] expected at least one tensor")
    dtypes = {tensor.dtype.name for tensor in tensors}
    if len(dtypes) > 1:
        raise TypeError(f"[{name}] tensors must have one dtype, given {sorted(dtypes)}")


def _future(tensors: list[Tensor]) -> Future:
    future = Future()
    future.set_result(tensors)
    return future
