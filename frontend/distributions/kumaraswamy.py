"""The Kumaraswamy distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AffineTransform, PowerTransform
from braze.distributions.uniform import Uniform
from braze.distributions.utils import Values, broadcast_all, euler_constant


class Kumaraswamy(TransformedDistribution):
    """The distribution function 1 - (1 - x ** concentration1) ** concentration0 on [0, 1]."""

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, concentration1: Values, concentration0: Values, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        zero = braze.zeros_like(self.concentration0)
        transforms = [
            PowerTransform(exponent=self.concentration0.reciprocal()),
            AffineTransform(loc=1.0, scale=-1.0),
            PowerTransform(exponent=self.concentration1.reciprocal()),
        ]
        base = Uniform(zero, zero + 1, validate_args=False)
        super().__init__(base, transforms, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Kumaraswamy, _instance)
        new.concentration1 = self.concentration1.expand(batch_shape)
        new.concentration0 = self.concentration0.expand(batch_shape)
        return super().expand(batch_shape, new)

    def _moment(self, n: int) -> Values:
        a, b = self.concentration1, self.concentration0
        share = 1 + n / a
        return (braze.lgamma(share) + braze.lgamma(b) - braze.lgamma(share + b)).exp() * b

    @property
    def mean(self) -> Values:
        return self._moment(1)

    @property
    def mode(self) -> Values:
        a, b = self.concentration1, self.concentration0
        inverse = a.reciprocal()
        mode = (((a - 1) / (a * b - 1)).log() * inverse).exp()
        return braze.where((a < 1) | (b < 1), float("nan"), mode)

    @property
    def variance(self) -> Values:
        return self._moment(2) - self.mean**2

    def entropy(self) -> Values:
        a, b = self.concentration1, self.concentration0
        harmonic = braze.digamma(b + 1) + euler_constant
        return (1 - b.reciprocal()) + (1 - a.reciprocal()) * harmonic - a.log() - b.log()
