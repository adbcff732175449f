"""Layers whose weights are shared out among the ranks, which compute them together.

Source: Shoeybi et al., "Megatron-LM: Training multi-billion parameter language models using model
parallelism", 2019; the layers have its names.
"""

from braze.distributed.tensor.parallel.layers import (
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

__all__ = [
    "ColumnParallelLinear",
    "RowParallelLinear",
    "VocabParallelEmbedding",
    "copy_to_ranks",
    "gather_from_ranks",
    "reduce_from_ranks",
    "scatter_to_ranks",
]
