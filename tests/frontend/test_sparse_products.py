"""Products of sparse matrices, sums, norms and softmax, parts and orders of sparse tensors."""

import numpy as np
import pytest
from sparse_tensors import check, drawn

import braze
from braze.ir import DTypeError, ShapeError


@pytest.fixture(autouse=True)
def tier(request):
    """Most are interpreted: their kernels are those of tests of the operations they are made of."""
    braze.sync()
    with braze.config.using(tier=getattr(request, "param", "interpret")):
        yield
        braze.sync()


both_tiers = pytest.mark.parametrize("tier", ["interpret", "compile"], indirect=True)


X, A = drawn((4, 6), nnz=9, seed=1)
Y, B = drawn((6, 3), nnz=8, seed=2)
D = np.random.default_rng(3).uniform(-1, 1, (6, 3))


def dense(array):
    return braze.tensor(array)


# Products -----------------------------------------------------------------------------------------


@both_tiers
def test_sparse_times_dense():
    for product in (braze.mm, braze.matmul, braze.sparse.mm, braze.spmm, braze.dsmm):
        found = product(X, dense(D))
        assert not found.is_sparse
        check(found, A @ D)
    check(X @ dense(D), A @ D)
    check(X.mm(dense(D)), A @ D)
    check(X.coalesce() @ dense(D), A @ D)
    check(X @ dense(D[:, 0]), A @ D[:, 0])
    check(X.mv(dense(D[:, 0])), A @ D[:, 0])
    check(braze.mv(X, dense(D[:, 0])), A @ D[:, 0])


@both_tiers
def test_dense_times_sparse():
    left = np.random.default_rng(4).uniform(size=(5, 4))
    check(dense(left) @ X, left @ A)
    check(braze.mm(dense(left), X), left @ A)
    check(braze.sparse.mm(dense(left), X), left @ A)
    check(dense(left[0]) @ X, left[0] @ A)
    stack = np.stack([left, left + 1])
    check(dense(stack) @ X, stack @ A)


@both_tiers
def test_sparse_times_sparse():
    for found in (X @ Y, braze.mm(X, Y), braze.sparse.mm(X, Y)):
        assert found.is_sparse and found.is_coalesced()
        check(found, A @ B)
    check(X @ braze.sparse_coo_tensor((6, 2), dtype=braze.float64), np.zeros((4, 2)))


@both_tiers
def test_batches():
    x, a = drawn((2, 4, 6), nnz=15, seed=5)
    y = np.random.default_rng(6).uniform(size=(2, 6, 3))
    check(braze.bmm(x, dense(y)), a @ y)
    check(x @ dense(y), a @ y)


def test_products_that_are_added():
    m = np.random.default_rng(7).uniform(size=(4, 3))
    check(braze.addmm(dense(m), X, dense(D)), m + A @ D)
    check(dense(m).addmm(X, dense(D), beta=2, alpha=3), 2 * m + 3 * (A @ D))
    check(braze.sparse.addmm(dense(m), X, dense(D), beta=0.5, alpha=-1), 0.5 * m - A @ D)
    n, c = drawn((4, 3), nnz=5, seed=8)
    for found, expected in (
        (braze.sspaddmm(n, X, dense(D), beta=2, alpha=3), 2 * c + 3 * (A @ D)),
        (braze.saddmm(n, X, dense(D)), c + A @ D),
        (n.sspaddmm(X, dense(D)), c + A @ D),
        (X.smm(dense(D)), A @ D),
        (braze.smm(X, dense(D)), A @ D),
        (braze.hspmm(X, dense(D)), A @ D),
        (braze.hsmm(X, dense(D)), A @ D),
    ):
        assert found.is_sparse
        check(found, expected)
    assert braze.hspmm(X, dense(D)).sparse_dim() == 1


