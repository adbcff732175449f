"""From tensors that all ranks have to parts of them, and back, with gradients.

All ranks call the same of these in the same order; they are captured with the iteration. A tensor
is either the same on all ranks, or each has its part along the last dimension, or each has a
summand; a gradient is what its tensor is, but for `copy_to_ranks`, whose gradients are summands.
"""

from __future__ import annotations

from typing import Any

from braze.autograd.builders import HandleBuilder
from braze.autograd.function import Function
from braze.distributed.captured import collective
from braze.distributed.groups import ProcessGroup, member
from braze.tensors import Tensor, wrap

_BUILDER = HandleBuilder()


def copy_to_ranks(input: Tensor, group: Any = None) -> Tensor:
    """The input, which all ranks have; its gradient is the sum of theirs."""
    result: Tensor = _Copy.apply(input, group_of(group))
    return result


def reduce_from_ranks(input: Tensor, group: Any = None) -> Tensor:
    """The sum of all ranks' inputs."""
    result: Tensor = _Reduce.apply(input, group_of(group))
    return result


def gather_from_ranks(input: Tensor, group: Any = None) -> Tensor:
    """All ranks' inputs, one behind the other along the last dimension."""
    result: Tensor = _Gather.apply(input, group_of(group))
    return result


def scatter_to_ranks(input: Tensor, group: Any = None) -> Tensor:
    """This rank's part of the input, which all ranks have, along the last dimension.

    Raises: ValueError if that does not divide by the number of ranks.
    """
    found = group_of(group)
    part_of(input.shape[-1], found, "scatter_to_ranks: the last dimension")
    result: Tensor = _Scatter.apply(input, found)
    return result


def part_of(size: int, group: ProcessGroup, what: str) -> slice:
    """This rank's part of so many things.

    Raises: ValueError if they cannot be shared out evenly.
    """
    if size % group.size():
        raise ValueError(f"{what}, {size}, does not divide by {group.size()} ranks")
    part = size // group.size()
    return slice(part * group.rank(), part * (group.rank() + 1))


def group_of(group: Any) -> ProcessGroup:
    """The group meant by an argument.  Raises: ValueError if this process is no member."""
    found = member(group)
    if found is None:
        raise ValueError("this process is no member of the group")
    return found


def _added_up(x: Tensor, group: ProcessGroup) -> Tensor:
    handle = x._current()
    flat = collective("all_reduce", [handle], group, (handle.type.numel,))
    return wrap(_BUILDER.reshape(flat, shape=handle.type.shape), None, 0)


def _gathered(x: Tensor, group: ProcessGroup) -> Tensor:
    handle = x._current()
    *outer, last = handle.type.shape
    flat = collective("all_gather", [handle], group, (group.size() * handle.type.numel,))
    parts = wrap(_BUILDER.reshape(flat, shape=(group.size(), *outer, last)), None, 0)
    return parts.movedim(0, -2).reshape(*outer, group.size() * last)


def _own_part(x: Tensor, group: ProcessGroup) -> Tensor:
    own = part_of(x.shape[-1], group, "the last dimension")
    return x[..., own].contiguous()


class _Copy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return reduce_from_ranks(grad, ctx.group), None


class _Reduce(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _added_up(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return copy_to_ranks(grad, ctx.group), None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _gathered(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return scatter_to_ranks(grad, ctx.group), None


class _Scatter(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _own_part(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return gather_from_ranks(grad, ctx.group), None
