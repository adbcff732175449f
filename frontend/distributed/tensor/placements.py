"""Which part of a tensor each rank has, with PyTorch's names.

In: a rank's part, and its placement.  Out: the part of another placement, with gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from braze.distributed.groups import ProcessGroup
from braze.distributed.tensor.parallel.mappings import gather_from_ranks, scatter_to_ranks
from braze.tensors import Tensor


class Placement:
    """Which part of a tensor a rank has."""


@dataclass(frozen=True)
class Replicate(Placement):
    """All of it."""


@dataclass(frozen=True)
class Shard(Placement):
    """A part of equal size along a dimension; the first rank the first."""

    dim: int


def redistributed(
    part: Tensor, source: Placement, target: Placement, group: ProcessGroup
) -> Tensor:
    """From one placement to another. The gradient takes the way back.

    Raises: ValueError if a dimension does not divide by the number of ranks.
    """
    if source == target:
        return part
    if isinstance(source, Shard):
        part = _along(gather_from_ranks, part, source.dim, group)
    if isinstance(target, Shard):
        part = _along(scatter_to_ranks, part, target.dim, group)
    return part


def checked(placement: Placement | None, default: Placement, what: str) -> Placement:
    """Raises: TypeError if it is no placement that is known here."""
    if placement is None:
        return default
    if not isinstance(placement, (Replicate, Shard)):
        raise TypeError(f"{what}: expected Replicate() or Shard(dim), given {placement!r}")
    return placement


def _along(
    mapping: Callable[[Tensor, ProcessGroup], Tensor], x: Tensor, dim: int, group: ProcessGroup
) -> Tensor:
    if dim in (-1, x.ndim - 1):
        return mapping(x, group)
    return mapping(x.movedim(dim, -1), group).movedim(-1, dim)