def test_linear_layers_take_sparse_inputs():
    weight, bias = D[:, :2].T.copy(), np.array([1.0, 2])
    linear = braze.nn.functional.linear
    check(linear(X, dense(weight), dense(bias)), A @ weight.T + bias)
    check(linear(X, dense(weight)), A @ weight.T)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: X @ dense(D.T), ShapeError, r"inner sizes differ: f64\[4,6\] @ f64\[3,6\]"),
        (lambda: X @ X, ShapeError, r"\(6 != 4\)"),
        (lambda: dense(D) @ X, ShapeError, "inner sizes differ"),
        (lambda: X.mv(dense(D[:2, 0])), ShapeError, "inner sizes differ"),
        (lambda: X @ dense(D).float(), DTypeError, "differ in dtype"),
        (lambda: braze.hspmm(X, dense(D).float()), DTypeError, "differ in dtype"),
        (lambda: X.mm(dense(D[:, 0])), ShapeError, "expects operands with"),
        (lambda: X @ dense(np.stack([D, D])), RuntimeError, "expand is unsupported"),
        (lambda: dense(D).to_sparse(1) @ dense(D), ShapeError, "must have 2 sparse dimensions"),
        (lambda: braze.smm(dense(A), dense(D)), RuntimeError, "expected a sparse COO tensor"),
        (lambda: braze.sspaddmm(dense(A), X, dense(D)), RuntimeError, "expected a sparse COO"),
        (lambda: braze.sspaddmm(X, X, dense(D)), RuntimeError, r"expected input of shape \[4, 3\]"),
        (
            lambda: braze.sparse.addmm(X, X, dense(D)),
            RuntimeError,
            "expected 'mat1' to have sparse",
        ),
        (lambda: braze.bmm(dense(np.ones((1, 2, 4))), X.unsqueeze(0)), NotImplementedError, "only"),
        (lambda: braze.bmm(X.unsqueeze(0), dense(np.ones((2, 6, 3)))), ShapeError, "batch sizes"),
        (lambda: braze.einsum("ij,jk->ik", X, dense(D)), NotImplementedError, r"\[contract\]"),
    ],
)
def test_products_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Reductions ---------------------------------------------------------------------------------------

H, C = drawn((4, 5, 3), 2, nnz=12, seed=9)


def test_sums():
    for found in (braze.sparse.sum(H), H.sum(), braze.sum(H), H.coalesce().sum()):
        assert not found.is_sparse
        check(found, C.sum())
    for dim in (0, 1, -1, (0, 2), (1, 2)):
        found = braze.sparse.sum(H, dim)
        assert found.is_sparse and found.is_coalesced()
        check(found, C.sum(dim))
        check(H.sum(dim, keepdim=True), C.sum(dim, keepdims=True))
    for dim in ((0, 1), (0, 1, 2)):
        assert not H.sum(dim).is_sparse
        check(H.sum(dim), C.sum(dim))
        check(H.sum(dim, keepdim=True), C.sum(dim, keepdims=True))
    assert braze.sparse.sum(H, 0, dtype=braze.float32).dtype is braze.float32
    assert H.int().sum(0).dtype is braze.int64 and H.bool().sum().dtype is braze.int64
    with pytest.raises(NotImplementedError, match="expected a sparse COO tensor"):
        braze.sparse.sum(braze.ones(2), 0)


def test_norms():
    for p in (2, 1, 3, 0, float("inf"), "fro"):
        order = 2 if p == "fro" else p
        expected = np.linalg.norm(C.reshape(-1), order)
        check(H.norm(p), expected)
    check(braze.norm(H), np.linalg.norm(C.reshape(-1)))
    check(H.norm(2, (0, 1, 2), keepdim=True), np.linalg.norm(C.reshape(-1)).reshape(1, 1, 1))
    assert bool(H.any()) and not braze.sparse_coo_tensor((2, 2)).any()
    with pytest.raises(RuntimeError, match="only supports full reductions"):
        H.norm(2, 0)
    with pytest.raises(NotImplementedError, match="how many elements are zero"):
        H.norm(-1)
    with pytest.raises(NotImplementedError, match="all dimensions together"):
        H.any(0)


@both_tiers
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, 2, -2])
def test_softmax_of_the_entries(name, dim):
    x = H.coalesce()
    is_there = np.zeros(C.shape, bool)
    is_there[tuple(x.indices().numpy())] = True
    lowest = np.where(is_there, C, -np.inf)
    shifted = lowest - np.max(lowest, axis=dim, keepdims=True, where=is_there, initial=-1e30)
    powers = np.exp(shifted)
    totals = powers.sum(axis=dim, keepdims=True)
    with np.errstate(all="ignore"):
        expected = powers / totals if name == "softmax" else shifted - np.log(totals)
    found = getattr(braze.sparse, name)(H, dim)
    assert found._nnz() == x._nnz()
    check(found, np.where(is_there, expected, 0))


