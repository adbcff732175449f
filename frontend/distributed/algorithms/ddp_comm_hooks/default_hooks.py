"""The average of gradients, at full or at half the bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze import distributed as dist
from braze.distributed.buckets import GradBucket
from braze.futures import Future
from braze.ir.dtypes import DType, bf16, f16

Hook = Callable[[Any, GradBucket], Future]


def allreduce_hook(process_group: Any, bucket: GradBucket) -> Future:
    """The average of the ranks' buckets, as without a hook.

    Args:
        process_group: the ranks; None: all.
    """
    return _average(process_group, bucket.buffer()).then(lambda future: future.value()[0])


def fp16_compress_hook(process_group: Any, bucket: GradBucket) -> Future:
    """The average, for which gradients go over the network in float16.

    They are divided by the number of ranks before they are added up, so that sums do not overflow.
    """
    return _compressed(process_group, bucket, f16)


def bf16_compress_hook(process_group: Any, bucket: GradBucket) -> Future:
    """The average, for which gradients go over the network in bfloat16."""
    return _compressed(process_group, bucket, bf16)


def fp16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that is given buckets in float16; its results are cast back."""
    return _wrapper(hook, f16)


def bf16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that is given buckets in bfloat16; its results are cast back."""
    return _wrapper(hook, bf16)


def _average(process_group: Any, tensor: Any) -> Future:
    given = tensor / dist.get_world_size(process_group)
    work = dist.all_reduce(given, group=process_group, async_op=True)
    assert work is not None
    return work.get_future()


def _compressed(process_group: Any, bucket: GradBucket, dtype: DType) -> Future:
    own = bucket.buffer().dtype
    average = _average(process_group, bucket.buffer().to(dtype))
    return average.then(lambda future: future.value()[0].to(own))


def _wrapper(hook: Hook, dtype: DType) -> Hook:
    def wrapped(state: Any, bucket: GradBucket) -> Future:
        own = bucket.buffer().dtype
        bucket.set_buffer(bucket.buffer().to(dtype))

        def back(future: Future) -> Any:
            found = future.value()
            bucket.set_buffer(bucket.buffer().to(own))
            return (found[0] if isinstance(found, list) else found).to(own)

        return hook(state, bucket).then(back)

    return wrapped
