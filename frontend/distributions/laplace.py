"""The Laplace distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values, broadcast_all


class Laplace(Distribution):
    """The density exp(-|x - loc| / scale) / (2 scale)."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Values, scale: Values, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Laplace, batch_shape, _instance, "loc scale")

    @property
    def mean(self) -> Values:
        return self.loc

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def variance(self) -> Values:
        return 2 * self.scale**2

    @property
    def stddev(self) -> Values:
        return 2**0.5 * self.scale

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        eps = braze.finfo(self.loc.dtype).eps
        u = braze.rand(shape, dtype=self.loc.dtype) * (2 - eps) + (eps - 1)
        return self.loc - self.scale * u.sign() * (-u.abs()).log1p()

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        moved = value - self.loc
        return 0.5 - 0.5 * moved.sign() * braze.expm1(-moved.abs() / self.scale)

    def icdf(self, value: Values) -> Values:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Values:
        return 1 + (2 * self.scale).log()
