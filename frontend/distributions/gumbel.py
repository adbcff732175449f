"""The Gumbel distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AffineTransform, ExpTransform
from braze.distributions.uniform import Uniform
from braze.distributions.utils import Values, broadcast_all, euler_constant


class Gumbel(TransformedDistribution):
    """The distribution of the largest of many numbers: loc - scale * log(-log(u))."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        limits = braze.finfo(self.loc.dtype)
        low = braze.full_like(self.loc, limits.tiny)
        high = braze.full_like(self.loc, 1 - limits.eps)
        transforms = [
            ExpTransform().inv,
            AffineTransform(loc=0, scale=-braze.ones_like(self.scale)),
            ExpTransform().inv,
            AffineTransform(loc=self.loc, scale=-self.scale),
        ]
        base = Uniform(low, high, validate_args=False)
        super().__init__(base, transforms, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Gumbel, _instance)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return super().expand(batch_shape, new)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        y = (self.loc - value) / self.scale
        return (y - y.exp()) - self.scale.log()

    @property
    def mean(self) -> Values:
        return self.loc + self.scale * euler_constant

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def stddev(self) -> Values:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Values:
        return self.stddev**2

    def entropy(self) -> Values:
        return self.scale.log() + (1 + euler_constant)
