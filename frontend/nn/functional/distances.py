"""Distances between vectors, and losses that compare them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.promotion import result_type
from braze.functions.tables import rows_at
from braze.ir.errors import DTypeError
from braze.nn.functional.support import REDUCTIONS, reduced, reduction_of
from braze.tensors import Tensor, from_array


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The inner product along a dimension of the two divided by their norms (at least eps).

    Raises:
        RuntimeError: neither is of floating point, or the shapes do not broadcast.
    """
    require_tensors("cosine_similarity", x1=x1, x2=x2)
    if not result_type(x1, x2).is_differentiable:
        raise DTypeError(
            f"expected common dtype to be floating point, given {x1.dtype!r} and {x2.dtype!r}"
        )
    product = reductions.sum(pointwise.mul(x1, x2), dim)
    squares = [reductions.sum(pointwise.mul(x, x), dim) for x in (x1, x2)]
    norms = [pointwise.sqrt(pointwise.clamp(s, min=eps * eps)) for s in squares]
    return pointwise.div(product, pointwise.mul(*norms))


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension; both broadcast."""
    require_tensors("pairwise_distance", x1=x1, x2=x2)
    difference = pointwise.add(pointwise.sub(x1, x2), eps)
    return reductions.norm(difference, p, -1, keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows, first those of row 0 with the rows after it.

    Shape: [N, M] to [N (N - 1) / 2].

    Raises:
        RuntimeError: the input is no floating-point matrix, or p is negative.
    """
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not input.dtype.is_floating_point:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = np.triu_indices(input.shape[0], 1)
    rows = [rows_at(input, from_array(np.ascontiguousarray(i))) for i in (first, second)]
    return reductions.norm(pointwise.sub(*rows), p, -1)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1.

    Shape: inputs [N, D] and target [N], or [D] and [].

    Raises:
        RuntimeError: the shapes do not fit. ValueError: an unknown reduction.
    """
    require_tensors("cosine_embedding_loss", input1=input1, input2=input2, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if not input1.ndim == input2.ndim == target.ndim + 1:
        wanted = "1D target tensor expects 2D" if target.ndim else "0D target tensor expects 1D"
        raise RuntimeError(
            f"{wanted} input tensors, but found inputs with sizes {list(input1.shape)} and "
            f"{list(input2.shape)}."
        )
    # Both squares get an epsilon, as PyTorch's do, so that the loss of a zero vector is finite.
    epsilon = 1e-12
    product = reductions.sum(pointwise.mul(input1, input2), -1)
    squares = [
        pointwise.add(reductions.sum(pointwise.mul(x, x), -1), epsilon) for x in (input1, input2)
    ]
    cosine = pointwise.div(product, pointwise.sqrt(pointwise.mul(*squares)))
    alike = pointwise.where(pointwise.eq(target, 1), pointwise.sub(1, cosine), 0.0)
    apart = pointwise.clamp(pointwise.sub(cosine, margin), min=0)
    apart = pointwise.where(pointwise.eq(target, -1), apart, 0.0)
    return reduced(pointwise.add(alike, apart), kind)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The input where the target is 1, max(0, margin - input) where it is -1.

    Raises:
        ValueError: an unknown reduction. RuntimeError: the shapes do not broadcast.
    """
    require_tensors("hinge_embedding_loss", input=input, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    far = pointwise.clamp(pointwise.sub(margin, input), min=0)
    far = pointwise.where(pointwise.ne(target, 1), far, 0.0)
    near = pointwise.where(pointwise.ne(target, -1), input, 0.0)
    return reduced(pointwise.add(far, near), kind)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin).

    Raises:
        RuntimeError: the three have different numbers of dimensions.
    """
    require_tensors("margin_ranking_loss", input1=input1, input2=input2, target=target)
    kind = reduction_of(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.shape}, input2: {input2.shape}, target: {target.shape} "
        )
    loss = pointwise.mul(pointwise.neg(target), pointwise.sub(input1, input2))
    return reduced(pointwise.clamp(pointwise.add(loss, margin), min=0), kind)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), with `pairwise_distance` as d.

    Args:
        swap: take the distance of positive and negative where that is the smaller one (Balntas et
            al., "Learning shallow convolutional feature descriptors with triplet losses", 2016).

    Raises:
        RuntimeError: the three have different numbers of dimensions. ValueError: the margin is not
            positive, or an unknown reduction.
    """
    require_tensors("triplet_margin_loss", anchor=anchor, positive=positive, negative=negative)
    kind = reduction_of(reduction, size_average, reduce)
    _check_triplet(anchor, positive, negative, margin)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet(distance, (anchor, positive, negative), margin, swap, kind)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own; `pairwise_distance` by default.

    Raises:
        ValueError: an unknown reduction, or the margin is not positive. RuntimeError: the three
            have different numbers of dimensions.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    _check_triplet(anchor, positive, negative, margin)
    return _triplet(
        distance_function or pairwise_distance,
        (anchor, positive, negative),
        margin,
        swap,
        reduction,
    )


def _check_triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> None:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of "
            f"dimensions, but got: anchor {anchor.ndim}D, positive {positive.ndim}D, and negative "
            f"{negative.ndim}D inputs"
        )


def _triplet(
    distance: Callable[[Tensor, Tensor], Tensor],
    triplet: tuple[Tensor, Tensor, Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    anchor, positive, negative = triplet
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = pointwise.minimum(far, distance(positive, negative))
    loss = pointwise.add(pointwise.sub(near, far), margin)
    return reduced(pointwise.clamp(loss, min=0), reduction)
