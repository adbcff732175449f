"""The normal distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values, broadcast_all, standard_normal


class Normal(ExponentialFamily):
    """The normal distribution of mean `loc` and standard deviation `scale`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Normal, batch_shape, _instance, "loc scale")

    @property
    def mean(self) -> Values:
        return self.loc

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def stddev(self) -> Values:
        return self.scale

    @property
    def variance(self) -> Values:
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Values:
        noise = standard_normal(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc + noise * self.scale

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        far = (value - self.loc) ** 2 / (2 * self.variance)
        return -far - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return 0.5 * (1 + braze.erf((value - self.loc) * self.scale.reciprocal() / math.sqrt(2)))

    def icdf(self, value: Values) -> Values:
        return self.loc + self.scale * braze.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Values:
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return self.loc / self.scale**2, -0.5 / self.scale**2

    def _log_normalizer(self, x: Values, y: Values) -> Values:  # type: ignore[override]
        return -0.25 * x**2 / y + 0.5 * (-math.pi / y).log()
