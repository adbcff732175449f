"""Factorisations, systems, determinants and norms against NumPy, in both tiers."""

import numpy as np
import pytest

import braze
from braze import linalg
from braze.ir.errors import DTypeError, ShapeError


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def matrices(*shape, seed=0):
    """Random, with a dominant diagonal."""
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, shape) + 2 * np.eye(*shape[-2:]) * np.sqrt(shape[-1])


def t(array):
    return braze.from_numpy(np.array(array))


def swap(x):
    return np.swapaxes(x, -1, -2)


def close(found, wanted, **tolerance):
    wanted = np.asarray(wanted)
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.detach().numpy(), wanted, **{"atol": 1e-10, **tolerance})


BATCHES = [(), (2, 3), (0,)]


@pytest.mark.parametrize("batch", BATCHES)
def test_factorisations_by_both_names(batch):
    x = matrices(*batch, 4, 3)
    square = matrices(*batch, 3, 3)
    spd = square @ swap(square)
    symmetric = square + swap(square)
    lower = np.linalg.cholesky(spd)
    close(braze.cholesky(t(spd)), lower)
    close(braze.cholesky(t(spd), upper=True), swap(lower))
    close(t(spd).potrf(), swap(lower))
    close(linalg.cholesky(t(np.tril(spd))), lower)
    close(linalg.cholesky(t(np.triu(spd)), upper=True), swap(lower))
    for found, mode in ((braze.qr(t(x)), "reduced"), (braze.qr(t(x), False), "complete")):
        wanted = np.linalg.qr(x, mode)
        for parts in (found, linalg.qr(t(x), mode)):
            close(parts.Q, wanted[0])
            close(parts.R, wanted[1])
    close(linalg.qr(t(x), "r").R, np.linalg.qr(x).R)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    for name, array in {"U": u, "S": s, "V": swap(vh)}.items():
        close(getattr(t(x).svd(), name), array)
    close(linalg.svd(t(x), full_matrices=False).Vh, vh)
    close(linalg.svd(t(x)).U, np.linalg.svd(x)[0])
    close(braze.svd(t(x), some=False).U, np.linalg.svd(x)[0])
    close(linalg.svdvals(t(x)), s)
    assert not braze.svd(t(x), compute_uv=False).U.numpy().any()
    values, vectors = np.linalg.eigh(symmetric)
    for found in (
        braze.symeig(t(np.triu(symmetric)), True),
        braze.symeig(t(np.tril(symmetric)), True, upper=False),
        linalg.eigh(t(np.tril(symmetric))),
        linalg.eigh(t(np.triu(symmetric)), "U"),
    ):
        close(found.eigenvalues, values)
        close(abs(found.eigenvectors), abs(vectors))
    assert braze.symeig(t(symmetric)).eigenvectors.numel() == 0
    close(linalg.eigvalsh(t(symmetric)), values)


@pytest.mark.parametrize("batch", BATCHES)
def test_eigenvalues_of_any_matrix(batch):
    x = np.random.default_rng(3).standard_normal((*batch, 4, 4))
    values, vectors = linalg.eig(t(x))
    w, v = values.numpy(), vectors.numpy()
    assert values.dtype is vectors.dtype is braze.complex128
    np.testing.assert_allclose(x @ v, v * w[..., None, :], atol=1e-10)
    packed = braze.eig(t(x), eigenvectors=True).eigenvectors.numpy()
    for place in np.ndindex(*batch):
        for j in range(4):
            if w[place][j].imag > 0:  # columns j and j + 1: real and imaginary part
                vector = packed[place][:, j] + 1j * packed[place][:, j + 1]
            elif w[place][j].imag == 0:
                vector = packed[place][:, j]
            else:
                continue
            np.testing.assert_allclose(x[place] @ vector, w[place][j] * vector, atol=1e-10)
    close(linalg.eigvals(t(x)), w)
    close(braze.eig(t(x)).eigenvalues, np.stack([w.real, w.imag], -1))
    assert braze.eig(t(x)).eigenvectors.numel() == 0


