"""Processes that share tensors: Python's `multiprocessing`, in which tensors are sent by memory.

Everything of the standard module is here. A tensor, parameter or module that is sent, by a queue, a
pipe, a manager, a pool or as an argument of a process, is moved to shared memory and arrives as a
tensor on the same memory; nothing is copied. Importing this module is enough for that to hold for
the standard module's own queues too. A tensor of a GPU arrives on the GPU's memory that it has: the
processes must not be forks of one that uses the GPU (`get_context("spawn")`), and the one that made
the tensor must not end before those that received it have dropped it.
"""

from __future__ import annotations

import multiprocessing as _standard
from multiprocessing import *  # noqa: F403
from typing import Any

from braze.multiprocessing import reductions
from braze.multiprocessing.processes import (
    ProcessContext,
    ProcessException,
    ProcessExitedException,
    ProcessRaisedException,
    SpawnContext,
    spawn,
    start_processes,
)
from braze.multiprocessing.reductions import (
    get_all_sharing_strategies,
    get_sharing_strategy,
    set_sharing_strategy,
)

__all__ = [
    "ProcessContext",
    "ProcessException",
    "ProcessExitedException",
    "ProcessRaisedException",
    "SpawnContext",
    "get_all_sharing_strategies",
    "get_sharing_strategy",
    "reductions",
    "set_sharing_strategy",
    "spawn",
    "start_processes",
    *_standard.__all__,  # type: ignore[attr-defined]
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_standard, name)
