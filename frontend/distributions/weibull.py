"""The Weibull distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exponential import Exponential
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AffineTransform, PowerTransform
from braze.distributions.utils import Values, broadcast_all, euler_constant


class Weibull(TransformedDistribution):
    """scale * e ** (1 / concentration) for an exponential number e."""

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive

    def __init__(
        self, scale: Values, concentration: Values, validate_args: bool | None = None
    ) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        self.concentration_reciprocal = self.concentration.reciprocal()
        base = Exponential(braze.ones_like(self.scale), validate_args=validate_args)
        transforms = [
            PowerTransform(exponent=self.concentration_reciprocal),
            AffineTransform(loc=0, scale=self.scale),
        ]
        super().__init__(base, transforms, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Weibull, _instance)
        for name in ("scale", "concentration", "concentration_reciprocal"):
            setattr(new, name, getattr(self, name).expand(batch_shape))
        base = self.base_dist.expand(batch_shape)
        transforms = [
            PowerTransform(exponent=new.concentration_reciprocal),
            AffineTransform(loc=0, scale=new.scale),
        ]
        super(Weibull, new).__init__(base, transforms, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Values:
        return self.scale * braze.lgamma(1 + self.concentration_reciprocal).exp()

    @property
    def mode(self) -> Values:
        k, inverse = self.concentration, self.concentration_reciprocal
        return self.scale * ((k - 1) / k) ** inverse

    @property
    def variance(self) -> Values:
        inverse = self.concentration_reciprocal
        second = braze.lgamma(1 + 2 * inverse).exp()
        return self.scale**2 * (second - (2 * braze.lgamma(1 + inverse)).exp())

    def entropy(self) -> Values:
        inverse = self.concentration_reciprocal
        return euler_constant * (1 - inverse) + (self.scale * inverse).log() + 1
