"""Averages of gradients that go over the network as integers of one byte.

Each rank maps the span of its values, which includes 0, to 0 ... 255, and sends these with their
step and the integer that means 0. Everybody adds up what all have sent.
"""

from __future__ import annotations

import math
from typing import Any

import braze
from braze import distributed as dist
from braze.distributed.buckets import GradBucket
from braze.futures import Future
from braze.ir.dtypes import f32, u8
from braze.tensors import Tensor

_LARGEST = 255


def quantization_pertensor_hook(process_group: Any, bucket: GradBucket) -> Future:
    """The average of the buckets, each with one span for all of its values.

    Args:
        process_group: the ranks; None: all.
    """
    buffer = bucket.buffer()
    return _done(_average(process_group, buffer.reshape(1, -1)).reshape(-1), buffer)


def quantization_perchannel_hook(
    process_group: Any, bucket: GradBucket, bucket_size: int = 512
) -> Future:
    """The average of the buckets, with a span for each `bucket_size` values.

    Args:
        process_group: the ranks; None: all.
    """
    buffer = bucket.buffer()
    count = buffer.numel()
    rows = math.ceil(count / bucket_size)
    filled = braze.nn.functional.pad(buffer, (0, rows * bucket_size - count))
    average = _average(process_group, filled.reshape(rows, bucket_size))
    return _done(average.reshape(-1)[:count], buffer)


def _average(process_group: Any, rows: Tensor) -> Tensor:
    """The average of all ranks' rows; float32."""
    given = rows.to(f32)
    low = given.amin(1, keepdim=True).clamp(max=0.0)
    high = given.amax(1, keepdim=True).clamp(min=0.0)
    step = ((high - low) / _LARGEST).clamp(min=braze.finfo(f32).eps)
    zero = (-low / step).round().clamp(0, _LARGEST)
    numbers = ((given / step).round() + zero).clamp(0, _LARGEST).to(u8)
    steps = _gathered(process_group, braze.stack([step, zero]))
    everybody = _gathered(process_group, numbers).to(f32)
    return ((everybody - steps[:, 1]) * steps[:, 0]).mean(0)


def _gathered(process_group: Any, tensor: Tensor) -> Tensor:
    """What all ranks have, stacked."""
    size = dist.get_world_size(process_group)
    found = braze.zeros(size, *tensor.shape, dtype=tensor.dtype, device=tensor.device)
    dist.all_gather_into_tensor(found, tensor, group=process_group)
    return found


def _done(average: Tensor, buffer: Tensor) -> Future:
    future = Future()
    future.set_result(average.to(buffer.dtype))
    return future
