"""Layers whose weights are shared out among the ranks, which compute them together.

Source: Shoeybi et al., "Megatron-LM: Training multi-billion parameter language models using model
parallelism", 2019; the layers have its names, and the styles of `parallelize_module` PyTorch's.
"""

from braze.distributed.tensor.parallel.layers import (
    ColumnParallelEmbedding,
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
)
from braze.distributed.tensor.parallel.mappings import (
    copy_to_ranks,
    gather_from_ranks,
    reduce_from_ranks,
    scatter_to_ranks,
)
from braze.distributed.tensor.parallel.parallelize import parallelize_module
from braze.distributed.tensor.parallel.styles import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
)

__all__ = [
    "ColumnParallelEmbedding",
    "ColumnParallelLinear",
    "ColwiseParallel",
    "ParallelStyle",
    "PrepareModuleInput",
    "PrepareModuleOutput",
    "RowParallelLinear",
    "RowwiseParallel",
    "SequenceParallel",
    "VocabParallelEmbedding",
    "copy_to_ranks",
    "gather_from_ranks",
    "parallelize_module",
    "reduce_from_ranks",
    "scatter_to_ranks",
]
