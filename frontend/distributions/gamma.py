"""The gamma distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values, broadcast_all
from braze.functions.sampling import _standard_gamma


class Gamma(ExponentialFamily):
    """The density proportional to x ** (concentration - 1) * exp(-rate * x) for x >= 0."""

    arg_constraints: Any = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(
        self, concentration: Values, rate: Values, validate_args: bool | None = None
    ) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Gamma, batch_shape, _instance, "concentration rate")

    @property
    def mean(self) -> Values:
        return self.concentration / self.rate

    @property
    def mode(self) -> Values:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Values:
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        return _standard_gamma(self.concentration.expand(shape)) / self.rate

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        a, rate = self.concentration, self.rate
        return braze.xlogy(a, rate) + braze.xlogy(a - 1, value) - rate * value - braze.lgamma(a)

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return braze.igamma(self.concentration, self.rate * value)

    def entropy(self) -> Values:
        a = self.concentration
        return a - self.rate.log() + braze.lgamma(a) + (1.0 - a) * braze.digamma(a)

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Values, y: Values) -> Values:  # type: ignore[override]
        return braze.lgamma(x + 1) + (x + 1) * (-y.reciprocal()).log()
