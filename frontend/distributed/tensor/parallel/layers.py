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

    @classmethod
    def _of(cls, layer: Module, **how: Any) -> Any:
        """The layer that has this rank's part of a whole one."""
        made: Any = cls.__new__(cls)
        Module.__init__(made)
        made._fill(layer, **how)
        return made.train(layer.training)

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
            self.register_parameter(name, Parameter(own.clone(), whole.requires_grad))

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
        whole = Linear(in_features, out_features, bias, device, dtype)
        self._fill(whole, gather_output, process_group)

    @classmethod
    def of(
        cls, layer: Linear, gather_output: bool = True, process_group: Any = None
    ) -> ColumnParallelLinear:
        """The layer that computes what a `Linear` does, which all ranks have.  Raises: as the
        constructor."""
        made: ColumnParallelLinear = cls._of(
            layer, gather_output=gather_output, process_group=process_group
        )
        return made

    def _fill(self, layer: Linear, gather_output: bool, process_group: Any) -> None:
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.gather_output = gather_output
        self._take(layer, process_group, weight=0, bias=0)

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
        whole = Linear(in_features, out_features, bias, device, dtype)
        self._fill(whole, input_is_parallel, process_group)

    @classmethod
    def of(
        cls, layer: Linear, input_is_parallel: bool = False, process_group: Any = None
    ) -> RowParallelLinear:
        """The layer that computes what a `Linear` does, which all ranks have.  Raises: as the
        constructor."""
        made: RowParallelLinear = cls._of(
            layer, input_is_parallel=input_is_parallel, process_group=process_group
        )
        return made

    def _fill(self, layer: Linear, input_is_parallel: bool, process_group: Any) -> None:
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.input_is_parallel = input_is_parallel
        self._take(layer, process_group, weight=1)

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
        whole = Embedding(num_embeddings, embedding_dim, padding_idx, device=device, dtype=dtype)
        self._fill(whole, process_group)

    @classmethod
    def of(cls, layer: Embedding, process_group: Any = None) -> VocabParallelEmbedding:
        """The layer that does what an `Embedding` does, which all ranks have.  Raises: as the
        constructor. ValueError if it has a `max_norm`, scales gradients, or has sparse ones."""
        made: VocabParallelEmbedding = cls._of(layer, process_group=process_group)
        return made

    def _fill(self, layer: Embedding, process_group: Any) -> None:
        _check_plain(type(self).__name__, layer)
        self.num_embeddings, self.embedding_dim = layer.num_embeddings, layer.embedding_dim
        self.padding_idx = layer.padding_idx
        self._take(layer, process_group, weight=0)
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


class ColumnParallelEmbedding(_Sharded):
    """Rows of a table, of each of which every rank has some columns.

    Shape: indices [...] to [..., embedding_dim], or to [..., embedding_dim / ranks] without
    `gather_output`. This rank's weight is [num_embeddings, embedding_dim / ranks].

    Args:
        padding_idx: a row that begins as zeros and has no gradient.
        gather_output: give all ranks all columns; else each its own.
        process_group: the ranks; all by default.

    Raises: ValueError if embedding_dim does not divide by the number of ranks.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        gather_output: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        whole = Embedding(num_embeddings, embedding_dim, padding_idx, device=device, dtype=dtype)
        self._fill(whole, gather_output, process_group)

    @classmethod
    def of(
        cls, layer: Embedding, gather_output: bool = True, process_group: Any = None
    ) -> ColumnParallelEmbedding:
        """The layer that does what an `Embedding` does, which all ranks have.  Raises: as the
        constructor. ValueError if it has a `max_norm`, scales gradients, or has sparse ones."""
        made: ColumnParallelEmbedding = cls._of(
            layer, gather_output=gather_output, process_group=process_group
        )
        return made

    def _fill(self, layer: Embedding, gather_output: bool, process_group: Any) -> None:
        _check_plain(type(self).__name__, layer)
        self.num_embeddings, self.embedding_dim = layer.num_embeddings, layer.embedding_dim
        self.padding_idx = layer.padding_idx
        self.gather_output = gather_output
        self._take(layer, process_group, weight=1)

    def forward(self, input: Tensor) -> Tensor:
        rows = F.embedding(input, self.weight, self.padding_idx)
        return gather_from_ranks(rows, self.process_group) if self.gather_output else rows

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return f"{text}, gather_output={self.gather_output}"


def _check_plain(name: str, layer: Embedding) -> None:
    if layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse:
        raise ValueError(
            f"{name}: an Embedding with max_norm, scale_grad_by_freq or sparse gradients is not "
            f"shared out, given {layer}"
        )
