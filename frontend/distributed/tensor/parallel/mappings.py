"""From tensors that all ranks have to parts of them, and back, with gradients.

All ranks call the same of these in the same order; they are captured with the iteration. A tensor
is either the same on all ranks, or each has its part along the last dimension, or each has a
summand; a gradient is what its tensor is, but for `copy_to_ranks`, whose gradients are summands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.autograd.builders import HandleBuilder
from braze.autograd.function import Function
from braze.distributed.captured import collective
from braze.distributed.groups import ProcessGroup, member
from braze.tensors import Tensor, wrap

_BUILDER = HandleBuilder()
_Map = Callable[[Tensor, ProcessGroup], Tensor]


def copy_to_ranks(input: Tensor, group: Any = None) -> Tensor:
    """The input, which all ranks have; its gradient is the sum of theirs."""
    return _mapped(input, group, _same, reduce_from_ranks)


def reduce_from_ranks(input: Tensor, group: Any = None) -> Tensor:
    """The sum of all ranks' inputs."""
    return _mapped(input, group, _added_up, copy_to_ranks)


def gather_from_ranks(input: Tensor, group: Any = None) -> Tensor:
    """All ranks' inputs, one behind the other along the last dimension."""
    return _mapped(input, group, _gathered, scatter_to_ranks)


def scatter_to_ranks(input: Tensor, group: Any = None) -> Tensor:
    """This rank's part of the input, which all ranks have, along the last dimension.

    Raises: ValueError if that does not divide by the number of ranks.
    """
    return _mapped(input, group, _own_part, gather_from_ranks)


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


def _mapped(x: Tensor, group: Any, there: _Map, back: _Map) -> Tensor:
    result: Tensor = _Mapping.apply(x, group_of(group), there, back)
    return result


def _same(x: Tensor, group: ProcessGroup) -> Tensor:
    return x.view_as(x)


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
    own = part_of(x.shape[-1], group, "scatter_to_ranks: the last dimension")
    return x[..., own].contiguous()


class _Mapping(Function):
    """A mapping, and the one that takes gradients back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup, there: _Map, back: _Map) -> Tensor:
        ctx.group, ctx.back = group, back
        return there(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return ctx.back(grad, ctx.group), None, None, None
