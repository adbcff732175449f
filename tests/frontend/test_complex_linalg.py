"""Linear algebra on complex matrices against NumPy, in both tiers, and its gradients."""

import numpy as np
import pytest

import braze
from braze import linalg
from braze.autograd import grad, gradcheck, gradgradcheck
from braze.ir.errors import DTypeError


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def matrices(*shape, seed=0):
    """Random, with a dominant diagonal."""
    generator = np.random.default_rng(seed)
    z = generator.uniform(-1, 1, shape) + 1j * generator.uniform(-1, 1, shape)
    return z + 2 * np.eye(*shape[-2:])


def t(array):
    return braze.from_numpy(np.array(array))


def adjoint(x):
    return np.swapaxes(x, -1, -2).conj()


def swap(x):
    return np.swapaxes(x, -1, -2)


def close(found, wanted):
    wanted = np.asarray(wanted)
    assert tuple(found.shape) == wanted.shape and found.numpy().dtype == wanted.dtype
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-10)


A, B, C = matrices(3, 3), matrices(3, 2, seed=1), matrices(2, 3, 3, seed=2)
TALL, HERMITIAN, POSITIVE = matrices(4, 3), A + adjoint(A), C @ adjoint(C)

VALUES = {
    "inv": (lambda: linalg.inv(t(C)), lambda: np.linalg.inv(C)),
    "det": (lambda: linalg.det(t(C)), lambda: np.linalg.det(C)),
    "slogdet": (lambda: linalg.slogdet(t(C)), lambda: tuple(np.linalg.slogdet(C))),
    "logdet": (lambda: braze.logdet(t(A)).exp(), lambda: np.linalg.det(A)),
    "solve": (lambda: linalg.solve(t(A), t(B)), lambda: np.linalg.solve(A, B)),
    "solve right": (
        lambda: linalg.solve(t(A), t(B.T), left=False), lambda: B.T @ np.linalg.inv(A)),
    "solve triangular": (
        lambda: linalg.solve_triangular(t(A), t(B), upper=True),
        lambda: np.linalg.solve(np.triu(A), B)),
    "cholesky": (
        lambda: linalg.cholesky(t(np.tril(POSITIVE))), lambda: np.linalg.cholesky(POSITIVE)),
    "upper cholesky": (
        lambda: linalg.cholesky(t(np.triu(POSITIVE)), upper=True),
        lambda: adjoint(np.linalg.cholesky(POSITIVE))),
    "cholesky_solve": (
        lambda: braze.cholesky_solve(t(B), t(np.linalg.cholesky(POSITIVE))),
        lambda: np.linalg.inv(POSITIVE) @ B),
    "upper cholesky_solve": (
        lambda: braze.cholesky_solve(t(B), t(adjoint(np.linalg.cholesky(POSITIVE))), upper=True),
        lambda: np.linalg.inv(POSITIVE) @ B),
    "qr": (lambda: linalg.qr(t(TALL)), lambda: tuple(np.linalg.qr(TALL))),
    "svd": (
        lambda: linalg.svd(t(TALL), full_matrices=False),
        lambda: tuple(np.linalg.svd(TALL, full_matrices=False))),
    "old svd": (
        lambda: braze.svd(t(TALL)).V, lambda: adjoint(np.linalg.svd(TALL, full_matrices=False)[2])),
    "svdvals": (lambda: linalg.svdvals(t(C)), lambda: np.linalg.svd(C)[1]),
    "eigvalsh": (
        lambda: linalg.eigvalsh(t(np.tril(HERMITIAN))), lambda: np.linalg.eigvalsh(HERMITIAN)),
    "upper eigvalsh": (
        lambda: linalg.eigvalsh(t(np.triu(HERMITIAN)), "U"), lambda: np.linalg.eigvalsh(HERMITIAN)),
    "eig": (lambda: linalg.eig(t(C)), lambda: tuple(np.linalg.eig(C))),
    "eigvals": (lambda: linalg.eigvals(t(C)), lambda: np.linalg.eigvals(C)),
    "pinv": (lambda: linalg.pinv(t(TALL)), lambda: np.linalg.pinv(TALL)),
    "pinv with a limit": (
        lambda: linalg.pinv(t(np.diag([4j, 2, 0.1])), atol=1.0), lambda: np.diag([-0.25j, 0.5, 0])),
    "lstsq": (
        lambda: linalg.lstsq(t(TALL), t(matrices(4, 2))).solution,
        lambda: np.linalg.lstsq(TALL, matrices(4, 2), rcond=None)[0]),
    "residuals": (
        lambda: linalg.lstsq(t(TALL), t(matrices(4, 2, seed=7)), driver="gelsd").residuals,
        lambda: np.linalg.lstsq(TALL, matrices(4, 2, seed=7), rcond=None)[1]),
    "matrix_power": (
        lambda: linalg.matrix_power(t(A), -3), lambda: np.linalg.matrix_power(A, -3)),
    "lu": (lambda: linalg.multi_dot(linalg.lu(t(A))), lambda: A),
    "householder_product": (
        lambda: linalg.householder_product(*braze.geqrf(t(TALL))), lambda: np.linalg.qr(TALL)[0]),
    "matrix_rank": (lambda: linalg.matrix_rank(t(A[:, [0, 0, 1]])), lambda: np.array(2)),
    "vecdot": (lambda: linalg.vecdot(t(A), t(C)), lambda: (A.conj() * C).sum(-1)),
    "vdot": (lambda: braze.vdot(t(A[0]), t(A[1])), lambda: np.vdot(A[0], A[1])),
    "dot": (lambda: braze.dot(t(A[0]), t(A[1])), lambda: A[0] @ A[1]),
    "bmm": (lambda: braze.bmm(t(C), t(C)), lambda: C @ C),
    "baddbmm": (
        lambda: braze.baddbmm(t(C), t(C), t(C), beta=0.5, alpha=2j), lambda: C / 2 + 2j * C @ C),
    "addmm": (
        lambda: braze.addmm(t(B), t(A), t(B), beta=1j, alpha=1.5), lambda: 1j * B + 1.5 * A @ B),
    "einsum": (
        lambda: braze.einsum("bij,bkj,ii->bk", t(C), t(C), t(A)),
        lambda: np.einsum("bij,bkj,ii->bk", C, C, A)),
    "tensordot": (lambda: braze.tensordot(t(C), t(C), ([1, 2], [2, 1])),
                  lambda: np.tensordot(C, C, ([1, 2], [2, 1]))),
    "kron": (lambda: braze.kron(t(A), t(B)), lambda: np.kron(A, B)),
    "vander": (lambda: linalg.vander(t(A[0])), lambda: np.vander(A[0], increasing=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values(tier, name):
    found, wanted = (function() for function in VALUES[name])
    if not isinstance(wanted, tuple):
        found, wanted = (found,), (wanted,)
    for one, other in zip(found, wanted, strict=True):
        close(one, other)


@pytest.mark.parametrize("order", [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_norms(tier, order):
    close(linalg.norm(t(A), order), np.linalg.norm(A, order))
    if order not in (None, "fro", "nuc"):
        close(linalg.vector_norm(t(A), order, dim=1), np.linalg.norm(A, order, axis=1))
        close(linalg.cond(t(A), order), np.linalg.cond(A, order))


def test_eigenvectors_of_hermitian_matrices(tier):
    for found in (linalg.eigh(t(np.tril(HERMITIAN))), linalg.eigh(t(np.triu(HERMITIAN)), "U")):
        values, vectors = (x.numpy() for x in found)
        np.testing.assert_allclose(vectors * values @ adjoint(vectors), HERMITIAN, atol=1e-10)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoined", [True, False])
def test_solving_with_lu_factors(tier, left, adjoined):
    factors = linalg.lu_factor(t(A))
    inverse = np.linalg.inv(adjoint(A) if adjoined else A)
    right = B if left else B.T
    found = linalg.lu_solve(*factors, t(right), left=left, adjoint=adjoined)
    close(found, inverse @ right if left else right @ inverse)


def test_single_precision(tier):
    x = A.astype(np.complex64)
    for found, wanted in (
        (linalg.inv(t(x)), np.linalg.inv(x)),
        (linalg.svdvals(t(x)), np.linalg.svd(x)[1]),
        (linalg.eigvals(t(x.real)), np.linalg.eigvals(x.real).astype(np.complex64)),
        (linalg.eigh(t(x)).eigenvectors, np.linalg.eigh(x)[1]),
    ):
        assert found.numpy().dtype == wanted.dtype
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


# Gradients ----------------------------------------------------------------------------------------


def reduced_svd(x):
    u, s, vh = linalg.svd(x, full_matrices=False)
    return s, u.abs(), vh.abs(), u @ vh, (u * s.sqrt().unsqueeze(-2)) @ vh


def hermitian_eigen(x):
    values, vectors = linalg.eigh(x + x.mH)
    return values, vectors.abs(), (vectors * values.exp().unsqueeze(-2)) @ vectors.mH


def eigen(x):
    values, vectors = linalg.eig(x)
    return values, vectors.abs(), (vectors * values.exp().unsqueeze(-2)) @ linalg.inv(vectors)


GRADIENTS = {
    "inv": (linalg.inv, [C]),
    "det": (linalg.det, [C]),
    "slogdet": (linalg.slogdet, [A]),
    "logdet": (braze.logdet, [A]),
    "solve": (linalg.solve, [A, B]),
    "triangular": (lambda a, b: linalg.solve_triangular(a, b, upper=False), [A, B]),
    "cholesky": (lambda x: linalg.cholesky(x @ x.mH), [A]),
    "upper cholesky": (lambda x: linalg.cholesky(x @ x.mH, upper=True), [A]),
    "qr": (linalg.qr, [A]),
    "tall qr": (linalg.qr, [TALL]),
    "wide qr": (linalg.qr, [adjoint(TALL)]),
    "svd": (reduced_svd, [A]),
    "tall svd": (reduced_svd, [TALL]),
    "wide svd": (reduced_svd, [adjoint(TALL)]),
    "eigh": (hermitian_eigen, [C]),
    "eig": (eigen, [C]),
    "eig of real matrices": (eigen, [A.real + A.imag]),
    "eigvals": (linalg.eigvals, [A]),
    "pinv": (linalg.pinv, [TALL]),
    "lu": (lambda x: linalg.lu(x)[1:], [A]),
    "matrix_power": (lambda x: linalg.matrix_power(x, 3), [A]),
    "nuclear norm": (lambda x: linalg.matrix_norm(x, "nuc"), [A]),
    "norm": (linalg.norm, [A]),
    "einsum": (lambda x, y: braze.einsum("ij,bjk->bk", x, y), [A, C]),
    "vecdot": (linalg.vecdot, [A, C[0]]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    function, arrays = GRADIENTS[name]
    given = [t(x).requires_grad_() for x in arrays]
    assert gradcheck(function, given, atol=1e-4, fast_mode=arrays[0].ndim > 2)
    assert gradgradcheck(function, given, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", ["eig", "eigh", "svd"])
def test_a_loss_that_depends_on_the_phase_of_vectors(tier, name):
    x = t(A).requires_grad_()
    vectors = getattr(linalg, name)(x)[-1]
    (gradient,) = grad(vectors.imag.sum(), x)
    with pytest.raises(RuntimeError, match=rf"\[{name}\] the vectors are determined up to a"):
        gradient.numpy()


def test_the_old_eig_takes_real_matrices():
    with pytest.raises(DTypeError, match=r"\[eig\] needs a real matrix, given c128\[3,3\]; use"):
        braze.eig(t(A))
