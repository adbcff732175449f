"""What the distributions of sizes of numbers around 0 share."""

from __future__ import annotations

import math

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AbsTransform
from braze.distributions.utils import Values


class Half(TransformedDistribution):
    """The distribution of |x| for numbers x spread evenly around 0, by a scale."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, both_sides: Distribution, validate_args: bool | None) -> None:
        super().__init__(both_sides, AbsTransform(), validate_args=validate_args)

    @property
    def scale(self) -> Values:
        """The scale of the distribution on both sides."""
        return self.base_dist.scale

    @property
    def mode(self) -> Values:
        return braze.zeros_like(self.scale)

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
