"""What the inspector asks the runtime for, in one place."""

from braze.runtime.insides import ArenaBlock, GraphStage, Insides, KernelInside, look_inside
from braze.runtime.limits import Limits, machine_limits
from braze.runtime.timing import (
    Chunk,
    KernelFacts,
    KernelTime,
    TimedExecutable,
    duration,
    measure,
    timed_executable,
)

__all__ = [
    "ArenaBlock",
    "Chunk",
    "GraphStage",
    "Insides",
    "KernelFacts",
    "KernelInside",
    "KernelTime",
    "Limits",
    "TimedExecutable",
    "duration",
    "look_inside",
    "machine_limits",
    "measure",
    "timed_executable",
]
