"""Which tags the messages of a group's communicator have, and whose they are.

A group has one communicator for everything: where a rank ends while one is being made, Open MPI may
end the others with a segmentation fault, so few are made.
"""

from __future__ import annotations

import functools

from braze.runtime.distributed.mpi import library

# Sums under way at a time are far fewer: their tags go round.
_SUMS = 1 << 10


@functools.cache
def _highest() -> int:
    return int(library().COMM_WORLD.Get_attr(library().TAG_UB))


def for_watching() -> int:
    """Of what ranks tell each other beside their data."""
    return _highest()


def for_pairs() -> int:
    """Of what two ranks agree on NCCL's communicator by."""
    return _highest() - 1


def for_sum(number: int) -> tuple[int, int]:
    """Of the two messages of a group's sum in shared memory, by its number."""
    first = _highest() - 3 - 2 * (number % _SUMS)
    return first, first + 1


def require_free(name: str, tag: int) -> None:
    """Raises: ValueError if a program's message may not have a tag."""
    last = _highest() - 2 - 2 * _SUMS
    if not 0 <= tag <= last:
        raise ValueError(f"[{name}] expected a tag from 0 to {last}, given {tag}")
