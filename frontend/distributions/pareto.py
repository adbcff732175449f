"""The Pareto distribution."""

from __future__ import annotations

from typing import Any

from braze.distributions import constraints
from braze.distributions.exponential import Exponential
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import AffineTransform, ExpTransform
from braze.distributions.utils import Values, broadcast_all


class Pareto(TransformedDistribution):
    """The density proportional to x ** -(alpha + 1) for x from `scale` on."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale: Values, alpha: Values, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        base = Exponential(self.alpha, validate_args=validate_args)
        transforms = [ExpTransform(), AffineTransform(loc=0, scale=self.scale)]
        super().__init__(base, transforms, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Pareto, _instance)
        new.scale, new.alpha = self.scale.expand(batch_shape), self.alpha.expand(batch_shape)
        return super().expand(batch_shape, new)

    @property
    def mean(self) -> Values:
        above = self.alpha.clamp(min=1)
        return above * self.scale / (above - 1)  # infinite for alpha up to 1

    @property
    def mode(self) -> Values:
        return self.scale

    @property
    def variance(self) -> Values:
        above = self.alpha.clamp(min=2)
        return self.scale**2 * above / ((above - 1) ** 2 * (above - 2))

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.greater_than_eq(self.scale)

    def entropy(self) -> Values:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())
