"""The log-normal distribution."""

from __future__ import annotations

from typing import Any

from braze.distributions import constraints
from braze.distributions.normal import Normal
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import ExpTransform
from braze.distributions.utils import Values


class LogNormal(TransformedDistribution):
    """exp of a normal number of mean `loc` and standard deviation `scale`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(LogNormal, _instance))

    @property
    def loc(self) -> Values:
        """The mean of the logarithm."""
        return self.base_dist.loc

    @property
    def scale(self) -> Values:
        """The standard deviation of the logarithm."""
        return self.base_dist.scale

    @property
    def mean(self) -> Values:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Values:
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Values:
        squared = self.scale**2
        return squared.expm1() * (2 * self.loc + squared).exp()

    def entropy(self) -> Values:
        return self.base_dist.entropy() + self.loc
