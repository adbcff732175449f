"""The beta distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.dirichlet import Dirichlet
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values, broadcast_all


class Beta(ExponentialFamily):
    """The density proportional to x ** (concentration1 - 1) * (1 - x) ** (concentration0 - 1)."""

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, concentration1: Values, concentration0: Values, validate_args: bool | None = None
    ) -> None:
        both = braze.stack(broadcast_all(concentration1, concentration0), -1)
        self._dirichlet = Dirichlet(both, validate_args=validate_args)
        super().__init__(self._dirichlet.batch_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(Beta, batch_shape, _instance)
        new._dirichlet = self._dirichlet.expand(batch_shape)
        return new

    @property
    def mean(self) -> Values:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Values:
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Values:
        a, b = self.concentration1, self.concentration0
        return a * b / ((a + b) ** 2 * (a + b + 1))

    def rsample(self, sample_shape: Any = ()) -> Values:
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return self._dirichlet.log_prob(braze.stack([value, 1.0 - value], -1))

    def entropy(self) -> Values:
        return self._dirichlet.entropy()

    @property
    def concentration1(self) -> Values:
        """The concentration of 1."""
        return self._dirichlet.concentration[..., 0]

    @property
    def concentration0(self) -> Values:
        """The concentration of 0."""
        return self._dirichlet.concentration[..., 1]

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return self.concentration1, self.concentration0

    def _log_normalizer(self, x: Values, y: Values) -> Values:  # type: ignore[override]
        return braze.lgamma(x) + braze.lgamma(y) - braze.lgamma(x + y)
