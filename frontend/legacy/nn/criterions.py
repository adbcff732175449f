"""The losses.

`sizeAverage` divides by the number of elements, or of examples, as each says.
"""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.legacy.nn.criterion import Criterion
from braze.legacy.nn.module import Table
from braze.legacy.nn.tables import cosine
from braze.nn import functional as F
from braze.tensors import Tensor


class _Averaged(Criterion):
    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__()
        self.sizeAverage = sizeAverage

    @property
    def _reduction(self) -> str:
        return "mean" if self.sizeAverage else "sum"


class _Weighted(_Averaged):
    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage)
        self.weights = weights


class AbsCriterion(_Averaged):
    """|x - y|, averaged over elements."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return self._mean((input - target).abs())


class MSECriterion(_Averaged):
    """(x - y) ** 2, averaged over elements."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return self._mean((input - target).square())


class WeightedMSECriterion(_Averaged):
    """(x - weight * y) ** 2, averaged over elements: the weights scale the target."""

    def __init__(self, weight: Tensor, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage)
        self.weight = weight.clone()

    def _loss(self, input: Table, target: Any) -> Tensor:
        return self._mean((input - target * self.weight).square())


class SmoothL1Criterion(_Averaged):
    """(x - y) ** 2 / 2 where |x - y| is below 1, else |x - y| - 0.5; averaged over elements."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self._reduction)


class BCECriterion(_Weighted):
    """-(y log x + (1 - y) log(1 - x)), averaged over elements; 1e-12 is added inside the logs.

    Args:
        weights: of the elements of one example.
    """

    eps = 1e-12

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        if weights is not None and weights.dim() != 1:
            raise ValueError("weights input should be 1D Tensor")
        super().__init__(weights, sizeAverage)

    def _loss(self, input: Table, target: Any) -> Tensor:
        if input.numel() != target.numel():
            raise RuntimeError(
                f"input and target size mismatch: {tuple(input.shape)}, {tuple(target.shape)}"
            )
        target = target.view(input.shape)
        losses = (input + self.eps).log() * target
        losses = losses + (1 + self.eps - input).log() * (1 - target)
        return self._mean(-losses if self.weights is None else -losses * self.weights)


class ClassNLLCriterion(_Weighted):
    """-x[y], of log-probabilities (N, C) or (C) and classes from 0; averaged by the weights."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.nll_loss(input, target, self.weights, reduction=self._reduction)


class SpatialClassNLLCriterion(ClassNLLCriterion):
    """`ClassNLLCriterion` of each pixel: (N, C, H, W) and (N, H, W)."""


class CrossEntropyCriterion(_Weighted):
    """`ClassNLLCriterion` of the logarithm of the softmax."""

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__(weights)

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.cross_entropy(input.squeeze(), target.squeeze(), self.weights)


class ClassSimplexCriterion(MSECriterion):
    """`MSECriterion` to the vertex of a regular simplex that stands for the class.

    Attributes:
        simplex: (nClasses, nClasses), the vertices.
    """

    def __init__(self, nClasses: int) -> None:
        super().__init__()
        self.nClasses = nClasses
        vertices = _regular_simplex(nClasses - 1)
        self.simplex = braze.tensor([[*row, 0.0] for row in vertices])

    def _loss(self, input: Table, target: Any) -> Tensor:
        return super()._loss(input, self.simplex[target.long()].view(input.shape))

    def getPredictions(self, input: Tensor) -> Tensor:
        """How near each example is to each class."""
        return input.matmul(self.simplex.t())

    def getTopPrediction(self, input: Tensor) -> Tensor:
        """The nearest class of each example."""
        return self.getPredictions(input).argmax(-1).view(-1)


def _regular_simplex(n: int) -> list[list[float]]:
    """n + 1 points of n dimensions, of length 1, each as far from every other: with dot products
    of -1 / n, coordinate by coordinate."""
    rows = [[0.0] * n for _ in range(n + 1)]
    for k in range(n):
        rows[k][k] = math.sqrt(1 - sum(x * x for x in rows[k][:k]))
        value = (rows[k][k] ** 2 - 1 - 1 / n) / rows[k][k]
        for later in rows[k + 1 :]:
            later[k] = value
    return rows


