"""The Poisson distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values, broadcast_all


class Poisson(ExponentialFamily):
    """rate ** k * exp(-rate) / k! for k = 0, 1, ..."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Values, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Poisson, batch_shape, _instance, "rate")

    @property
    def mean(self) -> Values:
        return self.rate

    @property
    def mode(self) -> Values:
        return self.rate.floor()

    @property
    def variance(self) -> Values:
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        with braze.no_grad():
            return braze.poisson(self.rate.expand(shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        rate, value = broadcast_all(self.rate, value)
        return braze.xlogy(value, rate) - rate - braze.lgamma(value + 1)

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return (self.rate.log(),)

    def _log_normalizer(self, x: Values) -> Values:  # type: ignore[override]
        return x.exp()
