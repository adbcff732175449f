"""The inverse gamma distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.gamma import Gamma
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import PowerTransform
from braze.distributions.utils import Values


class InverseGamma(TransformedDistribution):
    """One over a gamma number."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(
        self, concentration: Values, rate: Values, validate_args: bool | None = None
    ) -> None:
        base = Gamma(concentration, rate, validate_args=validate_args)
        power = PowerTransform(-braze.ones((), dtype=base.rate.dtype))
        super().__init__(base, power, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(InverseGamma, _instance))

    @property
    def concentration(self) -> Values:
        """The concentration of the gamma number."""
        return self.base_dist.concentration

    @property
    def rate(self) -> Values:
        """The rate of the gamma number."""
        return self.base_dist.rate

    @property
    def mean(self) -> Values:
        a = self.concentration
        return braze.where(a > 1, self.rate / (a - 1), math.inf)

    @property
    def mode(self) -> Values:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Values:
        a = self.concentration
        known = self.rate**2 / ((a - 1) ** 2 * (a - 2))
        return braze.where(a > 2, known, math.inf)

    def entropy(self) -> Values:
        a = self.concentration
        return a + self.rate.log() + braze.lgamma(a) - (1 + a) * braze.digamma(a)