class DistKLDivCriterion(_Averaged):
    """y * (log y - x) where y is positive, averaged over elements: x are log-probabilities."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.kl_div(input, target, reduction=self._reduction)


class HingeEmbeddingCriterion(_Averaged):
    """Distances x where y is 1, max(0, margin - x) where it is -1; averaged over elements."""

    def __init__(self, margin: float = 1, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage)
        self.margin = margin

    def _loss(self, input: Table, target: Any) -> Tensor:
        if not isinstance(target, Tensor):
            target = braze.full_like(input, target)
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self._reduction)


class L1HingeEmbeddingCriterion(Criterion):
    """The sum d of |x0 - x1| if y is 1, max(0, margin - d) if it is -1; input is [x0, x1]."""

    def __init__(self, margin: float = 1) -> None:
        super().__init__()
        self.margin = margin

    def _loss(self, input: Table, target: Any) -> Tensor:
        distance = (input[0] - input[1]).abs().sum()
        near = (self.margin - distance).clamp(min=0)
        return braze.where(braze.as_tensor(target).reshape(()) == -1, near, distance)


class CosineEmbeddingCriterion(_Averaged):
    """1 - cos where y is 1, max(0, cos - margin) where it is -1, averaged over pairs of rows."""

    def __init__(self, margin: float = 0, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage)
        self.margin = margin

    def _loss(self, input: Table, target: Any) -> Tensor:
        angle = cosine(*input)
        return self._mean(braze.where(target == -1, (angle - self.margin).clamp(min=0), 1 - angle))


class MarginCriterion(_Averaged):
    """max(0, margin - x * y), averaged over elements."""

    def __init__(self, margin: float = 1, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage)
        self.margin = margin

    def _loss(self, input: Table, target: Any) -> Tensor:
        return self._mean((self.margin - input * target).clamp(min=0))


class MarginRankingCriterion(MarginCriterion):
    """max(0, margin - y * (x0 - x1)), averaged over elements; input is [x0, x1]."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return super()._loss(input[0] - input[1], target)


class SoftMarginCriterion(_Averaged):
    """log(1 + exp(-y * x)), averaged over elements."""

    def __init__(self) -> None:
        super().__init__()

    def _loss(self, input: Table, target: Any) -> Tensor:
        return self._mean(F.softplus(-input * target))


class MultiMarginCriterion(_Averaged):
    """sum of max(0, margin - x[y] + x[i]) ** p over i != y, divided by the number of classes.

    Args:
        p: 1 or 2. weights: of classes.
    """

    def __init__(
        self,
        p: int = 1,
        weights: Tensor | None = None,
        margin: float = 1,
        sizeAverage: bool = True,
    ) -> None:
        super().__init__(sizeAverage)
        if p not in (1, 2):
            raise ValueError(f"[MultiMarginCriterion] only p == 1 and p == 2 supported, given {p}")
        self.p, self.weights, self.margin = p, weights, margin

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.multi_margin_loss(
            input, target, self.p, self.margin, self.weights, reduction=self._reduction
        )


class MultiLabelMarginCriterion(_Averaged):
    """max(0, 1 - x[y] + x[i]) over targets y and other classes i; -1 ends the list of targets."""

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.multilabel_margin_loss(input, target, reduction=self._reduction)


class MultiLabelSoftMarginCriterion(_Weighted):
    """`BCECriterion` of the sigmoid."""

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__(weights)

    def _loss(self, input: Table, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.weights)


class L1Cost(Criterion):
    """The sum of |x|; there is no target."""

    def forward(self, input: Table, target: Any = None) -> Any:
        return self.updateOutput(input, target)

    def __call__(self, input: Table, target: Any = None) -> Any:
        return self.forward(input, target)

    def backward(self, input: Table, target: Any = None) -> Table:
        return self.updateGradInput(input, target)

    def _loss(self, input: Table, target: Any) -> Tensor:
        if target is not None:
            raise TypeError("[L1Cost] there is no target")
        return input.abs().sum()
