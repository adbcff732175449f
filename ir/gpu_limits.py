"""What a GPU's multiprocessor holds, by compute capability (80 for 8.0)."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a multiprocessor: resident threads and blocks, bytes of shared memory, and those that each
    block takes of it for the system."""

    threads: int
    blocks: int
    shared_bytes: int
    reserved_bytes: int


# Copies to shared memory go on by themselves since this compute capability.
ASYNC_CAPABILITY = 80

# CUDA C++ programming guide, "Technical specifications per compute capability".
LIMITS = {
    75: Limits(1024, 16, 64 << 10, 0),
    80: Limits(2048, 32, 164 << 10, 1 << 10),
    86: Limits(1536, 16, 100 << 10, 1 << 10),
    89: Limits(1536, 24, 100 << 10, 1 << 10),
    90: Limits(2048, 32, 228 << 10, 1 << 10),
    100: Limits(2048, 32, 228 << 10, 1 << 10),
    120: Limits(1536, 24, 100 << 10, 1 << 10),
}


def nearest(capability: int, known: Iterable[int]) -> int:
    """Of the capabilities that something is known of, whose figures hold for another one: the
    nearest that is not higher."""
    return max(number for number in known if number <= capability)


def limits_of(capability: int) -> Limits:
    """A GPU's limits, or those of the nearest lower capability."""
    return LIMITS[nearest(capability, LIMITS)]
