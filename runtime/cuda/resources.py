"""What kernels take of a multiprocessor, as NVIDIA's assembler says, and how many fit it.

In: CUDA C, launches, and a GPU's target.  Out: for each function its registers, spills and shared
memory, and for each launch its occupancy: of the warps that a multiprocessor can hold, how many the
launch's blocks fill. No GPU is needed, nvcc is.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from braze.ir.cuda_program import CudaProgram, Launch
from braze.ir.gpu_limits import limits_of
from braze.ir.target import Target
from braze.runtime.cuda.nvcc import OPTIONS

_WARP = 32


# The same for all of them: registers, and how many a warp's are rounded up to.
_REGISTERS, _REGISTER_UNIT = 1 << 16, 256


@dataclass(frozen=True, slots=True)
class Resources:
    """What a function takes: registers of a thread, bytes that it spills (stores and loads), and
    bytes of shared memory beside the launch's."""

    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int


_FUNCTION = re.compile(
    r"Function properties for (\S+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n"
    r"[^\n]*?Used (\d+) registers([^\n]*)"
)
_SHARED = re.compile(r"(\d+) bytes smem")


def resources_in(text: str) -> dict[str, Resources]:
    """What the assembler's messages (``ptxas -v``) say of each function."""
    found = {}
    for name, stores, loads, registers, rest in _FUNCTION.findall(text):
        shared = _SHARED.search(rest)
        own = 0 if shared is None else int(shared[1])
        found[name] = Resources(int(registers), int(stores), int(loads), own)
    return found


def resources_of(source: str, target: Target, nvcc: str = "nvcc") -> dict[str, Resources]:
    """What the functions of a source take; {} where there is no nvcc, or one that does not say."""
    if not source:
        return {}
    with tempfile.TemporaryDirectory(prefix="braze-nvcc-") as folder:
        given = Path(folder, "kernels.cu")
        given.write_text(source)
        command = [nvcc, "--cubin", *OPTIONS, f"-arch={target.cpu}", "-Xptxas=-v"]
        command += ["-o", str(Path(folder, "kernels.cubin")), str(given)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True)
        except OSError:
            return {}
    return resources_in(ran.stderr) if ran.returncode == 0 else {}


def occupancy(launch: Launch, taken: Resources, target: Target) -> float:
    """The part of a multiprocessor's warps that blocks of a launch can fill, 0 to 1."""
    limits = limits_of(target.capability)
    warps = -(-prod(launch.block) // _WARP)
    of_warp = -(-taken.registers * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    blocks = min(limits.blocks, limits.threads // _WARP // warps)
    if of_warp:
        blocks = min(blocks, _REGISTERS // of_warp // warps)
    shared = launch.shared_bytes + taken.shared_bytes + limits.reserved_bytes
    if shared:
        blocks = min(blocks, limits.shared_bytes // shared)
    return blocks * warps * _WARP / limits.threads


def report(program: CudaProgram, found: dict[str, Resources]) -> str:
    """A line for each launch of a program."""
    return table(program.launches(), found, program.target)


def table(launches: Iterable[Launch], found: dict[str, Resources], target: Target) -> str:
    """A line for each launch, those that differ in nothing once."""
    lines = [f"{'kernel':<40} {'grid':>14} {'block':>10} {'shared':>8} {'registers':>9} "
             f"{'spilled':>8} {'occupancy':>9}"]  # fmt: skip
    lines += [_line(one, found.get(one.kernel), target) for one in _different(launches)]
    if not found:
        lines.append("registers, spills and occupancy: not measured, for want of NVIDIA's compiler")
    return "\n".join(lines)


def _different(launches: Iterable[Launch]) -> list[Launch]:
    by_shape = {(one.kernel, one.grid, one.block, one.shared_bytes): one for one in launches}
    return list(by_shape.values())


def _line(launch: Launch, taken: Resources | None, target: Target) -> str:
    grid, block = ("x".join(map(str, size)) for size in (launch.grid, launch.block))
    shared = launch.shared_bytes + (0 if taken is None else taken.shared_bytes)
    text = f"{launch.kernel:<40} {grid:>14} {block:>10} {shared:>8}"
    if taken is None:
        return f"{text} {'-':>9} {'-':>8} {'-':>9}"
    spilled = taken.spill_stores + taken.spill_loads
    return f"{text} {taken.registers:>9} {spilled:>8} {occupancy(launch, taken, target):>9.0%}"