@pytest.mark.parametrize("batch", BATCHES)
def test_systems_by_both_names(batch):
    a, b = matrices(*batch, 3, 3), matrices(*batch, 3, 2, seed=1)
    x = np.linalg.solve(a, b)
    inverse = np.linalg.inv(a)
    close(braze.inverse(t(a)), inverse)
    close(linalg.inv(t(a)), inverse)
    close(braze.solve(t(b), t(a)).solution, x)
    found = t(b).gesv(t(a))
    close(found.solution, x)
    close(found.LU, braze.lu(t(a)).LU.numpy())
    close(linalg.solve(t(a), t(b)), x)
    close(linalg.solve(t(a), t(swap(b)), left=False), swap(b) @ inverse)
    close(linalg.solve(t(a), t(b[..., 0])), x[..., 0])
    for upper in (False, True):
        triangle = np.triu(a) if upper else np.tril(a)
        ones = triangle - triangle * np.eye(3) + np.eye(3)
        close(linalg.solve_triangular(t(a), t(b), upper=upper), np.linalg.solve(triangle, b))
        close(
            linalg.solve_triangular(t(a), t(swap(b)), upper=upper, left=False, unitriangular=True),
            swap(b) @ np.linalg.inv(ones),
        )
        close(braze.trtrs(t(b), t(a), upper)[0], np.linalg.solve(triangle, b))
        close(
            braze.triangular_solve(t(b), t(a), upper, transpose=True).solution,
            np.linalg.solve(swap(triangle), b),
        )
        spd = swap(triangle) @ triangle if upper else triangle @ swap(triangle)
        close(braze.cholesky_solve(t(b), t(triangle), upper), np.linalg.solve(spd, b))
        close(braze.potrs(t(b), t(triangle), upper), np.linalg.solve(spd, b))
        close(braze.cholesky_inverse(t(triangle), upper), np.linalg.inv(spd))
        close(t(triangle).potri(upper), np.linalg.inv(spd))
    lu, pivots = braze.btrifact(t(a))
    close(braze.btrisolve(t(b), lu, pivots), x)
    close(linalg.lu_solve(*linalg.lu_factor(t(a)), t(b)), x)
    close(linalg.lu_solve(lu, pivots, t(swap(b)), left=False), swap(b) @ inverse)
    for parts in (braze.btriunpack(lu, pivots), linalg.lu(t(a))):
        p, low, up = (part.numpy() for part in parts)
        np.testing.assert_allclose(p @ low @ up, a, atol=1e-12)


def test_batches_of_systems_broadcast():
    a, b = matrices(3, 3), matrices(5, 3, 2)
    close(linalg.solve(t(a), t(b)), np.linalg.solve(a, b))
    close(linalg.solve_triangular(t(a), t(b), upper=True), np.linalg.solve(np.triu(a), b))
    close(braze.lu_solve(t(b), *braze.lu(t(a))), np.linalg.solve(a, b))
    with pytest.raises(ShapeError, match=r"\[solve\] batches do not broadcast"):
        linalg.solve(t(matrices(2, 3, 3)), t(b))


def test_vectors_of_btrisolve():
    a, b = matrices(4, 3, 3), np.ones((4, 3))
    close(braze.btrisolve(t(b), *braze.btrifact(t(a))), np.linalg.solve(a, b[..., None])[..., 0])


def test_lu_tells_zero_pivots():
    a = np.stack([np.eye(3), np.diag([1.0, 0, 2]), np.diag([1.0, 1, 0])])
    _, _, info = braze.btrifact_with_info(t(a))
    assert info.dtype is braze.int32 and info.tolist() == [0, 2, 3]
    with pytest.raises(RuntimeError, match="without pivoting is not supported"):
        braze.btrifact(t(a), pivot=False)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 3), (0, 4, 3)])
def test_least_squares(shape):
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal(shape), generator.standard_normal((*shape[:-1], 2))
    x = np.linalg.pinv(a) @ b
    m, n = shape[-2:]
    for driver in (None, "gels", "gelsy", "gelsd", "gelss"):
        found = linalg.lstsq(t(a), t(b), driver=driver)
        close(found.solution, x)
        if driver in ("gelsd", "gelss"):
            close(found.singular_values, np.linalg.svd(a, compute_uv=False))
        else:
            assert found.singular_values.shape == (0,)
        assert found.rank.shape == ((0,) if driver == "gels" else shape[:-2])
        assert (found.rank.numpy() == min(m, n)).all()
        if m > n and driver not in (None, "gelsy"):
            close(found.residuals, ((a @ x - b) ** 2).sum(-2))
        else:
            assert found.residuals.shape == (0,)
    with pytest.raises(RuntimeError, match="driver should be one of gels, gelsy, gelsd, gelss"):
        linalg.lstsq(t(a), t(b), driver="qr")
    old = braze.gels(t(b), t(a)).solution
    close(old[..., :n, :], x)
    if m > n:
        squares = ((a @ x - b) ** 2).sum(-2)
        close((old[..., n:, :] ** 2).sum(-2), squares)
    close(braze.pinverse(t(a)), np.linalg.pinv(a))
    close(linalg.pinv(t(a)), np.linalg.pinv(a))
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    reduced = np.where(s > 1.5, 1 / s, 0)
    close(linalg.pinv(t(a), atol=1.5), swap(vh) * reduced[..., None, :] @ swap(u))


