"""What the inspector asks the runtime for, in one place."""

from braze.runtime.insides import ArenaBlock, GraphStage, Insides, KernelInside, look_inside
from braze.runtime.limits import Limits
from braze.runtime.package_insides import PackageCode, package_codes
from braze.runtime.placed_insides import limits_on, placed_stages, run_placed, target_on
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
    "PackageCode",
    "TimedExecutable",
    "duration",
    "limits_on",
    "look_inside",
    "measure",
    "package_codes",
    "placed_stages",
    "run_placed",
    "target_on",
    "timed_executable",
]
