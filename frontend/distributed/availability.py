"""What there is: backends, and what the launcher says of this process."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from braze import engine
from braze.distributed.groups import Backend, _Joined, member

# What launchers call a rank's number among those of its host: Open MPI, MPICH and Intel MPI,
# MVAPICH, and Slurm, whose variable other launchers pass on to all that they start.
_LOCAL_RANKS = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
_DEVICE_BACKENDS = {"cpu": Backend.MPI, "cuda": Backend.NCCL}


def is_available() -> bool:
    """Whether the package is there, which it always is; a backend may still be missing."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py and an MPI library are installed (`pip install braze[mpi]`)."""
    if importlib.util.find_spec("mpi4py") is None:
        return False
    try:
        engine.distributed().library()
    except ImportError:
        return False
    return True


def is_nccl_available() -> bool:
    """Whether nccl4py and NCCL are installed (`pip install braze[nccl]`), for GPUs to talk to each
    other."""
    try:
        engine.distributed().nccl()
    except ImportError:
        return False
    return True


def is_gloo_available() -> bool:
    """False: MPI carries what is on the CPU."""
    return False


def is_ucc_available() -> bool:
    """False; MPI libraries may use it by themselves."""
    return False


def is_xccl_available() -> bool:
    """False."""
    return False


def is_backend_available(backend: str) -> bool:
    """Whether a backend can be used, or all of "cpu:mpi,cuda:nccl"."""
    found = {Backend.MPI: is_mpi_available, Backend.NCCL: is_nccl_available}
    names = [part.rpartition(":")[2].strip() for part in backend.lower().split(",")]
    return all(name in found and found[name]() for name in names)


def is_torchelastic_launched() -> bool:
    """Whether PyTorch's launcher (torchrun) has started this process. Its ranks know nothing of
    each other by MPI; let `mpiexec` start them."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def get_default_backend_for_device(device: Any) -> str:
    """The backend for tensors on a device: "mpi" for the CPU, "nccl" for GPUs.

    Raises:
        ValueError: there is none.
    """
    kind = str(getattr(device, "type", device)).partition(":")[0]
    if kind not in _DEVICE_BACKENDS:
        raise ValueError(f"Default backend not registered for device : {device}")
    return _DEVICE_BACKENDS[kind]


def get_backend_config(group: Any = None) -> str:
    """The devices and the backend of a group: "cpu:mpi" or "cuda:nccl".

    Raises:
        ValueError: this process is no member of the group.
    """
    found = member(group)
    if found is None:
        raise ValueError("Invalid process group specified")
    device = "cpu" if found._devices is None else "cuda"
    return f"{device}:{found._backend}"


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """This process's number among the ranks of its host, from 0: for choosing a GPU.

    It is what `LOCAL_RANK` says, if somebody has set it; after `init_process_group`, what the ranks
    know of each other's hosts; before it, what the launcher says.

    Args:
        fallback_rank: the answer where nobody knows.

    Raises:
        RuntimeError: nobody knows, and there is no fallback.
    """
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    world = _Joined.world
    if world is not None:
        processes = world.watch.processes
        own = processes[world.rank].host
        return sum(processes[rank].host == own for rank in range(world.rank))
    for name in _LOCAL_RANKS:
        if name in os.environ:
            return int(os.environ[name])
    if fallback_rank is not None:
        return int(fallback_rank)
    raise RuntimeError(
        "LOCAL_RANK is not in the environment. Consider passing fallback_rank to allow "
        "`get_node_local_rank` to work, assuming you are not running in a multi-device context and "
        "want the code to run locally instead."
    )
