"""The one door from the front end to the runtime: pending traces go out, storages come back."""

from __future__ import annotations

from types import ModuleType

from braze.runtime.cache import Entry, Prepared, prepare
from braze.runtime.config import PRECISIONS, Background, Tier, config
from braze.runtime.cpu import host_target
from braze.runtime.executable import Input, Resident
from braze.runtime.files import replacing
from braze.runtime.kernel_difference import KernelDifference
from braze.runtime.libc import die_with_parent
from braze.runtime.observing import Observer, Work, observing
from braze.runtime.package import load
from braze.runtime.package_accuracy import AccuracyReport
from braze.runtime.package_codes import MOST_DIMENSIONS, Dynamic, DynamicDim
from braze.runtime.package_family import Sizes
from braze.runtime.package_narrow import DTYPES, Narrowing, Sample
from braze.runtime.package_writer import write_package
from braze.runtime.places import shares
from braze.runtime.pool import get_num_threads, set_num_threads
from braze.runtime.recompiles import explain
from braze.runtime.shared_blocks import (
    SharedBlock,
    block_from_file,
    block_under,
    live_blocks,
    new_block,
)
from braze.runtime.splitting import is_split
from braze.runtime.stats import stats
from braze.runtime.storage import Storage, sized

__all__ = [
    "DTYPES",
    "MOST_DIMENSIONS",
    "AccuracyReport",
    "PRECISIONS",
    "Background",
    "Dynamic",
    "DynamicDim",
    "Entry",
    "Input",
    "KernelDifference",
    "Observer",
    "Narrowing",
    "Prepared",
    "Resident",
    "Sample",
    "Sizes",
    "SharedBlock",
    "Storage",
    "Tier",
    "Work",
    "block_from_file",
    "block_under",
    "c_export",
    "config",
    "cuda",
    "debugging",
    "die_with_parent",
    "distributed",
    "explain",
    "get_num_threads",
    "gpu_names",
    "host_target",
    "inspecting",
    "is_split",
    "live_blocks",
    "load",
    "new_block",
    "observing",
    "prepare",
    "replacing",
    "set_num_threads",
    "shared_files",
    "shares",
    "sized",
    "stats",
    "write_package",
]


def debugging() -> ModuleType:
    """What finds the stage of a compile that is wrong and writes reproducers, loaded when somebody
    asks for it."""
    from braze.runtime import debugging

    return debugging


def c_export() -> ModuleType:
    """What exports packages for C, loaded when somebody asks for it."""
    from braze.runtime import c_export

    return c_export


def inspecting() -> ModuleType:
    """What looks into a compile and times its kernels, loaded when somebody asks for it."""
    from braze.runtime import inspecting

    return inspecting


def distributed() -> ModuleType:
    """What computes with other processes, loaded when a program first asks for it."""
    from braze.runtime.distributed import facade

    return facade


def shared_files() -> ModuleType:
    """The runtime's shared blocks with names, loaded when a program first asks for one."""
    from braze.runtime import shared_files

    return shared_files


def cuda() -> ModuleType:
    """CUDA devices and their memory, loaded when somebody asks for it."""
    from braze.runtime.cuda import facade

    return facade


def gpu_names() -> tuple[str, ...]:
    """The GPUs that code can be made for."""
    from braze.ir.target import GPU_NAMES

    return GPU_NAMES
