"""A softmax over very many classes of which few are frequent.

E. Grave et al., "Efficient softmax approximation for GPUs", arXiv 1609.04309.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from braze.functions import pointwise, reductions
from braze.functions.creation import zeros
from braze.functions.indexing import check_values, gather
from braze.functions.movement import cat, narrow, reshape, unsqueeze
from braze.functions.promotion import cast
from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError
from braze.nn import functional as F
from braze.nn.modules.containers import ModuleList, Sequential
from braze.nn.modules.linear import Linear, placed
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class _ASMoutput(NamedTuple):
    """The log-probability of each row's target, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """The log-softmax of classes in clusters: frequent classes first, each later cluster through a
    projection of its own to fewer features.

    Every cluster is computed for every row and the target's is chosen: then no size depends on the
    targets, and nothing waits for them.

    Args:
        cutoffs: where the second and each later cluster starts.
        div_value: by how much the features become fewer from cluster to cluster.

    Shape: input [N, in_features] and target [N], int64; or [in_features] and [].

    Raises:
        ValueError: the cutoffs are not increasing integers from 1 to n_classes - 1.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (
            cutoffs != sorted(set(cutoffs))
            or cutoffs[0] <= 0
            or cutoffs[-1] > n_classes - 1
            or any(int(c) != c for c in cutoffs)
        ):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing "
                "order, where each value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        place = placed(device, dtype)
        self.head = Linear(in_features, self.head_size, bias=head_bias, **place)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            hidden = int(in_features // (div_value ** (i + 1)))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **place),
                    Linear(hidden, size, bias=False, **place),
                )
            )

    def reset_parameters(self) -> None:
        """Draw new values."""
        self.head.reset_parameters()
        for projection in self.tail:
            for layer in projection:  # type: ignore[attr-defined]
                layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        """The targets' log-probabilities, and minus their mean.

        Raises:
            RuntimeError: shapes do not fit; at the next sync, if a target is out of range.
        """
        self._check(input_, target_)
        batched = target_.ndim > 0
        input = input_ if batched else unsqueeze(input_, 0)
        target = target_ if batched else unsqueeze(target_, 0)
        outside = pointwise.bitwise_or(
            pointwise.lt(target, 0), pointwise.ge(target, self.n_classes)
        )
        text = f"Target values should be in [0, {self.n_classes - 1}]"
        check_values("AdaptiveLogSoftmaxWithLoss", outside, text)
        place = pointwise.clamp(target, 0, self.shortlist_size - 1)  # in the head
        local = zeros(target.shape[0], dtype=input.dtype)
        for i, projection in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            mine = pointwise.bitwise_and(pointwise.ge(target, low), pointwise.lt(target, high))
            own = pointwise.clamp(pointwise.sub(target, low), 0, high - low - 1)
            local = pointwise.where(mine, _picked(F.log_softmax(projection(input), 1), own), local)
            place = pointwise.where(mine, self.shortlist_size + i, place)
        head = F.log_softmax(self.head(input), 1)
        output = pointwise.add(local, _picked(head, cast(place, i64)))
        loss = reductions.mean(pointwise.neg(output))
        return _ASMoutput(output if batched else reshape(output, ()), loss)

    @staticmethod
    def _check(input: Tensor, target: Tensor) -> None:
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.ndim == 1 and input.shape[:1] != target.shape:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if input.ndim != target.ndim + 1:
            raise RuntimeError(
                f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found "
                f"inputs with size {input.shape}"
            )
        if not target.dtype.is_integer:
            raise DTypeError(f"the target must hold class numbers, given {target.dtype!r}")

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes: [N, in_features] to [N, n_classes]."""
        head = F.log_softmax(self.head(input), 1)
        parts = [narrow(head, 1, 0, self.shortlist_size)]
        for i, projection in enumerate(self.tail):
            cluster = narrow(head, 1, self.shortlist_size + i, 1)
            parts.append(pointwise.add(F.log_softmax(projection(input), 1), cluster))
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row: [N, in_features] to [N], int64."""
        return reductions.argmax(self.log_prob(input), 1)


def _picked(table: Tensor, column: Tensor) -> Tensor:
    """One element of each row."""
    return reshape(gather(table, 1, unsqueeze(column, 1)), (-1,))
