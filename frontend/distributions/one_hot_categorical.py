"""The categorical distribution in one-hot vectors."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.categorical import Categorical, OverClasses
from braze.distributions.utils import Values


class OneHotCategorical(OverClasses):
    """A one-hot vector of classes; see `Categorical`."""

    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(
        self,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        shape = self._categorical.param_shape
        super().__init__(self._categorical.batch_shape, shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(OneHotCategorical, batch_shape, _instance)

    @property
    def _param(self) -> Values:
        return self._categorical._param

    @property
    def mean(self) -> Values:
        return self._categorical.probs

    @property
    def mode(self) -> Values:
        return self._one_hot(self._categorical.mode)

    @property
    def variance(self) -> Values:
        return self.probs * (1 - self.probs)

    def _one_hot(self, classes: Values) -> Values:
        count = self._categorical._num_events
        return braze.nn.functional.one_hot(classes, count).to(self.probs.dtype)

    def sample(self, sample_shape: Any = ()) -> Values:
        return self._one_hot(self._categorical.sample(sample_shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Values:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Values:
        n = self.event_shape[0]
        values = braze.eye(n, dtype=self._param.dtype)
        values = values.reshape((n,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((n, *self.batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """`OneHotCategorical` whose samples have the gradient of the probabilities (Y. Bengio et al.,
    arXiv 1308.3432)."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Values:
        samples = self.sample(sample_shape)
        probs = self._categorical.probs  # cached, with gradients
        return samples + (probs - probs.detach())
