"""Run a small program on several ranks with a GPU each, emulated where the machine has none."""

from __future__ import annotations

from pathlib import Path

import cuda_device
from ranks import PROLOGUE, Outcome, run_ranks

_INIT = 'dist.init_process_group("mpi", '
ON_GPUS = PROLOGUE.replace(_INIT, 'dist.init_process_group("nccl", ') + """
GPU = f"cuda:{rank}"
braze.cuda.set_device(GPU)
"""


def run_ranks_on_gpus(
    program: str, folder: Path, ranks: int = 2, prologue: str = ON_GPUS, **how: object
) -> Outcome:
    """As `run_ranks`."""
    return run_ranks(program, folder, ranks, prologue=prologue, **{**_variables(), **how})  # type: ignore[arg-type]


def _variables() -> dict[str, str]:
    return cuda_device.variables()
