"""One-hot vectors relaxed to probabilities."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.categorical import Categorical, OverClasses
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import ExpTransform
from braze.distributions.utils import Values, broadcast_all, clamp_probs


class ExpRelaxedCategorical(OverClasses):
    """The logarithms of `RelaxedOneHotCategorical`."""

    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        temperature: Values,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = Categorical(probs, logits)
        (self.temperature,) = broadcast_all(temperature)
        shape = self._categorical.param_shape
        super().__init__(self._categorical.batch_shape, shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(ExpRelaxedCategorical, batch_shape, _instance)
        new.temperature = self.temperature
        return new

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        u = clamp_probs(braze.rand(shape, dtype=self.logits.dtype))
        scores = (self.logits - (-(u.log())).log()) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: Values) -> Values:
        count = self._categorical._num_events
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        scale = math.lgamma(count) + (count - 1) * self.temperature.log()
        score = logits - value * self.temperature
        return (score - score.logsumexp(-1, keepdim=True)).sum(-1) + scale


class RelaxedOneHotCategorical(TransformedDistribution):
    """Probabilities that are the nearer to one-hot vectors the lower the temperature is (E. Jang et
    al., "Categorical reparameterization with Gumbel-softmax", 2017)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.simplex
    has_rsample = True

    def __init__(
        self,
        temperature: Values,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(RelaxedOneHotCategorical, _instance)
        return super().expand(batch_shape, new)

    @property
    def temperature(self) -> Values:
        """The temperature."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Values:
        """The logarithms of the probabilities."""
        return self.base_dist.logits

    @property
    def probs(self) -> Values:
        """The probabilities."""
        return self.base_dist.probs
