"""What the inspector asks the runtime for, in one place."""

from braze.runtime.insides import ArenaBlock, GraphStage, Insides, KernelInside, look_inside
from braze.runtime.limits import Limits, machine_limits
from braze.runtime.placed_insides import placed_stages
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
    "placed_stages",
    "timed_executable",
]
