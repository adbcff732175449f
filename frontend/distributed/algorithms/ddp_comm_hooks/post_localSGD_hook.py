"""Averages of all ranks' gradients at first, and of a few ranks' later.

Source: Lin, Stich, Patel, Jaggi, "Don't use large mini-batches, use local SGD", 2020. What
averages the parameters then is `distributed.algorithms.model_averaging`.
"""

from __future__ import annotations

from typing import Any

from braze.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from braze.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from braze.distributed.buckets import GradBucket
from braze.distributed.subgroups import host_groups
from braze.futures import Future


class PostLocalSGDState:
    """What the hook keeps between iterations.

    Args:
        process_group: the ranks that average their gradients at first; None: all.
        subgroup: those that do later; None: those of each host.
        start_localSGD_iter: iterations before.
        post_local_gradient_allreduce: average later on at all; else each rank has its own gradients
            then.
    """

    def __init__(
        self,
        process_group: Any,
        subgroup: Any,
        start_localSGD_iter: int,
        post_local_gradient_allreduce: bool = True,
    ) -> None:
        self.process_group = process_group
        self.subgroup = subgroup
        self.start_localSGD_iter = start_localSGD_iter
        self.post_local_gradient_allreduce = post_local_gradient_allreduce
        self.iter = 0

    def maybe_increase_iter(self, bucket: GradBucket) -> None:
        """Count an iteration with its last bucket."""
        self.iter += bucket.is_last()


def post_localSGD_hook(state: PostLocalSGDState, bucket: GradBucket) -> Future:
    """The average over all ranks in the first iterations, then over the subgroup."""
    if state.iter < state.start_localSGD_iter:
        state.maybe_increase_iter(bucket)
        return allreduce_hook(state.process_group, bucket)
    if not state.post_local_gradient_allreduce:
        return noop_hook(state, bucket)
    if state.subgroup is None:
        state.subgroup, _ = host_groups()
    return allreduce_hook(state.subgroup, bucket)
