"""Linear and embedding layers with a part of the weight on each rank.

Weights begin as those of the unsharded layer with the same random state, which must be the same on
all ranks. Ranks that train one model in parts must be given the same batch.
"""

from __future__ import annotations

from typing import Any

import braze.nn.functional as F
from braze.autograd.modes import no_grad
from braze.distributed.checkpoint.pieces import Shard
from braze.distributed.groups import ProcessGroup
from braze.distributed.tensor.parallel.mappings import (
    copy_to_ranks,
    gather_from_ranks,
    group_of,
    part_of,
    reduce_from_ranks,
    scatter_to_ranks,
)
from braze.functions.pointwise import where
from braze.nn.modules.embedding import Embedding
from braze.nn.modules.linear import Linear
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor


class _Sharded(Module):
    """A layer with a part of each parameter along one dimension, or all of it.

    Attributes:
        process_group: the ranks that have the others.
        shared_along: by parameter, the dimension that is shared out.
    """

    weight: Parameter

    def _take(self, layer: Module, group: Any, **shared_along: int) -> None:
        """Take this rank's part of a layer's parameters."""
        self.process_group: ProcessGroup = group_of(group)
        self.shared_along = shared_along
        for name in ("weight", "bias"):
            whole = getattr(layer, name, None)
            if whole is None:
                self.register_parameter(name, None)
                continue
            own = whole.detach()
            if name in shared_along:
                dim = shared_along[name]
                what = f"{type(self).__name__}: dimension {dim} of the {name}"
                part = part_of(own.shape[dim], self.process_group, what)
                own = own.narrow(dim, part.start, part.stop - part.start)
            self.register_parameter(name, Parameter(own.clone()))

    def sharded_state_dict(self) -> dict[str, Tensor | Shard]:
        """The parameters, those that are shared out as `distributed.checkpoint.Shard`s: to save, or
        to load into, with any number of ranks."""
        found: dict[str, Tensor | Shard] = {}
        for name, parameter in self.named_parameters():
            value = parameter.detach()
            if name not in self.shared_along:
                found[name] = value
                continue
            dim = self.shared_along[name]
            offsets, shape = [0] * value.ndim, list(value.shape)
            offsets[dim] = self.process_group.rank() * shape[dim]
            shape[dim] *= self.process_group.size()
            found[name] = Shard(value, offsets, shape)
        return found


class ColumnParallelLinear(_Sharded):
    """input @ weight.T + bias, of which each rank computes some columns.

    Shape: [..., in_features] to [..., out_features], or to [..., out_features / ranks] without
    `gather_output`. This rank's weight is [out_features / ranks, in_features].

    Args:
        gather_output: give all ranks all columns; else each its own, for a `RowParallelLinear`.
        process_group: the ranks; all by default.

    Raises: ValueError if out_features does not divide by the number of ranks.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        gather_output: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.gather_output = gather_output
        whole = Linear(in_features, out_features, bias, device, dtype)
        self._take(whole, process_group, weight=0, bias=0)

    def forward(self, input: Tensor) -> Tensor:
        given = copy_to_ranks(input, self.process_group)
        output = F.linear(given, self.weight, self.bias)
        return gather_from_ranks(output, self.process_group) if self.gather_output else output

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, gather_output={self.gather_output}"
        )


class RowParallelLinear(_Sharded):
    """input @ weight.T + bias, to which each rank adds what some of the input's columns make of it.

    Shape: [..., in_features], or [..., in_features / ranks] with `input_is_parallel`, to
    [..., out_features]. This rank's weight is [out_features, in_features / ranks]; all have the
    whole bias.

    Args:
        input_is_parallel: each rank gives its own columns, as a `ColumnParallelLinear` without
            `gather_output` has them; else all give all of them.
        process_group: the ranks; all by default.

    Raises: ValueError if in_features does not divide by the number of ranks.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        input_is_parallel: bool = False,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.input_is_parallel = input_is_parallel
        whole = Linear(in_features, out_features, bias, device, dtype)
        self._take(whole, process_group, weight=1)

    def forward(self, input: Tensor) -> Tensor:
        own = input if self.input_is_parallel else scatter_to_ranks(input, self.process_group)
        output = reduce_from_ranks(F.linear(own, self.weight), self.process_group)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, input_is_parallel={self.input_is_parallel}"
        )


class VocabParallelEmbedding(_Sharded):
    """Rows of a table, of which each rank has some.

    Shape: indices [...] to [..., embedding_dim]. This rank's weight is
    [num_embeddings / ranks, embedding_dim].

    Args:
        padding_idx: a row that begins as zeros and has no gradient.
        process_group: the ranks; all by default.

    Raises: ValueError if num_embeddings does not divide by the number of ranks. IndexError for an
        index that no rank has.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        whole = Embedding(num_embeddings, embedding_dim, padding_idx, device=device, dtype=dtype)
        self.padding_idx = whole.padding_idx
        self._take(whole, process_group, weight=0)
        rows = self.weight.shape[0]
        self._first = self.process_group.rank() * rows
        self._end = self._first + rows

    def forward(self, input: Tensor) -> Tensor:
        with no_grad():
            below = (input >= 0) & (input < self._first)
            above = (input >= self._end) & (input < self.num_embeddings)
            elsewhere = below | above
            # What no rank has stays outside of this one's rows, which is an error.
            own = where(elsewhere, 0, input - self._first)
        padding = self.padding_idx
        has_it = padding is not None and self._first <= padding < self._end
        at = padding - self._first if padding is not None and has_it else None
        rows = F.embedding(own, self.weight, at)
        return reduce_from_ranks(where(elsewhere.unsqueeze(-1), 0.0, rows), self.process_group)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