def test_softmax_keeps_large_numbers_in_range():
    x = braze.sparse_coo_tensor([[0, 0], [1, 2]], [1000.0, 1001.0], (2, 4))
    shares = np.exp([-1, 0]) / (1 + np.exp(-1))
    check(braze.sparse.softmax(x, 1).values(), shares, 1e-6)
    empty = braze.sparse_coo_tensor((2, 3))
    assert braze.sparse.log_softmax(empty, 0)._nnz() == 0
    whole = x.long()
    assert braze.sparse.softmax(whole, 1, dtype=braze.float64).dtype is braze.float64
    with pytest.raises(NotImplementedError, match='"softmax" not implemented for'):
        braze.sparse.softmax(whole, 1)
    with pytest.raises(IndexError):
        braze.sparse.softmax(x, 2)
    with pytest.raises(NotImplementedError, match="expected a sparse COO tensor"):
        braze.sparse.softmax(braze.ones(2), 0)


# Parts and orders ---------------------------------------------------------------------------------


@both_tiers
def test_orders():
    check(X.t(), A.T)
    check(X.T, A.T)
    check(braze.transpose(X, 0, 1), A.T)
    check(H.transpose(0, 1), C.swapaxes(0, 1))
    check(H.permute(1, 0, 2), C.transpose(1, 0, 2))
    assert X.coalesce().permute(0, 1).is_coalesced() and not X.coalesce().t().is_coalesced()
    y = X.clone()
    assert y.t_() is y
    check(y, A.T)
    check(y.transpose_(0, 1).unsqueeze_(0), A[None])
    with pytest.raises(RuntimeError, match="between sparse and dense dimensions are not allowed"):
        H.transpose(0, 2)


def test_parts():
    check(H[1], C[1])
    check(H[1, 2], C[1, 2])
    check(H[1, 2, 0], C[1, 2, 0])
    check(H[:, 1:4], C[:, 1:4])
    check(H[::2, ..., 1:], C[::2, ..., 1:])
    check(H[:, None], C[:, None])
    check(H[braze.tensor([3, 0, 0])], C[[3, 0, 0]])
    check(H.select(-1, 2), C[..., 2])
    check(H.narrow(1, 2, 2), C[:, 2:4])
    check(H.narrow_copy(2, 1, 2), C[:, :, 1:3])
    check(H.index_select(1, braze.tensor([4, 4, 1])), C[:, [4, 4, 1]])
    check(braze.index_select(H, 2, braze.tensor([2, 0])), C[..., [2, 0]])
    for found, expected in zip(H, C, strict=True):
        check(found, expected)
    for found, expected in zip(H.split(2, 1), np.split(C, [2, 4], 1), strict=True):
        check(found, expected)
    for found, expected in zip(braze.unbind(H, 1), C.swapaxes(0, 1), strict=True):
        check(found, expected)
    merged = H.coalesce()
    assert merged[1].is_coalesced() and merged[:, 1:4].is_coalesced()
    v = braze.sparse_coo_tensor([[0, 1, 1]], [[1.0, 2], [3, 4], [5, 6]], (3, 2))
    check(v[1], [8, 10])
    assert not v[1].is_sparse
    with pytest.raises(IndexError):
        _ = H[4]
    with pytest.raises(IndexError, match="index 9 is out of range"):
        H.index_select(0, braze.tensor([9]))


def test_joining():
    other, b = drawn((2, 5, 3), 2, nnz=6, seed=10)
    check(braze.cat([H, other]), np.concatenate([C, b]))
    check(braze.cat([H, H], 1), np.concatenate([C, C], 1))
    check(braze.cat([H, H, H], -1), np.concatenate([C, C, C], -1))
    check(braze.stack([H, H], 1), np.stack([C, C], 1))
    for parts, dim, message in (
        ([H, braze.tensor(C)], 0, "a dense tensor was found at position 1"),
        ([H, other], 1, "Sizes of tensors must match except in dimension 1"),
        ([H, H.to_dense().to_sparse()], 0, "must have the same sparse_dim and dense_dim"),
    ):
        with pytest.raises(RuntimeError, match=message):
            braze.cat(parts, dim)
