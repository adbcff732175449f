"""Operations that NumPy runs: their meaning, their errors, their gradients."""

import numpy as np
import pytest
from gradients import backward, gradcheck_op, numerical_gradient

import braze.ir as ir
from braze.ir.interpreter import interpret

HOST = [op for op in ir.all_ops() if op.is_host]


def matrices(*shape, seed=0):
    """Well-conditioned: random, with a dominant diagonal."""
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, shape) + 2 * np.eye(*shape[-2:]) * np.sqrt(shape[-1])


def run(name, *arrays, **attributes):
    b = ir.Builder(name)
    values = [b.input(ir.tensor_type(ir.from_numpy(a.dtype), a.shape)) for a in arrays]
    results = getattr(b, name)(*values, **attributes)
    several = isinstance(results, tuple)
    found = interpret(b.finish(results if several else [results]), arrays)
    return found if several else found[0]


def swap(x):
    return np.swapaxes(x, -1, -2)


BATCHES = [(), (3,), (2, 2), (0,)]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("n", [0, 1, 4])
def test_square_matrices(batch, n):
    x = matrices(*batch, n, n)
    eye = np.broadcast_to(np.eye(n), x.shape)
    np.testing.assert_allclose(run("inverse", x) @ x, eye, atol=1e-12)
    np.testing.assert_allclose(run("det", x), np.linalg.det(x))
    sign, logarithm = run("slogdet", x)
    np.testing.assert_allclose(sign * np.exp(logarithm), np.linalg.det(x))
    spd = x @ swap(x)
    lower = run("cholesky", spd)
    np.testing.assert_allclose(lower @ swap(lower), spd)
    assert not np.triu(lower, 1).any()
    symmetric = x + swap(x)
    values, vectors = run("eigh", symmetric)
    np.testing.assert_allclose(
        vectors * values[..., None, :] @ swap(vectors), symmetric, atol=1e-12
    )
    values, vectors = run("eig", x)
    np.testing.assert_allclose(x @ vectors, vectors * values[..., None, :], atol=1e-12)
    b = matrices(*batch, n, 2)
    np.testing.assert_allclose(x @ run("solve", x, b), b, atol=1e-12)
    if n:
        cofactor = np.linalg.det(x)[..., None, None] * swap(np.linalg.inv(x))
        np.testing.assert_allclose(run("cofactor", x), cofactor, atol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("m", "n"), [(4, 3), (3, 4), (3, 3), (0, 3), (3, 0), (70, 40)])
