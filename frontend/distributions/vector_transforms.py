"""Transforms of vectors and matrices, and of parts along a dimension."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.scalar_transforms import SigmoidTransform
from braze.distributions.transform import PlainTransform, Transform
from braze.distributions.utils import Values, size, sum_rightmost
from braze.nn.functional import logsigmoid, pad


class SoftmaxTransform(PlainTransform):
    """y = softmax(x) along the last dimension, which only numbers up to a sum come back from."""

    domain = constraints.real_vector
    codomain = constraints.simplex

    def _call(self, x: Values) -> Values:
        return braze.softmax(x, -1)

    def _inverted(self, y: Values) -> Values:
        return y.log()

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return shape

    inverse_shape = forward_shape


class StickBreakingTransform(PlainTransform):
    """From K - 1 numbers to K probabilities: each the share of what is left."""

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    @staticmethod
    def _offset(x: Values) -> Values:
        count = x.shape[-1]
        return (braze.arange(count, 0, -1, dtype=x.dtype)).log()

    def _call(self, x: Values) -> Values:
        z = SigmoidTransform()(x - self._offset(x))
        left = (1 - z).cumprod(-1)
        return pad(z, [0, 1], value=1) * pad(left, [1, 0], value=1)

    def _inverted(self, y: Values) -> Values:
        y = y[..., :-1]
        left = (1 - y.cumsum(-1)).clamp(min=braze.finfo(y.dtype).tiny)
        return y.log() - left.log() + self._offset(y)

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        x = x - self._offset(x)
        return (-x + logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return size((*shape[:-1], shape[-1] - 1))


class LowerCholeskyTransform(PlainTransform):
    """The lower triangle, with the exponential of its diagonal."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Values) -> Values:
        return x.tril(-1) + x.diagonal(0, -2, -1).exp().diag_embed()

    def _inverted(self, y: Values) -> Values:
        return y.tril(-1) + y.diagonal(0, -2, -1).log().diag_embed()


class PositiveDefiniteTransform(PlainTransform):
    """L @ L.T for the matrix L of `LowerCholeskyTransform`."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Values) -> Values:
        lower = LowerCholeskyTransform()(x)
        return lower @ lower.transpose(-2, -1)

    def _inverted(self, y: Values) -> Values:
        return LowerCholeskyTransform().inv(braze.linalg.cholesky(y))


class _Joined(Transform):
    """Several maps, each of a part along a dimension."""

    def __init__(self, tseq: Sequence[Transform], dim: int, cache_size: int) -> None:
        super().__init__(cache_size=cache_size)
        self.transforms = [t.with_cache(cache_size) for t in tseq]
        self.dim = dim

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        return all(t.bijective for t in self.transforms)

    def _parts(self, x: Values) -> list[Values]:
        raise NotImplementedError

    def _whole(self, parts: list[Values]) -> Values:
        raise NotImplementedError

    def _call(self, x: Values) -> Values:
        pairs = zip(self.transforms, self._parts(x), strict=True)
        return self._whole([t(part) for t, part in pairs])

    def _inverted(self, y: Values) -> Values:
        pairs = zip(self.transforms, self._parts(y), strict=True)
        return self._whole([t.inv(part) for t, part in pairs])


class CatTransform(_Joined):
    """Maps of consecutive parts along a dimension, of the lengths given (1 by default)."""

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ) -> None:
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)

    def with_cache(self, cache_size: int = 1) -> Transform:
        return CatTransform(self.transforms, self.dim, self.lengths, cache_size)

    def _parts(self, x: Values) -> list[Values]:
        return list(x.split(self.lengths, self.dim))

    def _whole(self, parts: list[Values]) -> Values:
        return braze.cat(parts, self.dim)

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        dims = self.domain.event_dim
        found = []
        for t, a, b in zip(self.transforms, self._parts(x), self._parts(y), strict=True):
            own = t.log_abs_det_jacobian(a, b)
            found.append(sum_rightmost(own, dims - t.domain.event_dim))
        dim = self.dim if self.dim < 0 else self.dim - x.dim()
        dim += dims
        return braze.cat(found, dim) if dim < 0 else reduce(operator.add, found)


class StackTransform(_Joined):
    """Maps of the slices along a dimension."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(tseq, dim, cache_size)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return constraints.stack([t.domain for t in self.transforms], self.dim)

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        return constraints.stack([t.codomain for t in self.transforms], self.dim)

    def with_cache(self, cache_size: int = 1) -> Transform:
        return StackTransform(self.transforms, self.dim, cache_size)

    def _parts(self, x: Values) -> list[Values]:
        return [x.select(self.dim, i) for i in range(x.shape[self.dim])]

    def _whole(self, parts: list[Values]) -> Values:
        return braze.stack(parts, self.dim)

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        parts = zip(self.transforms, self._parts(x), self._parts(y), strict=True)
        return self._whole([t.log_abs_det_jacobian(a, b) for t, a, b in parts])
