"""Gradients as products of two thin matrices, which are all that goes over the network.

Source: Vogels, Karimireddy, Jaggi, "PowerSGD: Practical low-rank gradient compression for
distributed optimization", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import braze
from braze import distributed as dist
from braze.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from braze.distributed.buckets import GradBucket
from braze.futures import Future
from braze.tensors import Tensor


class PowerSGDState:
    """What the hook keeps between iterations.

    Args:
        process_group: the ranks; None: all.
        matrix_approximation_rank: the columns of each of the two matrices.
        start_powerSGD_iter: iterations before, in which gradients are averaged as they are.
        min_compression_rate: gradients are compressed only if that makes them so many times
            smaller.
        use_error_feedback: add what one iteration leaves out to the next one's gradients.
        warm_start: begin with the last iteration's matrix instead of a random one.
        orthogonalization_epsilon: is added to the length that a column is divided by.
        random_seed: of the random matrices, the same on all ranks.

    Raises: ValueError for a rank or compression rate below 1, or a start below 2 with feedback or a
        warm start, which PyTorch does not allow either.
    """

    def __init__(
        self,
        process_group: Any,
        matrix_approximation_rank: int = 1,
        start_powerSGD_iter: int = 1000,
        min_compression_rate: float = 2,
        use_error_feedback: bool = True,
        warm_start: bool = True,
        orthogonalization_epsilon: float = 0,
        random_seed: int = 0,
    ) -> None:
        if matrix_approximation_rank < 1 or min_compression_rate < 1:
            raise ValueError(
                "PowerSGDState: matrix_approximation_rank and min_compression_rate must be at "
                f"least 1, given {matrix_approximation_rank} and {min_compression_rate}"
            )
        if (use_error_feedback or warm_start) and start_powerSGD_iter <= 1:
            raise ValueError(
                "Expect `start_powerSGD_iter` > 1 if `use_error_feedback` or `warm_start` is "
                "enabled, because PowerSGD can only be applied after the first two iterations in "
                "DDP."
            )
        self.process_group = process_group
        self.matrix_approximation_rank = matrix_approximation_rank
        self.start_powerSGD_iter = start_powerSGD_iter
        self.min_compression_rate = min_compression_rate
        self.use_error_feedback = use_error_feedback
        self.warm_start = warm_start
        self.orthogonalization_epsilon = orthogonalization_epsilon
        self.generator = braze.Generator().manual_seed(random_seed)
        self.iter = 0
        # By parameter: which ones are in a bucket may change, where some are unused. Of a whole
        # bucket by all of its parameters.
        self.errors: dict[Hashable, Tensor] = {}
        self.matrices: dict[Hashable, Tensor] = {}


def powerSGD_hook(state: PowerSGDState, bucket: GradBucket) -> Future:
    """The average of the ranks' gradients, of which those with two dimensions or more are only
    approximated: M (n, m) as P Q^T, with P (n, r) and Q (m, r)."""
    if state.iter < state.start_powerSGD_iter:
        state.iter += bucket.is_last()
        return allreduce_hook(state.process_group, bucket)
    gradients = bucket.gradients()
    rank = state.matrix_approximation_rank
    chosen = [i for i, g in enumerate(gradients) if _is_worth_it(g, rank, state)]
    rest = [i for i in range(len(gradients)) if i not in chosen]
    own = [bucket.parameters()[i] for i in chosen]
    matrices = [gradients[i].reshape(gradients[i].shape[0], -1) for i in chosen]
    found = _approximated(state, own, matrices)
    result = list(gradients)
    for i, matrix in zip(chosen, found, strict=True):
        result[i] = matrix.reshape(gradients[i].shape)
    size = dist.get_world_size(state.process_group)
    averages = _added_up([gradients[i] for i in rest], state)
    for i, gradient in zip(rest, averages, strict=True):
        result[i] = gradient / size
    state.iter += bucket.is_last()
    return Future(lambda: bucket.join(result))


def batched_powerSGD_hook(state: PowerSGDState, bucket: GradBucket) -> Future:
    """As `powerSGD_hook`, of the whole bucket as one square matrix, with zeros at its end. That is
    quicker, and much less exact, since what lies side by side in it has little in common."""
    if state.iter < state.start_powerSGD_iter:
        state.iter += bucket.is_last()
        return allreduce_hook(state.process_group, bucket)
    buffer = bucket.buffer()
    count = buffer.numel()
    side = math.isqrt(count - 1) + 1
    square = braze.nn.functional.pad(buffer, (0, side * side - count)).reshape(side, side)
    key = tuple(id(parameter) for parameter in bucket.parameters())
    (found,) = _approximated(state, [key], [square])
    state.iter += bucket.is_last()
    average = found.reshape(-1)[:count]
    return Future(lambda: average)


def _approximated(
    state: PowerSGDState, keys: Sequence[Hashable], matrices: Sequence[Tensor]
) -> list[Tensor]:
    """The averages of the ranks' matrices, approximated.

    Args:
        keys: by which the state knows what an iteration leaves for the next one.
    """
    if state.use_error_feedback:
        matrices = [
            m + state.errors[key] if key in state.errors else m
            for m, key in zip(matrices, keys, strict=True)
        ]
    for m, key in zip(matrices, keys, strict=True):
        if not (state.warm_start and key in state.matrices):
            state.matrices[key] = braze.randn(
                m.shape[1],
                min(state.matrix_approximation_rank, *m.shape),
                dtype=m.dtype,
                generator=state.generator,
            )
    size = dist.get_world_size(state.process_group)
    thin = [_orthogonal(state.matrices[key], state.orthogonalization_epsilon) for key in keys]
    left = _added_up([m @ q for m, q in zip(matrices, thin, strict=True)], state)
    left = [_orthogonal(p, state.orthogonalization_epsilon) for p in left]
    right = _added_up([m.t() @ p for m, p in zip(matrices, left, strict=True)], state)
    right = [q / size for q in right]
    found = [p @ q.t() for p, q in zip(left, right, strict=True)]
    if state.use_error_feedback:
        state.errors.update((k, m - f) for k, m, f in zip(keys, matrices, found, strict=True))
    if state.warm_start:
        state.matrices.update(zip(keys, right, strict=True))
    return found


def _is_worth_it(gradient: Tensor, rank: int, state: PowerSGDState) -> bool:
    if gradient.ndim < 2:
        return False
    n = gradient.shape[0]
    m = gradient.numel() // n
    return (n + m) * min(rank, n, m) * state.min_compression_rate < n * m


def _added_up(tensors: list[Tensor], state: PowerSGDState) -> list[Tensor]:
    """The sums of all ranks' tensors, in one message."""
    if not tensors:
        return []
    flat = braze.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat, group=state.process_group)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.reshape(t.shape) for part, t in zip(parts, tensors, strict=True)]


def _orthogonal(matrix: Tensor, epsilon: float) -> Tensor:
    """Columns of length 1, each orthogonal to those before it (Gram-Schmidt, each column twice);
    zeros for a column that is made up of these but for rounding."""
    smallest = 100 * braze.finfo(matrix.dtype).eps
    columns: list[Tensor] = []
    for i in range(matrix.shape[1]):
        column = matrix[:, i]
        before = column.norm()
        for other in 2 * columns:
            column = column - (other * column).sum() * other
        norm = column.norm()
        kept = column / (norm + epsilon)
        columns.append(braze.where(norm > smallest * before, kept, braze.zeros_like(column)))
    return braze.stack(columns, dim=1)
