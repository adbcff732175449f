"""Batch normalisation by the statistics of several processes' batches together.

In: each process's batch.  Out: its part of the normalised whole; gradients are those of the whole.
The sums that processes share are collectives of the captured graph, two forward and two backward.
"""

from __future__ import annotations

import math
from typing import Any

from braze.autograd.function import Function
from braze.autograd.modes import no_grad
from braze.distributed.captured import collective
from braze.distributed.groups import ProcessGroup, is_initialized, member
from braze.functions.creation import full
from braze.functions.movement import cat
from braze.functions.promotion import cast
from braze.ir.dtypes import bf16, f16, f32
from braze.tensors import Tensor, wrap


def sharing(group: Any) -> ProcessGroup | None:
    """The group, if it is one of several processes and this is one of them.

    Raises: TypeError if it is no group.
    """
    if not is_initialized():
        return None
    found = member(group)
    return found if found is not None and found.size() > 1 else None


class _Sum(Function):
    """The sum over all processes of a group; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient, ctx.group), None


def _summed(x: Tensor, group: ProcessGroup) -> Tensor:
    return wrap(collective("all_reduce", [x._current()], group, tuple(x.shape)), None, 0)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
    group: ProcessGroup,
) -> Tensor:
    """As `braze.nn.functional.batch_norm` in training, of what all processes of a group have. Each
    may have a batch of another size, as long as it is not empty on all.

    Shape: input [N, C, ...], weight and the others [C].
    """
    channels = input.shape[1]
    others = [0, *range(2, input.ndim)]
    shape = (1, channels, *[1] * (input.ndim - 2))
    wide = f32 if input.dtype in (f16, bf16) else input.dtype
    x = cast(input, wide)
    own = float(math.prod((input.shape[0], *input.shape[2:])))
    totals = _Sum.apply(
        cat([x.sum(others), full((1,), own, dtype=wide, device=input.device)]), group
    )
    count = totals[channels:].detach()
    mean = totals[:channels] / count
    centred = x - mean.reshape(shape)
    variance = _Sum.apply((centred * centred).sum(others), group) / count
    result = centred * (variance + eps).rsqrt().reshape(shape)
    if weight is not None:
        result = result * cast(weight, wide).reshape(shape)
    if bias is not None:
        result = result + cast(bias, wide).reshape(shape)
    with no_grad():
        unbiased = variance.detach() * (count / (count - 1))
        for running, new in ((running_mean, mean.detach()), (running_var, unbiased)):
            if running is not None:
                running._replace(running + (cast(new, running.dtype) - running) * momentum)
    return cast(result, input.dtype)
