"""The binomial distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.odds import Odds
from braze.distributions.utils import Values


def _clamp_by_zero(x: Values) -> Values:
    """max(x, 0) with a gradient of 1/2 at 0."""
    return (x.clamp(min=0) + x - x.clamp(max=0)) / 2


class Binomial(Odds, Distribution):
    """How many of `total_count` trials succeed.

    Raises:
        ValueError: both or none of `probs` and `logits` are given.
    """

    arg_constraints = {
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    has_enumerate_support = True

    def __init__(
        self,
        total_count: Values = 1,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        (total_count,) = self._keep_odds(probs, logits, total_count)
        self.total_count = total_count.to(self._param.dtype)
        super().__init__(self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Binomial, batch_shape, _instance, "total_count probs logits _param")

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Values:
        return self.total_count * self.probs

    @property
    def mode(self) -> Values:
        return ((self.total_count + 1) * self.probs).floor().minimum(self.total_count)

    @property
    def variance(self) -> Values:
        return self.total_count * self.probs * (1 - self.probs)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    def sample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        with braze.no_grad():
            return braze.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        ways = (
            braze.lgamma(self.total_count + 1)
            - braze.lgamma(value + 1)
            - braze.lgamma(self.total_count - value + 1)
        )
        # total_count * log(1 + e^logits), without overflow
        tail = (-self.logits.abs()).exp().log1p()
        normalizer = self.total_count * (_clamp_by_zero(self.logits) + tail)
        return value * self.logits - normalizer + ways

    def entropy(self) -> Values:
        weights = self.log_prob(self.enumerate_support(expand=False))
        return -(weights.exp() * weights).sum(0)

    def enumerate_support(self, expand: bool = True) -> Values:
        """0 to total_count, along a new first dimension; `expand` repeats them over the batch.

        Raises:
            NotImplementedError: the counts differ.
        """
        count = int(self.total_count.max())
        if not bool(self.total_count.min() == count):
            raise NotImplementedError(
                "Inhomogeneous total count not supported by `enumerate_support`."
            )
        values = braze.arange(1 + count, dtype=self._param.dtype)
        values = values.reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values
