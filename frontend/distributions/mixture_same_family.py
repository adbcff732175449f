"""Mixtures of distributions of one kind."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.categorical import Categorical
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values


class MixtureSameFamily(Distribution):
    """One of the distributions along the last batch dimension of `component_distribution`, as
    `mixture_distribution` chooses.

    Raises:
        ValueError: the mixture is no `Categorical`, the components are no distribution, or their
            batch shapes do not fit.
    """

    arg_constraints: Any = {}

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(
                "The Mixture distribution needs to be an instance of "
                "braze.distributions.Categorical"
            )
        if not isinstance(component_distribution, Distribution):
            raise ValueError(
                "The Component distribution need to be an instance of "
                "braze.distributions.Distribution"
            )
        self.mixture_distribution = mixture_distribution
        self.component_distribution: Any = component_distribution
        mixed, batch = mixture_distribution.batch_shape, component_distribution.batch_shape[:-1]
        for one, two in zip(reversed(mixed), reversed(batch), strict=False):
            if one != 1 and two != 1 and one != two:
                raise ValueError(
                    f"`mixture_distribution.batch_shape` ({mixed}) is not compatible with "
                    f"`component_distribution.batch_shape` ({batch})"
                )
        parts, count = mixture_distribution._num_events, component_distribution.batch_shape[-1]
        if parts != count:
            raise ValueError(f"{parts} weights for {count} components")
        super().__init__(batch, component_distribution.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(MixtureSameFamily, batch_shape, _instance)
        count = self.component_distribution.batch_shape[-1]
        new.component_distribution = self.component_distribution.expand((*new.batch_shape, count))
        new.mixture_distribution = self.mixture_distribution.expand(batch_shape)
        return new

    @constraints.dependent_property
    def support(self) -> Any:  # type: ignore[override]
        return self.component_distribution.support

    @property
    def _event_ndims(self) -> int:
        return len(self._event_shape)

    def _weighted(self, values: Values) -> Values:
        """The mean of what the components have, by their weights."""
        weights = self.mixture_distribution.probs
        weights = weights.reshape(tuple(weights.shape) + (1,) * self._event_ndims)
        return (weights * values).sum(-1 - self._event_ndims)

    @property
    def mean(self) -> Values:
        return self._weighted(self.component_distribution.mean)

    @property
    def variance(self) -> Values:
        means = self.component_distribution.mean
        away = means - self._padded(self._weighted(means))
        return self._weighted(self.component_distribution.variance + away**2)

    def _padded(self, x: Values) -> Values:
        return x.unsqueeze(-1 - self._event_ndims)

    def cdf(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        found = self.component_distribution.cdf(self._padded(value))
        return (found * self.mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        found = self.component_distribution.log_prob(self._padded(value))
        weights = braze.log_softmax(self.mixture_distribution.logits, -1)
        return (found + weights).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Values:
        with braze.no_grad():
            chosen = self.mixture_distribution.sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            place = len(tuple(sample_shape)) + len(self.batch_shape)
            index = chosen.reshape(tuple(chosen.shape) + (1,) * (self._event_ndims + 1))
            index = index.expand((*chosen.shape, 1, *self._event_shape))
            return drawn.gather(place, index).squeeze(place)

    def __repr__(self) -> str:
        one, two = self.mixture_distribution, self.component_distribution
        return f"MixtureSameFamily(\n  {one},\n  {two})"
