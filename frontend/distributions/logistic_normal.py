"""The logistic-normal distribution."""

from __future__ import annotations

from typing import Any

from braze.distributions import constraints
from braze.distributions.independent import Independent
from braze.distributions.normal import Normal
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import StickBreakingTransform
from braze.distributions.utils import Values


class LogisticNormal(TransformedDistribution):
    """Probabilities of n + 1 classes, made of n normal numbers by `StickBreakingTransform`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        base: Any = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape:
            base = base.expand([1])
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(LogisticNormal, _instance))

    @property
    def _normal(self) -> Any:
        base = self.base_dist
        return base.base_dist if isinstance(base, Independent) else base

    @property
    def loc(self) -> Values:
        """The means of the normal numbers."""
        return self._normal.loc

    @property
    def scale(self) -> Values:
        """The standard deviations of the normal numbers."""
        return self._normal.scale
