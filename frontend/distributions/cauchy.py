"""The Cauchy distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values, broadcast_all


class Cauchy(Distribution):
    """The distribution of loc + scale * (ratio of two standard normal numbers)."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Cauchy, batch_shape, _instance, "loc scale")

    @property
    def mean(self) -> Values:
        return braze.full_like(self.loc, math.nan)

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def variance(self) -> Values:
        return braze.full_like(self.loc, math.inf)

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        u = braze.rand(shape, dtype=self.loc.dtype)
        return self.loc + (math.pi * (u - 0.5)).tan() * self.scale

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        far = ((value - self.loc) / self.scale) ** 2
        return -math.log(math.pi) - self.scale.log() - far.log1p()

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Values) -> Values:
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Values:
        return math.log(4 * math.pi) + self.scale.log()
