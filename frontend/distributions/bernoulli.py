"""The Bernoulli distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.odds import Odds
from braze.distributions.utils import Values, broadcast_all
from braze.nn.functional import binary_cross_entropy_with_logits


class Bernoulli(Odds, ExponentialFamily):
    """1 with probability `probs`, which can be given by its logit, else 0.

    Raises:
        ValueError: both or none of `probs` and `logits` are given.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0

    def __init__(
        self,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        self._keep_odds(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Bernoulli, batch_shape, _instance, "probs logits _param")

    @property
    def mean(self) -> Values:
        return self.probs

    @property
    def mode(self) -> Values:
        mode = (self.probs >= 0.5).to(self.probs.dtype)
        return braze.where(self.probs == 0.5, float("nan"), mode)

    @property
    def variance(self) -> Values:
        return self.probs * (1 - self.probs)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def sample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        with braze.no_grad():
            return braze.bernoulli(self.probs.expand(shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Values:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Values:
        values = braze.arange(2, dtype=self._param.dtype)
        values = values.reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return (braze.logit(self.probs),)

    def _log_normalizer(self, x: Values) -> Values:  # type: ignore[override]
        return x.exp().log1p()
