"""The array API namespace's linear algebra, promotion and accumulation against NumPy's."""

import numpy as np
import pytest

import braze
from braze import array_api as xp

RNG = np.random.default_rng(3)
SQUARE = RNG.normal(size=(2, 3, 3))
POSITIVE = SQUARE @ SQUARE.transpose(0, 2, 1) + np.eye(3)
TALL = RNG.normal(size=(2, 4, 3))
FLAT = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
V, W = RNG.normal(size=(2, 1, 3)), RNG.normal(size=(5, 3))
WHOLE = np.array([[3, 250], [7, 9]], np.uint8)

# Name, arguments, keywords: arrays become tensors.
CALLS = [
    ("cholesky", (POSITIVE,), {}), ("cholesky", (POSITIVE,), {"upper": True}),
    ("cross", (V, W), {}), ("cross", (FLAT, FLAT[::-1].copy()), {"axis": -2}),
    ("det", (SQUARE,), {}), ("inv", (SQUARE,), {}),
    ("diagonal", (TALL,), {"offset": -1}), ("trace", (TALL,), {"offset": 1}),
    ("trace", (WHOLE,), {}), ("trace", (WHOLE.astype(np.int8),), {}),
    ("eigvalsh", (POSITIVE,), {}), ("svdvals", (TALL,), {}),
    *[("matrix_norm", (TALL,), {"ord": order, "keepdims": order == 1})
      for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
    *[("vector_norm", (TALL,), {"ord": order, "axis": axis})
      for order in (0, 1, 2, 3, -1, np.inf, -np.inf) for axis in (None, 1)],
    ("vector_norm", (TALL,), {"axis": (0, 2), "keepdims": True}),
    ("matrix_power", (SQUARE, 3), {}), ("matrix_power", (SQUARE, -2), {}),
    ("matrix_power", (SQUARE, 0), {}),
    ("matrix_rank", (FLAT,), {}), ("matrix_rank", (SQUARE,), {"rtol": 0.9}),
    ("matrix_rank", (TALL,), {"rtol": np.array([0.9, 0.1])}),
    ("pinv", (TALL,), {}), ("pinv", (TALL,), {"rtol": np.array([0.5, 1e-9])}),
    ("matrix_transpose", (TALL,), {}), ("outer", (V[0, 0], W[:, 0]), {}),
    ("slogdet", (SQUARE,), {}), ("matmul", (SQUARE, FLAT), {}), ("vecdot", (V, W), {}),
    ("tensordot", (TALL, TALL), {"axes": ((0, 1), (0, 1))}),
    ("solve", (SQUARE, FLAT), {}), ("solve", (SQUARE, V[0, 0]), {}),
    ("solve", (SQUARE, TALL[:, :3]), {}), ("solve", (np.stack([SQUARE] * 3), SQUARE), {}),
]  # fmt: skip


def tensors(value):
    return braze.tensor(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(("name", "arguments", "options"), CALLS)
def test_values(name, arguments, options):
    found = getattr(xp.linalg, name)(
        *map(tensors, arguments), **{key: tensors(value) for key, value in options.items()}
    )
    right = getattr(np.linalg, name)(*arguments, **options)
    several = isinstance(right, tuple)
    for x, y in zip(found if several else [found], right if several else [right], strict=True):
        assert x.shape == y.shape and x.numpy().dtype == np.asarray(y).dtype
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_factors(mode):
    q, r = xp.linalg.qr(braze.tensor(TALL), mode=mode)
    assert q.shape == (2, 4, 3 if mode == "reduced" else 4)
    np.testing.assert_allclose((q @ r).numpy(), TALL, atol=1e-12)
    found = xp.linalg.svd(braze.tensor(TALL), full_matrices=mode == "complete")
    assert found.U.shape == q.shape and found._fields == ("U", "S", "Vh")
    values, vectors = xp.linalg.eigh(braze.tensor(POSITIVE))
    rebuilt = (vectors * values[:, None, :]) @ xp.matrix_transpose(vectors)
    np.testing.assert_allclose(rebuilt.numpy(), POSITIVE, atol=1e-12)


def test_errors():
    x = braze.ones(2, 3)
    with pytest.raises(ValueError, match="not of size 3"):
        xp.linalg.cross(x, x, axis=-2)
    with pytest.raises(ValueError, match=r"sizes along axis -1 differ: \[2, 3\] and \[2, 1\]"):
        xp.vecdot(x, braze.ones(2, 1))
    with pytest.raises(IndexError, match="axis 2 is out of range"):
        xp.vecdot(x, x, axis=2)
    with pytest.raises(ValueError, match="mode"):
        xp.linalg.qr(x, mode="r")
    with pytest.raises(ValueError, match="at least one dimension"):
        xp.nonzero(braze.tensor(1))
    with pytest.raises(AttributeError, match="no attribute 'cond'"):
        _ = xp.cond


DTYPES = ["int8", "uint16", "float32"]


@pytest.mark.parametrize("name", ["add", "maximum", "pow", "less", "where", "concat", "matmul"])
def test_tensors_without_dimensions_have_a_say(name):
    """In PyTorch only kinds of dtypes count for them, and under `braze` as well."""
    for left in DTYPES:
        for right in DTYPES:
            x, y = np.ones((), left), np.ones((1, 1), right)
            if name == "where":
                pair = (np.array(True), x, y)
                found, right_ = xp.where(*map(braze.tensor, pair)), np.where(*pair)
            elif name in ("concat", "matmul"):
                pair = x.reshape(1, 1), y
                given = tuple(map(braze.tensor, pair))
                found = xp.concat(given) if name == "concat" else xp.matmul(*given)
                right_ = np.concat(pair) if name == "concat" else np.matmul(*pair)
            else:
                found = getattr(xp, name)(braze.tensor(x), braze.tensor(y))
                right_ = getattr(np, name)(x, y)
            expected = np.promote_types(left, right)
            if expected == np.float64:  # PyTorch's floats keep their width beside integers
                expected = np.dtype(np.float32)
            assert found.numpy().dtype == (bool if name == "less" else expected)
            assert found.shape == right_.shape


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
def test_whole_numbers_are_accumulated_in_64_bits(name):
    for dtype in ("uint8", "uint16", "uint32", "uint64", "int8", "int32", "int64"):
        x = np.array([3, 100, 7], dtype)
        found, right = getattr(xp, name)(braze.tensor(x)), getattr(np, name)(x)
        assert found.numpy().dtype == right.dtype and found.tolist() == right.tolist()


def test_reductions_over_no_dimensions():
    x = np.array([[1.0, -2.0, 0.0]])
    for name in ("sum", "prod", "max", "min", "mean", "all", "any", "count_nonzero", "std"):
        found = getattr(xp, name)(braze.tensor(x), axis=())
        right = getattr(np, name)(x, axis=())
        assert found.tolist() == right.tolist() and found.shape == right.shape, name


@pytest.mark.parametrize("correction", [0, 1, 0.5, 1.25])
def test_corrections_may_be_fractions(correction):
    for name in ("std", "var"):
        found = getattr(xp, name)(braze.tensor(TALL), axis=1, correction=correction)
        right = getattr(np, name)(TALL, axis=1, correction=correction)
        np.testing.assert_allclose(found.numpy(), right, rtol=1e-12)
        own = getattr(braze, name)(braze.tensor(TALL), (0, 1), correction=correction)
        right = getattr(np, name)(TALL, axis=(0, 1), correction=correction)
        np.testing.assert_allclose(own.numpy(), right, rtol=1e-12)
    assert braze.var(braze.arange(3.0), correction=3.5).item() == np.inf
