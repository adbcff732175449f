"""The multivariate normal distribution."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.utils import Values, lazy_property, standard_normal


def triangular_solve(lower: Values, x: Values) -> Values:
    """lower^-1 @ x."""
    return braze.linalg.solve_triangular(lower, x, upper=False)


def half_log_det(lower: Values) -> Values:
    """Half the logarithm of the determinant of L L^T."""
    return lower.diagonal(0, -2, -1).log().sum(-1)


def mahalanobis(lower: Values, x: Values) -> Values:
    """x^T (L L^T)^-1 x of vectors in the last dimension, broadcast against a batch of L."""
    batch = braze.broadcast_shapes(lower.shape[:-2], x.shape[:-1])
    n = x.shape[-1]
    lower = lower.expand((*batch, n, n))
    solved = triangular_solve(lower, x.expand((*batch, n)).unsqueeze(-1))
    return (solved**2).sum((-2, -1))


def precision_to_lower(precision: Values) -> Values:
    """The Cholesky factor of a precision matrix's inverse."""
    turned = braze.linalg.cholesky(precision.flip(-2, -1))
    upper = turned.flip(-2, -1).transpose(-2, -1)
    eye = braze.eye(precision.shape[-1], dtype=precision.dtype).expand(precision.shape)
    return triangular_solve(upper, eye)


class MultivariateNormal(Distribution):
    """The normal distribution of vectors of mean `loc`, with one of: the covariance matrix, its
    inverse, or its Cholesky factor.

    Raises:
        ValueError: not exactly one of the three is given, or too few dimensions.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Values,
        covariance_matrix: Values = None,
        precision_matrix: Values = None,
        scale_tril: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = {
            "covariance_matrix": covariance_matrix,
            "scale_tril": scale_tril,
            "precision_matrix": precision_matrix,
        }
        given = {name: matrix for name, matrix in given.items() if matrix is not None}
        if len(given) != 1:
            raise ValueError(
                "Exactly one of covariance_matrix or precision_matrix or scale_tril may be "
                "specified."
            )
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError(
                f"{name} must be at least two-dimensional, with optional leading batch dimensions"
            )
        batch = braze.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        setattr(self, name, matrix.expand((*batch, -1, -1)))
        self.loc = loc.expand((*batch, -1))
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        if name == "scale_tril":
            self._unbroadcasted_scale_tril = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = braze.linalg.cholesky(matrix)
        else:
            self._unbroadcasted_scale_tril = precision_to_lower(matrix)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        names = "loc covariance_matrix scale_tril precision_matrix"
        new = self._expanded(MultivariateNormal, batch_shape, _instance, names)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        return new

    @lazy_property
    def scale_tril(self) -> Values:
        """The Cholesky factor of the covariance matrix."""
        n = self._event_shape[0]
        return self._unbroadcasted_scale_tril.expand((*self._batch_shape, n, n))

    @lazy_property
    def covariance_matrix(self) -> Values:
        """The covariance matrix."""
        lower, n = self._unbroadcasted_scale_tril, self._event_shape[0]
        return (lower @ lower.transpose(-2, -1)).expand((*self._batch_shape, n, n))

    @lazy_property
    def precision_matrix(self) -> Values:
        """The inverse of the covariance matrix."""
        n = self._event_shape[0]
        inverse = braze.cholesky_inverse(self._unbroadcasted_scale_tril)
        return inverse.expand((*self._batch_shape, n, n))

    @property
    def mean(self) -> Values:
        return self.loc

    @property
    def mode(self) -> Values:
        return self.loc

    @property
    def variance(self) -> Values:
        squares = (self._unbroadcasted_scale_tril**2).sum(-1)
        return squares.expand((*self._batch_shape, *self._event_shape))

    def rsample(self, sample_shape: Any = ()) -> Values:
        noise = standard_normal(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        lower = self._unbroadcasted_scale_tril
        far = mahalanobis(lower, value - self.loc)
        constant = self._event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (constant + far) - half_log_det(lower)

    def entropy(self) -> Values:
        constant = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi))
        entropy = constant + half_log_det(self._unbroadcasted_scale_tril)
        return entropy.expand(tuple(self._batch_shape)) if self._batch_shape else entropy