def test_hermitian_matrices_are_read_below_the_diagonal():
    a = matrices(2, 3, 3)
    a[0, 2] = a[0, 1] = 0.0  # the symmetric one is singular
    a[0, 2, 2] = 0.0
    symmetric = np.tril(a) + swap(np.tril(a, -1))
    close(linalg.pinv(t(a), hermitian=True), np.linalg.pinv(symmetric), rtol=1e-9)
    close(linalg.pinv(t(a), atol=2.5, hermitian=True), np.linalg.pinv(
        symmetric, rcond=2.5 / np.abs(np.linalg.eigvalsh(symmetric)).max(-1)
    ), rtol=1e-9)  # fmt: skip
    assert linalg.matrix_rank(t(a), hermitian=True).tolist() == [1, 3]
    assert braze.matrix_rank(t(a), symmetric=True).tolist() == [1, 3]


def test_ranks_and_condition_numbers():
    a = np.diag([3.0, 2.0, 1e-9])
    assert braze.matrix_rank(t(a)).item() == 3
    assert braze.matrix_rank(t(a), tol=1e-6).item() == 2
    assert linalg.matrix_rank(t(a), atol=1e-6).item() == 2
    assert linalg.matrix_rank(t(a), rtol=0.9).item() == 1
    assert linalg.matrix_rank(t(np.zeros((2, 0, 3)))).tolist() == [0, 0]
    b = matrices(2, 3, 3)
    for p in (None, 2, -2, 1, -1, np.inf, -np.inf, "fro", "nuc"):
        close(linalg.cond(t(b), p), [np.linalg.cond(m, p) for m in b], rtol=1e-8)


@pytest.mark.parametrize("batch", BATCHES)
def test_determinants(batch):
    a = np.random.default_rng(2).standard_normal((*batch, 3, 3))
    sign, logarithm = np.linalg.slogdet(a)
    close(braze.det(t(a)), np.linalg.det(a))
    close(t(a).slogdet().sign, sign)
    close(linalg.slogdet(t(a)).logabsdet, logarithm)
    with np.errstate(all="ignore"):
        close(braze.logdet(t(a)), np.log(np.linalg.det(a)))
    assert braze.logdet(t(np.zeros((2, 2)))).item() == -np.inf


def test_householder_reflectors():
    a = np.random.default_rng(0).standard_normal((5, 3))
    reflectors, tau = braze.geqrf(t(a))
    q, r = np.linalg.qr(a, "complete")
    close(braze.orgqr(reflectors, tau), q[:, :3])
    close(linalg.householder_product(reflectors, tau), q[:, :3])
    close(reflectors.ormqr(tau, t(a), transpose=True), r, atol=1e-10)