def test_matrices_of_any_shape(batch, m, n):
    x = np.random.default_rng(1).standard_normal((*batch, m, n))
    for full in (False, True):
        u, s, vh = run("svd", x, full=full)
        k = min(m, n)
        np.testing.assert_allclose(
            u[..., :k] * s[..., None, :] @ vh[..., :k, :], x, atol=1e-12
        )
        q, r = run("qr", x, complete=full)
        np.testing.assert_allclose(q @ r, x, atol=1e-12)
        np.testing.assert_allclose(
            swap(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*batch, *[q.shape[-1]] * 2)),
            atol=1e-12,
        )
    inverse = run("pinv", x, rtol=1e-12)
    np.testing.assert_allclose(x @ inverse @ x, x, atol=1e-12)
    lu, pivots = run("lu_factor", x)
    lower = np.tril(lu, -1)[..., :k] + np.eye(m, k)
    order = run("lu_permutation", pivots, size=m, inverse=False)
    back = run("lu_permutation", pivots, size=m, inverse=True)
    permuted = np.take_along_axis(x, order[..., None], -2)
    np.testing.assert_allclose(lower @ np.triu(lu)[..., :k, :], permuted, atol=1e-12)
    np.testing.assert_array_equal(np.take_along_axis(permuted, back[..., None], -2), x)
    a, tau = run("geqrf", x)
    _, r = run("qr", x, complete=False)
    np.testing.assert_allclose(np.triu(a)[..., :k, :], r)
    q, _ = run("qr", x, complete=True)
    np.testing.assert_allclose(
        run("ormqr", a, tau, x, left=True, transpose=False), q @ x, atol=1e-12
    )
    np.testing.assert_allclose(
        run("ormqr", a, tau, x, left=True, transpose=True), swap(q) @ x, atol=1e-12
    )
    np.testing.assert_allclose(
        run("ormqr", a, tau, swap(x), left=False, transpose=True), swap(x) @ swap(q), atol=1e-12
    )
    if m >= n:
        np.testing.assert_allclose(run("orgqr", a, tau), q[..., :n], atol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unitriangular", [False, True])
def test_triangular_systems(batch, upper, unitriangular):
    a, b = matrices(*batch, 4, 4), matrices(*batch, 4, 2, seed=1)
    triangle = np.triu(a) if upper else np.tril(a)
    if unitriangular:
        triangle = triangle - triangle * np.eye(4) + np.eye(4)
    settings = {"upper": upper, "unitriangular": unitriangular}
    x = run("triangular_solve", a, b, **settings)
    np.testing.assert_allclose(triangle @ x, b, atol=1e-12)
    if batch != (0,):
        gradcheck_op("triangular_solve", [a, b], settings, second=batch == ())


GRADIENTS = [
    ("inverse", (3, 3), {}),
    ("inverse", (2, 3, 3), {}),
    ("det", (2, 3, 3), {}),
    ("cofactor", (3, 3), {}),
    ("slogdet", (2, 3, 3), {}),
    ("pinv", (3, 3), {"rtol": 1e-12}),
    ("pinv", (2, 4, 3), {"rtol": 1e-12}),
    ("pinv", (3, 4), {"rtol": 1e-12}),
    ("qr", (2, 3, 3), {"complete": False}),
    ("qr", (4, 3), {"complete": False}),
    ("qr", (3, 4), {"complete": False}),
    ("qr", (3, 4), {"complete": True}),
    ("svd", (2, 3, 3), {"full": False}),
    ("svd", (4, 3), {"full": False}),
    ("svd", (3, 4), {"full": False}),
    ("svd", (3, 3), {"full": True}),
    ("lu_factor", (3, 3), {}),
    ("lu_factor", (2, 3, 3), {}),
]


@pytest.mark.parametrize(("name", "shape", "attributes"), GRADIENTS)
def test_gradients(name, shape, attributes):
    generator = np.random.default_rng(3)
    x = generator.uniform(-1, 1, shape) + np.eye(*shape[-2:])[::-1] * [1, 2, 3, 4][: shape[-1]]
    gradcheck_op(name, [x], attributes, second=len(shape) == 2, tolerance=1e-5)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradient_of_solve(batch):
    a, b = matrices(*batch, 3, 3), matrices(*batch, 3, 2, seed=1)
    gradcheck_op("solve", [a, b], second=True)


@pytest.mark.parametrize("name", ["cholesky", "eigh"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradients_with_respect_to_symmetric_matrices(name, batch):
    """The gradient of x -> op(x + x^T) does not depend on which triangle is read."""
    x = matrices(*batch, 3, 3) * [1, 2, 3]
    b = ir.Builder()
    value = b.input(ir.tensor_type(ir.f64, x.shape))
    rank = x.ndim
    t = b.permute(value, dims=(*range(rank - 2), rank - 1, rank - 2))
    results = getattr(b, name)(b.add(value, t))
    results = results if isinstance(results, tuple) else (results,)
    generator = np.random.default_rng(0)
    weights = [generator.uniform(0.5, 1.5, r.shape) for r in results]
    given = [b.input(r.type) for r in results]
    flowing = dict(zip(results, given, strict=True))
    (gradient,) = backward(b, flowing, [value])
    graph = b.finish([gradient, *results])
    found = interpret(graph, [x, *weights])[0]

    def function(arrays):
        made = interpret(graph, [arrays[0], *weights])[1:]
        return float(sum(np.sum(a * w) for a, w in zip(made, weights, strict=True)))

    np.testing.assert_allclose(found, numerical_gradient(function, [x], 0, 1e-5), atol=1e-6)


def test_equal_singular_values_have_the_gradient_of_their_sum():
    b = ir.Builder()
    x = b.input(ir.tensor_type(ir.f64, (3, 3)))
    u, s, vh = b.svd(x, full=False)
    ones = b.full(shape=(3,), value=1.0, dtype=ir.f64)
    zeros = {v: b.full(shape=v.shape, value=0.0, dtype=ir.f64) for v in (u, vh)}
    (gradient,) = backward(b, {s: ones, **zeros}, [x])
    (found,) = interpret(b.finish([gradient]), [np.eye(3)])
    np.testing.assert_allclose(found, np.eye(3), atol=1e-12)


def test_the_determinants_gradient_exists_for_singular_matrices():
    x = np.array([[1.0, 2.0], [2.0, 4.0]])
    np.testing.assert_allclose(run("cofactor", x), [[4, -2], [-2, 1]], atol=1e-12)
    np.testing.assert_allclose(run("cofactor", np.zeros((1, 1))), [[1]])
    gradcheck_op("det", [x])


SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("inverse", [SINGULAR], r"\[inverse\] the matrix is singular"),
        ("inverse", [np.stack([np.eye(2), SINGULAR])],
         r"\[inverse\] \(batch element 1\) the matrix is singular"),
        ("solve", [SINGULAR, np.eye(2)], r"\[solve\] the matrix is singular"),
        ("cholesky", [-np.eye(2)], r"\[cholesky\] the matrix is not positive definite"),
        ("eig", [np.full((2, 2), np.nan)], r"\[eig\] the matrix is not finite"),
    ],
)  # fmt: skip
def test_bad_values(name, arrays, message):
    with pytest.raises(ir.LinAlgError, match=message):
        run(name, *arrays)
    assert issubclass(ir.LinAlgError, RuntimeError)


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "message"),
    [
        ("inverse", [(3, 4)], {}, r"needs square matrices, given f64\[3,4\] \(3 != 4\)"),
        ("cholesky", [(3,)], {}, r"\[cholesky\] needs a tensor of at least 2 dimensions"),
        ("solve", [(3, 3), (4, 2)], {}, r"\[solve\] matrix f64\[3,3\] and right-hand side"),
        ("orgqr", [(3, 4), (3,)], {}, r"\[orgqr\] needs at least as many rows as columns"),
        ("orgqr", [(4, 3), (4,)], {}, r"\[orgqr\] f64\[4\] are too many factors"),
        ("ormqr", [(4, 3), (3,), (3, 4)], {"left": True, "transpose": False},
         r"\[ormqr\] reflectors f64\[4,3\] do not fit f64\[3,4\]"),
    ],
)  # fmt: skip
def test_bad_shapes(name, shapes, attributes, message):
    with pytest.raises(ir.ShapeError, match=message):
        run(name, *(np.zeros(shape) for shape in shapes), **attributes)


def test_dtypes():
    for op in ("inverse", "cholesky", "det", "eigh"):
        message = rf"\[{op}\] needs float32, float64 or a complex dtype, given i64"
        with pytest.raises(ir.DTypeError, match=message):
            run(op, np.eye(2, dtype=np.int64))
        found = run(op, np.eye(2, dtype=np.float32))
        assert {a.dtype for a in (found if isinstance(found, list) else [found])} == {
            np.dtype(np.float32)
        }
