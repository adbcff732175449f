"""Training with several processes, on one machine or many, with PyTorch's names.

A launcher that is there already starts them (`mpiexec -n 4 python train.py`, Slurm's `srun`), and
MPI carries what they tell each other:

    from braze import distributed as dist

    dist.init_process_group("mpi")
    total = braze.tensor([1.0 + dist.get_rank()])
    dist.all_reduce(total)

A collective of a tensor that is still to be computed is captured like any operation; of one that
is in memory, it reads and writes that memory itself.
"""

import importlib
from typing import Any

from braze import engine
from braze.distributed.availability import (
    get_backend_config,
    get_default_backend_for_device,
    get_node_local_rank,
    is_available,
    is_backend_available,
    is_gloo_available,
    is_mpi_available,
    is_nccl_available,
    is_torchelastic_launched,
    is_ucc_available,
    is_xccl_available,
)
from braze.distributed.buckets import GradBucket
from braze.distributed.coalesced import (
    all_gather_coalesced,
    all_gather_single,
    all_reduce_coalesced,
    reduce_scatter_single,
)
from braze.distributed.collectives import (
    all_gather,
    all_gather_into_tensor,
    all_reduce,
    all_to_all,
    all_to_all_single,
    barrier,
    broadcast,
    gather,
    monitored_barrier,
    reduce,
    reduce_scatter,
    reduce_scatter_tensor,
    scatter,
)
from braze.distributed.device_mesh import DeviceMesh, init_device_mesh
from braze.distributed.groups import (
    Backend,
    GroupMember,
    ProcessGroup,
    default_pg_timeout,
    destroy_process_group,
    get_backend,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    group,
    init_process_group,
    is_initialized,
    new_group,
)
from braze.distributed.objects import (
    all_gather_object,
    broadcast_object_list,
    gather_object,
    recv_object_list,
    scatter_object_list,
    send_object_list,
)
from braze.distributed.point_to_point import (
    P2POp,
    batch_isend_irecv,
    irecv,
    isend,
    recv,
    send,
)
from braze.distributed.subgroups import (
    new_subgroups,
    new_subgroups_by_enumeration,
    split_group,
)
from braze.distributed.works import (
    ReduceOp,
    Work,
    supports_complex,
)
from braze.distributed.works import (
    _make_nccl_premul_sum as _make_nccl_premul_sum,
)

DistError = engine.distributed().DistError
DistBackendError = engine.distributed().DistBackendError

# Loaded when first used.
_MODULES = ("algorithms", "checkpoint", "optim", "tensor")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"braze.distributed.{name}")
    raise AttributeError(f"module 'braze.distributed' has no attribute {name!r}")


__all__ = [
    "Backend",
    "DeviceMesh",
    "DistBackendError",
    "DistError",
    "GradBucket",
    "GroupMember",
    "P2POp",
    "ProcessGroup",
    "ReduceOp",
    "Work",
    "all_gather",
    "all_gather_coalesced",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_gather_single",
    "all_reduce",
    "all_reduce_coalesced",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "batch_isend_irecv",
    "broadcast",
    "broadcast_object_list",
    "default_pg_timeout",
    "destroy_process_group",
    "gather",
    "gather_object",
    "get_backend",
    "get_backend_config",
    "get_default_backend_for_device",
    "get_global_rank",
    "get_group_rank",
    "get_node_local_rank",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "group",
    "init_device_mesh",
    "init_process_group",
    "irecv",
    "is_available",
    "is_backend_available",
    "is_gloo_available",
    "is_initialized",
    "is_mpi_available",
    "is_nccl_available",
    "is_torchelastic_launched",
    "is_ucc_available",
    "is_xccl_available",
    "isend",
    "monitored_barrier",
    "new_group",
    "new_subgroups",
    "new_subgroups_by_enumeration",
    "recv",
    "recv_object_list",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_single",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "send",
    "send_object_list",
    "split_group",
    "supports_complex",
]
