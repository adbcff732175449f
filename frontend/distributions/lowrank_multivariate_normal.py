"""Multivariate normal distributions of low-rank covariance."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.multivariate_normal import half_log_det, mahalanobis, triangular_solve
from braze.distributions.utils import Values, lazy_property, standard_normal


class LowRankMultivariateNormal(Distribution):
    """The normal distribution of covariance cov_factor @ cov_factor.T + diag(cov_diag).

    Uses the identity of M. A. Woodbury and the matrix determinant lemma, so that matrices of the
    rank's size are inverted only.

    Args:
        loc: [..., n]. cov_factor: [..., n, rank]. cov_diag: [..., n].

    Raises:
        ValueError: shapes do not fit.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Values,
        cov_factor: Values,
        cov_diag: Values,
        validate_args: bool | None = None,
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        event = loc.shape[-1:]
        if cov_factor.dim() < 2:
            raise ValueError(
                "cov_factor must be at least two-dimensional, with optional leading batch "
                "dimensions"
            )
        if cov_factor.shape[-2:-1] != event:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {event[0]} x m")
        if cov_diag.shape[-1:] != event:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {event}")
        try:
            batch = braze.broadcast_shapes(
                loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1]
            )
        except RuntimeError as error:
            raise ValueError(
                f"Incompatible batch shapes: loc {loc.shape}, cov_factor {cov_factor.shape}, "
                f"cov_diag {cov_diag.shape}"
            ) from error
        self.loc = loc.expand((*batch, -1))
        self.cov_factor = cov_factor.expand((*batch, -1, -1))
        self.cov_diag = cov_diag.expand((*batch, -1))
        super().__init__(batch, event, validate_args=validate_args)
        self._factor, self._diagonal = cov_factor, cov_diag

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        names = "loc cov_factor cov_diag"
        new = self._expanded(LowRankMultivariateNormal, batch_shape, _instance, names)
        new._factor, new._diagonal = self._factor, self._diagonal
        return new

    def _scaled(self) -> Values:
        """W^T D^-1."""
        return self._factor.transpose(-2, -1) / self._diagonal.unsqueeze(-2)

    @lazy_property
    def _capacitance_tril(self) -> Values:
        """The Cholesky factor of 1 + W^T D^-1 W."""
        eye = braze.eye(self._factor.shape[-1], dtype=self._factor.dtype)
        return braze.linalg.cholesky(self._scaled() @ self._factor + eye)

    @property
    def mean(self) -> Values:
        return self.loc

    @property
    def mode(self) -> Values:
        return self.loc

    @lazy_property
    def variance(self) -> Values:
        found = (self._factor**2).sum(-1) + self._diagonal
        return found.expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Values:
        """The covariance matrix."""
        n = self._event_shape[0]
        full = self._factor @ self._factor.transpose(-2, -1) + self._diagonal.diag_embed()
        return full.expand((*self._batch_shape, n, n))

    @lazy_property
    def precision_matrix(self) -> Values:
        """The inverse of the covariance matrix."""
        n = self._event_shape[0]
        a = triangular_solve(self._capacitance_tril, self._scaled())
        full = self._diagonal.reciprocal().diag_embed() - a.transpose(-2, -1) @ a
        return full.expand((*self._batch_shape, n, n))

    @lazy_property
    def scale_tril(self) -> Values:
        """The Cholesky factor of the covariance matrix."""
        return braze.linalg.cholesky(self.covariance_matrix)

    def rsample(self, sample_shape: Any = ()) -> Values:
        shape = self._extended_shape(sample_shape)
        rank = self.cov_factor.shape[-1]
        shared = standard_normal((*shape[:-1], rank), self.loc.dtype)
        own = standard_normal(shape, self.loc.dtype)
        moved = (self._factor @ shared.unsqueeze(-1)).squeeze(-1)
        return self.loc + moved + self._diagonal.sqrt() * own

    def _log_det(self) -> Values:
        return 2 * half_log_det(self._capacitance_tril) + self._diagonal.log().sum(-1)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        away = value - self.loc
        inner = (self._scaled() @ away.unsqueeze(-1)).squeeze(-1)
        far = (away**2 / self._diagonal).sum(-1) - mahalanobis(self._capacitance_tril, inner)
        constant = self._event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (constant + self._log_det() + far)

    def entropy(self) -> Values:
        constant = self._event_shape[0] * (1.0 + math.log(2 * math.pi))
        entropy = 0.5 * (constant + self._log_det())
        return entropy.expand(tuple(self._batch_shape)) if self._batch_shape else entropy
