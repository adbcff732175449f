"""The uniform distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values, broadcast_all, require


class Uniform(Distribution):
    """The uniform distribution on [low, high).

    Raises:
        ValueError: low is not below high.
    """

    arg_constraints = {"low": constraints.dependent, "high": constraints.dependent}
    has_rsample = True

    def __init__(self, low: Values, high: Values, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)
        if self._validate_args:
            text = "Uniform is not defined when low>= high"
            require(constraints.less_than(self.high), self.low, text, "Uniform")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.interval(self.low, self.high)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Uniform, batch_shape, _instance, "low high")

    @property
    def mean(self) -> Values:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Values:
        return braze.full_like(self.high, float("nan"))

    @property
    def stddev(self) -> Values:
        return (self.high - self.low) / 12**0.5

    @property
    def variance(self) -> Values:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        return self.low + braze.rand(shape, dtype=self.low.dtype) * (self.high - self.low)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        inside = (self.low <= value) & (self.high > value)
        return inside.to(self.low.dtype).log() - (self.high - self.low).log()

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(min=0, max=1)

    def icdf(self, value: Values) -> Values:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Values:
        return (self.high - self.low).log()
