"""Parametrizations ready to use: orthogonal matrices, weight and spectral normalisation."""

from __future__ import annotations

from typing import Any, TypeVar

from braze.autograd.modes import no_grad
from braze.functions.complex_numbers import sgn
from braze.functions.creation import eye, zeros
from braze.functions.decompositions import geqrf, matrix_exp
from braze.functions.linalg import matmul, mv
from braze.functions.movement import cat, clone, expand, transpose, unsqueeze
from braze.functions.pointwise import UNARY, div, eq, mul, neg, where
from braze.functions.products import vdot
from braze.functions.promotion import cast
from braze.functions.rearrangement import tril
from braze.functions.reductions import sum
from braze.functions.statistics import norm_except_dim
from braze.functions.views import diagonal
from braze.ir.dtypes import bool_, i32
from braze.linalg import householder_product, qr, solve
from braze.nn.functional.activations import normalize
from braze.nn.modules.module import Module
from braze.nn.utils.parametrize import register_parametrization
from braze.nn.utils.spectral_norm import (
    as_matrix,
    check_iterations,
    output_dimension,
    unit_vector,
)
from braze.nn.utils.weight_norm import weight_of
from braze.random import randn
from braze.tensors import Tensor

AnyModule = TypeVar("AnyModule", bound=Module)


class _Orthogonal(Module):
    """[..., n, k] to a matrix with orthonormal columns (rows, if n < k).

    "matrix_exp" and "cayley" map a skew-symmetric matrix, the exponential and the Cayley transform
    (I + A/2) (I - A/2)^-1; "householder" multiplies reflections. With `use_trivialization` the
    result is multiplied by `base`, so that any orthogonal matrix can be reached and assigned
    (Lezcano-Casado, "Trivializations for gradient-based optimization on manifolds", 2019).
    """

    base: Tensor | None

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.shape[-2] < X.shape[-1]
        if wide:
            X = transpose(X, -2, -1)
        q = self._reflections(X) if self.orthogonal_map == "householder" else self._rotation(X)
        if hasattr(self, "base"):
            assert self.base is not None
            q = matmul(self.base, q)
        return transpose(q, -2, -1) if wide else q

    def _rotation(self, X: Tensor) -> Tensor:
        n, k = X.shape[-2:]
        lower = tril(X)
        if n != k:
            lower = cat([lower, zeros((*X.shape[:-1], n - k), dtype=X.dtype)], -1)
        skew = lower - lower.mH
        if self.orthogonal_map == "matrix_exp":
            q = matrix_exp(skew)
        else:
            one = eye(n, dtype=X.dtype)
            q = solve(one - skew * 0.5, one + skew * 0.5)
        return q if n == k else q[..., :k]

    def _reflections(self, X: Tensor) -> Tensor:
        below = tril(X, -1)
        tau = div(2.0, 1.0 + sum(below * below, -2))
        # The diagonal holds the signs of the columns, and is not trained.
        signs = cast(diagonal(X, 0, -2, -1), i32)
        return mul(householder_product(below, tau), unsqueeze(signs, -2))

    def right_inverse(self, Q: Tensor) -> Tensor:
        """What `forward` maps to Q; with `base`, that becomes (an orthogonal matrix near) Q."""
        if Q.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of "
                f"shape {Q.shape}."
            )
        with no_grad():
            n, k = sorted(Q.shape[-2:], reverse=True)
            wide = Q.shape[-2] < Q.shape[-1]
            tall = transpose(Q, -2, -1) if wide else Q
            if not hasattr(self, "base"):
                packed = self._packed(tall)
                return transpose(packed, -2, -1) if wide else packed
            if n != k:
                more = randn((*tall.shape[:-1], n - k), dtype=Q.dtype, device=Q.device)
                tall = cat([tall, more], -1)
            q, r = qr(tall)
            self.base = q * unsqueeze(sgn(diagonal(r, 0, -2, -1)), -2)
            # So that reflections start from the identity.
            return clone(expand(neg(eye(*Q.shape[-2:], dtype=Q.dtype, device=Q.device)), Q.shape))

    def _packed(self, tall: Tensor) -> Tensor:
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley "
                "parametrizations when use_trivialization=False."
            )
        packed, tau = geqrf(tall)
        # Reflections by nothing (tau = 0) leave a sign out.
        signs = UNARY["sign"](diagonal(packed, 0, -2, -1))
        signs = where(eq(tau, 0.0), neg(signs), signs)
        return where(eye(*tall.shape[-2:], dtype=bool_), unsqueeze(signs, -2), packed)


def orthogonal(
    module: AnyModule,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> AnyModule:
    """Let a parameter be a matrix (or a batch) with orthonormal columns, or rows if it has fewer.

    Args:
        orthogonal_map: "matrix_exp" (the default for square and complex ones), "cayley" or
            "householder" (for others).
        use_trivialization: start from the parameter as it is, made orthogonal.

    Raises:
        ValueError: there is no such tensor, it has one dimension, or the map is unknown.
    """
    weight = _tensor_of(module, name)
    if weight.ndim < 2:
        raise ValueError(
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions."
        )
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1] or weight.is_complex()
        orthogonal_map = "matrix_exp" if square else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(
            'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
            f"{orthogonal_map}"
        )
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    register_parametrization(module, name, made, unsafe=True)
    return module


def _tensor_of(module: Module, name: str) -> Tensor:
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return tensor


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_of(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths and directions."""
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """Let a parameter be `original0` (lengths) times the direction of `original1`.

    Salimans, Kingma, "Weight normalization", arXiv 1602.07868. States of modules with
    `braze.nn.utils.weight_norm` can be loaded.

    Args:
        dim: the dimension each index of which has a length of its own; None for one length.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state: Any, prefix: str, *rest: Any) -> None:
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state for key in old):
            for position, key in enumerate(old):
                state[f"{prefix}parametrizations.{name}.original{position}"] = state.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        rank = weight.ndim
        if not -rank <= dim < rank:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{rank}, {rank - 1}] but got "
                f"{dim})"
            )
        check_iterations(n_power_iterations)
        self.dim = dim % rank
        self.eps = eps
        if rank > 1:
            self.n_power_iterations = n_power_iterations
            with no_grad():
                matrix = as_matrix(weight, self.dim)
                u, v = (unit_vector(size, weight, eps) for size in matrix.shape)
                self.register_buffer("_u", u)
                self.register_buffer("_v", v)
                self._power_method(matrix, 15)

    def _power_method(self, matrix: Tensor, n_power_iterations: int) -> None:
        with no_grad():
            for _ in range(n_power_iterations):
                self._u.copy_(normalize(mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(normalize(mv(matrix.mH, self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        # The tape keeps these, so that two calls can have one backward pass.
        u, v = clone(self._u), clone(self._v)
        return div(weight, vdot(u, mv(matrix, v)))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The weight itself."""
        return value


def spectral_norm(
    module: AnyModule,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> AnyModule:
    """Let a parameter be divided by its largest singular value.

    Miyato, Kataoka, Koyama, Yoshida, arXiv 1802.05957. The singular vectors are buffers, which each
    look at the parameter in training takes `n_power_iterations` steps of the power method further.

    Args:
        eps: the least norm that is divided by.
        dim: the dimension of the rows; 0, and 1 for transposed convolutions.

    Raises:
        ValueError: there is no such tensor, or n_power_iterations is not positive.
        IndexError: there is no such dimension.
    """
    weight = _tensor_of(module, name)
    rows = output_dimension(module) if dim is None else dim
    made = _SpectralNorm(weight, n_power_iterations, rows, eps)
    register_parametrization(module, name, made)
    return module