ORDERS = [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


@pytest.mark.parametrize("order", ORDERS)
def test_norms(order):
    a = np.random.default_rng(0).standard_normal((2, 3))
    b = np.random.default_rng(1).standard_normal((3, 2, 4))
    close(linalg.norm(t(a), order), np.linalg.norm(a, order))
    if order is not None:
        wanted = np.linalg.norm(b, order, (0, 2), keepdims=True)
        close(linalg.matrix_norm(t(b), order, dim=(0, 2), keepdim=True), wanted)
        close(linalg.norm(t(b), order, dim=(0, 2)), wanted[0, :, 0])
    if order is None or not isinstance(order, str):
        close(linalg.norm(t(b), order, dim=1), np.linalg.norm(b, order, 1))
        close(linalg.vector_norm(t(b), 2 if order is None else order),
              np.linalg.norm(b.reshape(-1), order))


def test_norms_of_the_top_level():
    a = np.random.default_rng(0).standard_normal((2, 3))
    close(braze.nuclear_norm(t(a)), np.linalg.norm(a, "nuc"))
    close(braze.nuclear_norm(t(a), keepdim=True), [[np.linalg.norm(a, "nuc")]])
    close(braze.frobenius_norm(t(a)), np.linalg.norm(a))
    close(braze.frobenius_norm(t(a), 1, True), np.linalg.norm(a, axis=1, keepdims=True))


def test_tensor_systems():
    a = np.random.default_rng(0).standard_normal((2, 3, 6))
    b = np.random.default_rng(1).standard_normal((2, 3))
    close(linalg.tensorsolve(t(a), t(b)), np.linalg.tensorsolve(a, b))
    close(linalg.tensorinv(t(a)), np.linalg.tensorinv(a, 2))


GRADIENTS = {
    "cholesky": (lambda x: braze.cholesky(x @ x.mT), lambda x: np.linalg.cholesky(x @ swap(x))),
    "upper cholesky": (
        lambda x: linalg.cholesky(x @ x.mT, upper=True),
        lambda x: swap(np.linalg.cholesky(x @ swap(x))),
    ),
    "eigvalsh": (
        lambda x: linalg.eigvalsh(x + x.mT), lambda x: np.linalg.eigvalsh(x + swap(x))),
    "svdvals": (linalg.svdvals, lambda x: np.linalg.svd(x, compute_uv=False)),
    "full svd": (lambda x: linalg.svd(x[..., :2]).S,
                 lambda x: np.linalg.svd(x[..., :2], compute_uv=False)),
    "nuclear norm": (lambda x: linalg.norm(x, "nuc"), lambda x: np.linalg.norm(x, "nuc")),
    "inverse": (braze.inverse, np.linalg.inv),
    "det": (braze.det, np.linalg.det),
    "slogdet": (lambda x: braze.slogdet(x).logabsdet, lambda x: np.linalg.slogdet(x)[1]),
    "logdet": (lambda x: braze.logdet(x @ x.mT), lambda x: np.log(np.linalg.det(x @ swap(x)))),
    "solve": (lambda x: linalg.solve(x, x @ x), lambda x: x),
    "lu_solve": (lambda x: braze.lu_solve(x @ x, *braze.lu(x)), lambda x: x),
    "lu": (lambda x: linalg.lu(x).L, None),
    "cholesky_solve": (
        lambda x: braze.cholesky_solve(x, braze.cholesky(x @ x.mT)),
        lambda x: np.linalg.inv(swap(x)),
    ),
    "pinv": (lambda x: linalg.pinv(x[..., :2]), lambda x: np.linalg.pinv(x[..., :2])),
    "lstsq": (
        lambda x: linalg.lstsq(x[..., :2], x[..., 2:]).solution,
        lambda x: np.linalg.pinv(x[..., :2]) @ x[..., 2:],
    ),
    "qr": (lambda x: braze.qr(x).Q, lambda x: np.linalg.qr(x)[0]),
    "cond": (linalg.cond, np.linalg.cond),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    function, reference = GRADIENTS[name]
    given = matrices(3, 3) * [1, 1.5, 2]

    def wanted(x):
        return reference(x) if reference else function(t(x)).numpy()

    x = t(given).requires_grad_()
    out = function(x)
    close(out, wanted(given))
    weight = np.random.default_rng(1).standard_normal(tuple(out.shape))
    (out * t(weight)).sum().backward()
    direction = np.random.default_rng(5).standard_normal(given.shape)
    step = 1e-6
    sides = [np.sum(wanted(given + sign * step * direction) * weight) for sign in (1, -1)]
    found = np.sum(x.grad.numpy() * direction)
    np.testing.assert_allclose(found, (sides[0] - sides[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_double_backward():
    x = t(matrices(3, 3)).requires_grad_()
    (first,) = braze.autograd.grad(braze.inverse(x).sum(), x, create_graph=True)
    (second,) = braze.autograd.grad((first * first).sum(), x)
    step, given = 1e-6, x.detach().numpy()
    direction = np.random.default_rng(5).standard_normal((3, 3))

    def squares(a):
        i = np.linalg.inv(a)
        return np.sum((swap(i) @ np.ones((3, 3)) @ swap(i)) ** 2)

    sides = [squares(given + sign * step * direction) for sign in (1, -1)]
    np.testing.assert_allclose(
        np.sum(second.numpy() * direction), (sides[0] - sides[1]) / (2 * step), rtol=1e-5
    )


def test_errors_at_the_call():
    x = braze.ones(2, 3)
    for function, message in (
        (braze.inverse, r"\[inverse\] needs square matrices"),
        (braze.det, r"\[det\] needs square matrices"),
        (lambda x: linalg.solve(x, x), r"\[solve\] needs square matrices"),
        (lambda x: linalg.solve(braze.eye(2), braze.ones(3, 1)), r"\[solve\] matrix f32\[2,2"),
        (lambda x: braze.svd(x[0]), r"\[svd\] needs a tensor of at least 2 dimensions"),
        (lambda x: linalg.matrix_norm(x[0]), r"\[matrix_norm\] needs two dimensions"),
    ):
        with pytest.raises(ShapeError, match=message):
            function(x)
    with pytest.raises(DTypeError, match=r"\[inverse\] needs float32, .*complex.*, given i64"):
        braze.inverse(braze.tensor([[1]]))
    with pytest.raises(ValueError, match="unrecognized mode"):
        linalg.qr(x, "wide")
    with pytest.raises(ValueError, match="Expected UPLO"):
        linalg.eigh(x, "X")
    with pytest.raises(RuntimeError, match="Order 3 not supported"):
        linalg.matrix_norm(x, 3)
