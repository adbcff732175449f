"""The Dirichlet distribution."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.utils import Values
from braze.functions.sampling import _standard_gamma


class Dirichlet(ExponentialFamily):
    """The distribution over probabilities of classes that is conjugate to the categorical one.

    Args:
        concentration: [..., classes].

    Raises:
        ValueError: the concentration has no dimensions.
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Values, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Dirichlet, batch_shape, _instance, "concentration")

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        # Divided by their sum in f64, gamma numbers that are tiny make no nan.
        drawn = _standard_gamma(self.concentration.expand(shape)).double()
        return (drawn / drawn.sum(-1, True)).to(self.concentration.dtype)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        a = self.concentration
        terms = braze.xlogy(a - 1.0, value).sum(-1)
        return terms + braze.lgamma(a.sum(-1)) - braze.lgamma(a).sum(-1)

    @property
    def mean(self) -> Values:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Values:
        less = (self.concentration - 1).clamp(min=0.0)
        mode = less / less.sum(-1, True)
        # No concentration above 1: all weight on the largest one.
        largest = braze.nn.functional.one_hot(
            self.concentration.argmax(-1), self.concentration.shape[-1]
        )
        flat = (self.concentration < 1).all(-1, True)
        return braze.where(flat, largest.to(mode.dtype), mode)

    @property
    def variance(self) -> Values:
        total = self.concentration.sum(-1, True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))

    def entropy(self) -> Values:
        k, a = self.concentration.shape[-1], self.concentration
        total = a.sum(-1)
        inner = ((a - 1.0) * braze.digamma(a)).sum(-1)
        volume = braze.lgamma(a).sum(-1) - braze.lgamma(total)
        return volume - (k - total) * braze.digamma(total) - inner

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        return (self.concentration,)

    def _log_normalizer(self, x: Values) -> Values:  # type: ignore[override]
        return braze.lgamma(x).sum(-1) - braze.lgamma(x.sum(-1))
