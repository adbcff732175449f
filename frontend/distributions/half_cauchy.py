"""The distribution of the size of a Cauchy number around 0."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.cauchy import Cauchy
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AbsTransform
from braze.distributions.utils import Values


class HalfCauchy(TransformedDistribution):
    """The distribution of the size of a Cauchy number around 0."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, scale: Values, validate_args: bool | None = None) -> None:
        base = Cauchy(0, scale, validate_args=False)
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(HalfCauchy, _instance))

    @property
    def scale(self) -> Values:
        """The scale of the distribution on both sides."""
        return self.base_dist.scale

    @property
    def mean(self) -> Values:
        return braze.full_like(self.scale, math.inf)

    @property
    def mode(self) -> Values:
        return braze.zeros_like(self.scale)

    @property
    def variance(self) -> Values:
        return self.base_dist.variance

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        inside = self.base_dist.log_prob(value) + math.log(2)
        return braze.where(value >= 0, inside, -math.inf)

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, value: Values) -> Values:
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Values:
        return self.base_dist.entropy() - math.log(2)
