"""Bernoulli numbers relaxed to the unit interval."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.odds import Odds
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import SigmoidTransform
from braze.distributions.utils import Values, broadcast_all, clamp_probs


class LogitRelaxedBernoulli(Odds, Distribution):
    """The logits of `RelaxedBernoulli`, a logistic distribution.

    Raises:
        ValueError: both or none of `probs` and `logits` are given.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        temperature: Values,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        self._keep_odds(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        names = "probs logits _param"
        new = self._expanded(LogitRelaxedBernoulli, batch_shape, _instance, names)
        new.temperature = self.temperature
        return new

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(shape))
        u = clamp_probs(braze.rand(shape, dtype=probs.dtype))
        return (u.log() - (-u).log1p() + probs.log() - (-probs).log1p()) / self.temperature

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        away = logits - value * self.temperature
        (temperature,) = broadcast_all(self.temperature)
        return temperature.log() + away - 2 * away.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """Numbers in the unit interval that are the nearer to 0 and 1 the lower the temperature is (C.
    J. Maddison et al., "The Concrete distribution", 2017)."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        temperature: Values,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, SigmoidTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(RelaxedBernoulli, _instance))

    @property
    def temperature(self) -> Values:
        """The temperature."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Values:
        """The logarithm of the odds."""
        return self.base_dist.logits

    @property
    def probs(self) -> Values:
        """The probability of 1."""
        return self.base_dist.probs
