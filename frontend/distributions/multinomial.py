"""The multinomial distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.binomial import Binomial
from braze.distributions.categorical import Categorical, OverClasses
from braze.distributions.utils import Values, broadcast_all, size


class Multinomial(OverClasses):
    """How often each class comes up in `total_count` trials.

    Raises:
        NotImplementedError: the count is no int.
    """

    def __init__(
        self,
        total_count: int = 1,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        self._binomial = Binomial(total_count, self.probs)
        shape = self._categorical.param_shape
        super().__init__(self._categorical.batch_shape, shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(Multinomial, batch_shape, _instance)
        new.total_count = self.total_count
        new._binomial = self._binomial.expand(new.batch_shape + self.event_shape)
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Values:
        return self.probs * self.total_count

    @property
    def variance(self) -> Values:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Values:
        shape = size(sample_shape)
        drawn = self._categorical.sample((self.total_count, *shape))
        count = self._categorical._num_events
        return braze.nn.functional.one_hot(drawn, count).sum(0).to(self.probs.dtype)

    def entropy(self) -> Values:
        n = braze.tensor(float(self.total_count), dtype=self.probs.dtype)
        values = self._binomial.enumerate_support(expand=False)[1:]
        weights = self._binomial.log_prob(values).exp()
        terms = (weights * braze.lgamma(values + 1)).sum((0, -1))
        return n * self._categorical.entropy() - braze.lgamma(n + 1) + terms

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        ways = braze.lgamma(value.sum(-1) + 1) - braze.lgamma(value + 1).sum(-1)
        logits = braze.where((value == 0) & (logits == -float("inf")), 0.0, logits)
        return ways + (logits * value).sum(-1)
