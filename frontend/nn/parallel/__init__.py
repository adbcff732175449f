"""One module on several devices at once in one process, or on several processes."""

from braze.nn.parallel import comm, scatter_gather
from braze.nn.parallel.data_parallel import DataParallel, data_parallel
from braze.nn.parallel.distributed import DistributedDataParallel
from braze.nn.parallel.parallel_apply import parallel_apply
from braze.nn.parallel.replicate import replicate
from braze.nn.parallel.scatter_gather import gather, scatter

__all__ = [
    "DataParallel",
    "DistributedDataParallel",
    "comm",
    "data_parallel",
    "gather",
    "parallel_apply",
    "replicate",
    "scatter",
    "scatter_gather",
]
