"""Student's t-distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.chi2 import Chi2
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values, broadcast_all, standard_normal


class StudentT(Distribution):
    """Student's t-distribution of `df` degrees of freedom, moved by `loc` and scaled."""

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        df: Values,
        loc: Values = 0.0,
        scale: Values = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df)
        super().__init__(self.df.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(StudentT, batch_shape, _instance, "df loc scale")
        new._chi2 = self._chi2.expand(batch_shape)
        return new

    @property
    def mean(self) -> Values:
        return braze.where(self.df <= 1, math.nan, self.loc)

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def variance(self) -> Values:
        df = self.df
        known = self.scale**2 * df / braze.where(df > 2, df - 2, 1.0)
        result = braze.where(df > 2, known, math.inf)
        return braze.where(df <= 1, math.nan, result)

    def rsample(self, sample_shape: Any = ()) -> Values:
        x = standard_normal(self._extended_shape(sample_shape), self.df.dtype)
        return self.loc + self.scale * (x * (self._chi2.rsample(sample_shape) / self.df).rsqrt())

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        y, df = (value - self.loc) / self.scale, self.df
        z = (
            self.scale.log()
            + 0.5 * df.log()
            + 0.5 * math.log(math.pi)
            + braze.lgamma(0.5 * df)
            - braze.lgamma(0.5 * (df + 1.0))
        )
        return -0.5 * (df + 1.0) * (y**2.0 / df).log1p() - z

    def entropy(self) -> Values:
        df = self.df
        half = braze.lgamma(0.5 * df) + math.lgamma(0.5) - braze.lgamma(0.5 * (1 + df))
        slope = 0.5 * (df + 1) * (braze.digamma(0.5 * (df + 1)) - braze.digamma(0.5 * df))
        return self.scale.log() + slope + 0.5 * df.log() + half
