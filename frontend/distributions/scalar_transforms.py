"""Transforms of single numbers."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.transform import PlainTransform, Transform
from braze.distributions.utils import Values, broadcast_all, sum_rightmost
from braze.nn.functional import softplus


class _Rising(PlainTransform):
    """A rising bijection of single numbers."""

    domain = constraints.real
    bijective = True
    sign = 1


class ExpTransform(_Rising):
    """y = exp(x)."""

    codomain = constraints.positive

    def _call(self, x: Values) -> Values:
        return x.exp()

    def _inverted(self, y: Values) -> Values:
        return y.log()

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return x


class PowerTransform(Transform):
    """y = x ** exponent."""

    domain = constraints.positive
    codomain = constraints.positive
    bijective = True

    def __init__(self, exponent: Values, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        (self.exponent,) = broadcast_all(exponent)

    @property
    def sign(self) -> Any:
        return self.exponent.sign()

    def with_cache(self, cache_size: int = 1) -> Transform:
        return PowerTransform(self.exponent, cache_size=cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PowerTransform) and bool((self.exponent == other.exponent).all())

    __hash__ = object.__hash__

    def _call(self, x: Values) -> Values:
        return x.pow(self.exponent)

    def _inverted(self, y: Values) -> Values:
        return y.pow(1 / self.exponent)

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return (self.exponent * y / x).abs().log()

    def _shaped(self, shape: Any) -> Any:
        return braze.broadcast_shapes(shape, self.exponent.shape)

    forward_shape = inverse_shape = _shaped


class SigmoidTransform(_Rising):
    """y = 1 / (1 + exp(-x))."""

    codomain = constraints.unit_interval

    def _call(self, x: Values) -> Values:
        limits = braze.finfo(x.dtype)
        return braze.sigmoid(x).clamp(min=limits.tiny, max=1.0 - limits.eps)

    def _inverted(self, y: Values) -> Values:
        limits = braze.finfo(y.dtype)
        y = y.clamp(min=limits.tiny, max=1.0 - limits.eps)
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return -softplus(-x) - softplus(x)


class SoftplusTransform(_Rising):
    """y = log(1 + exp(x))."""

    codomain = constraints.positive

    def _call(self, x: Values) -> Values:
        return softplus(x)

    def _inverted(self, y: Values) -> Values:
        return (-braze.expm1(-y)).log() + y

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return -softplus(-x)


class TanhTransform(_Rising):
    """y = tanh(x)."""

    codomain = constraints.interval(-1.0, 1.0)

    def _call(self, x: Values) -> Values:
        return x.tanh()

    def _inverted(self, y: Values) -> Values:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return 2.0 * (math.log(2.0) - x - softplus(-2.0 * x))


class AbsTransform(PlainTransform):
    """y = |x|, which has no inverse; x = y is given for it."""

    domain = constraints.real
    codomain = constraints.positive

    def _call(self, x: Values) -> Values:
        return x.abs()

    def _inverted(self, y: Values) -> Values:
        return y


class AffineTransform(Transform):
    """y = loc + scale * x, with the last `event_dim` dimensions as one event."""

    bijective = True

    def __init__(self, loc: Values, scale: Values, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    @property
    def event_dim(self) -> int:
        """How many dimensions are one event."""
        return self._event_dim

    @property
    def domain(self) -> Any:  # type: ignore[override]
        dims = self._event_dim
        return constraints.independent(constraints.real, dims) if dims else constraints.real

    codomain = domain  # type: ignore[assignment]

    @property
    def sign(self) -> Any:
        if isinstance(self.scale, (int, float)):
            return (self.scale > 0) - (self.scale < 0)
        return self.scale.sign()

    def with_cache(self, cache_size: int = 1) -> Transform:
        return AffineTransform(self.loc, self.scale, self._event_dim, cache_size=cache_size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AffineTransform):
            return False
        pairs = ((self.loc, other.loc), (self.scale, other.scale))
        return all(a is b or bool(braze.as_tensor(a == b).all()) for a, b in pairs)

    __hash__ = object.__hash__

    def _call(self, x: Values) -> Values:
        return self.loc + self.scale * x

    def _inverted(self, y: Values) -> Values:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        scale = self.scale
        if isinstance(scale, (int, float)):
            result = braze.full_like(x, math.log(abs(scale)))
        else:
            result = scale.abs().log()
        return sum_rightmost(result.expand(x.shape), self._event_dim)

    def _shaped(self, shape: Any) -> Any:
        return braze.broadcast_shapes(
            shape, getattr(self.loc, "shape", ()), getattr(self.scale, "shape", ())
        )

    forward_shape = inverse_shape = _shaped


class CumulativeDistributionTransform(Transform):
    """y = cdf(x) of a distribution of single numbers."""

    bijective = True
    codomain = constraints.unit_interval
    sign = 1

    def __init__(self, distribution: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.distribution = distribution

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.distribution.support

    def with_cache(self, cache_size: int = 1) -> Transform:
        return CumulativeDistributionTransform(self.distribution, cache_size=cache_size)

    def _call(self, x: Values) -> Values:
        return self.distribution.cdf(x)

    def _inverted(self, y: Values) -> Values:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Values, y: Values) -> Values:
        return self.distribution.log_prob(x)
