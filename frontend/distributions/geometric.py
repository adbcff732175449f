"""The geometric distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.odds import Odds
from braze.distributions.utils import Values, broadcast_all, require
from braze.nn.functional import binary_cross_entropy_with_logits


class Geometric(Odds, Distribution):
    """How many trials fail before the first success: 0, 1, ...

    Raises:
        ValueError: both or none of `probs` and `logits` are given, or a probability is 0.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        self._keep_odds(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)
        if self._validate_args and probs is not None:
            text = "Expected parameter probs of distribution Geometric to be positive"
            require(constraints.positive, self.probs, text, "Geometric")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Geometric, batch_shape, _instance, "probs logits _param")

    @property
    def mean(self) -> Values:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Values:
        return braze.zeros_like(self.probs)

    @property
    def variance(self) -> Values:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        with braze.no_grad():
            u = braze.rand(shape, dtype=self.probs.dtype)
            u = u.clamp(min=braze.finfo(self.probs.dtype).tiny)
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        # 0 failures of probability 0 are no obstacle.
        probs = braze.where((probs == 1) & (value == 0), 0, probs)
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self) -> Values:
        loss = binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
        return loss / self.probs
