"""The exponential distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values, broadcast_all


class Exponential(ExponentialFamily):
    """The density rate * exp(-rate * x) for x >= 0."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, rate: Values, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Exponential, batch_shape, _instance, "rate")

    @property
    def mean(self) -> Values:
        return self.rate.reciprocal()

    @property
    def mode(self) -> Values:
        return braze.zeros_like(self.rate)

    @property
    def stddev(self) -> Values:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Values:
        return self.rate ** (-2)

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        return -(-braze.rand(shape, dtype=self.rate.dtype)).log1p() / self.rate

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Values) -> Values:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Values:
        return 1.0 - self.rate.log()

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return (-self.rate,)

    def _log_normalizer(self, x: Values) -> Values:  # type: ignore[override]
        return -(-x).log()
