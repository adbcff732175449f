"""The negative binomial distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.gamma import Gamma
from braze.distributions.odds import Odds
from braze.distributions.utils import Values
from braze.nn.functional import logsigmoid


class NegativeBinomial(Odds, Distribution):
    """How many trials succeed before `total_count` have failed.

    Raises:
        ValueError: both or none of `probs` and `logits` are given.
    """

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Values,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        (total_count,) = self._keep_odds(probs, logits, total_count)
        self.total_count = total_count.to(self._param.dtype)
        super().__init__(self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        names = "total_count probs logits _param"
        return self._expanded(NegativeBinomial, batch_shape, _instance, names)

    @property
    def mean(self) -> Values:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Values:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Values:
        return self.mean / braze.sigmoid(-self.logits)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def sample(self, sample_shape: Any = ()) -> Values:
        with braze.no_grad():
            rates = Gamma(self.total_count, (-self.logits).exp(), validate_args=False)
            return braze.poisson(rates.sample(sample_shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        chance = self.total_count * logsigmoid(-self.logits) + value * logsigmoid(self.logits)
        ways = (
            braze.lgamma(1.0 + value)
            + braze.lgamma(self.total_count)
            - braze.lgamma(self.total_count + value)
        )
        return chance - braze.where(self.total_count + value == 0.0, 0.0, ways)
