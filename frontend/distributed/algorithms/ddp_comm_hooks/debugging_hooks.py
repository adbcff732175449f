"""Hooks for finding out what communication costs."""

from __future__ import annotations

from typing import Any

from braze.distributed.buckets import GradBucket
from braze.futures import Future


def noop_hook(_: Any, bucket: GradBucket) -> Future:
    """Each rank's own gradients, without any communication: how fast training would be if it cost
    nothing. Ranks do not train together then."""
    future = Future()
    future.set_result(bucket.buffer())
    return future
