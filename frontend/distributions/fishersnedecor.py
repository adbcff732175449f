"""The Fisher-Snedecor distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.gamma import Gamma
from braze.distributions.utils import Values, broadcast_all


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared numbers, each over its degrees of freedom."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Values, df2: Values, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2)
        super().__init__(self.df1.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(FisherSnedecor, batch_shape, _instance, "df1 df2")
        new._gamma1 = self._gamma1.expand(batch_shape)
        new._gamma2 = self._gamma2.expand(batch_shape)
        return new

    @property
    def mean(self) -> Values:
        return braze.where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan)

    @property
    def mode(self) -> Values:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return braze.where(self.df1 > 2, mode, math.nan)

    @property
    def variance(self) -> Values:
        a, b = self.df1, self.df2
        known = 2 * b**2 * (a + b - 2) / (a * (b - 2) ** 2 * (b - 4))
        return braze.where(b > 4, known, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Values:
        over, under = self._gamma1.rsample(sample_shape), self._gamma2.rsample(sample_shape)
        tiny = braze.finfo(under.dtype).tiny
        return (over / under.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.df1 * 0.5, self.df2 * 0.5
        ratio = self.df1 / self.df2
        t1 = braze.lgamma(a + b) - braze.lgamma(a) - braze.lgamma(b)
        t2 = a * ratio.log() + (a - 1) * value.log()
        return t1 + t2 - (a + b) * (ratio * value).log1p()
