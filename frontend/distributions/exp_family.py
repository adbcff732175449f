"""Exponential families: densities h(x) exp(<t(x), natural parameters> - F(natural parameters))."""

from __future__ import annotations

from typing import Any

import braze
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values


class ExponentialFamily(Distribution):
    """A distribution whose entropy follows from its log-normaliser (F. Nielsen and R. Nock,
    "Entropies and cross-entropies of exponential families", 2010)."""

    _mean_carrier_measure: Any = None

    @property
    def _natural_params(self) -> tuple[Values, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Values) -> Values:
        raise NotImplementedError

    def entropy(self) -> Values:
        """F - <natural parameters, gradient of F> - E[log h]."""
        if self._mean_carrier_measure is None:
            raise NotImplementedError(f"{type(self)} does not implement entropy")
        result = -self._mean_carrier_measure
        params = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*params)
        gradients = braze.autograd.grad(normalizer.sum(), params, create_graph=True)
        result = result + normalizer
        for param, gradient in zip(params, gradients, strict=True):
            term = param * gradient
            result = result - term.reshape((*self._batch_shape, -1)).sum(-1)
        return result
