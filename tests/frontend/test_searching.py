"""Search, counting and distinct elements in both tiers, against NumPy."""

import numpy as np
import pytest

import braze


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    # Sizes differ from case to case, so every case is compiled anew.
    with braze.config.using(tier=request.param, recompile_limit=0):
        yield request.param
        braze.sync()


def same(tensor, array, **tolerance):
    array = np.asarray(array)
    assert tensor.shape == array.shape
    np.testing.assert_allclose(tensor.numpy(), array, **{"rtol": 1e-6, **tolerance})


RNG = np.random.default_rng(0)
EDGES = np.sort(RNG.integers(0, 60, 40))
VALUES = RNG.integers(-5, 65, (3, 30))


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_and_bucketize(right):
    side = "right" if right else "left"
    expected = np.searchsorted(EDGES, VALUES, side)
    edges, values = braze.tensor(EDGES), braze.tensor(VALUES)
    same(braze.searchsorted(edges, values, right=right), expected)
    same(braze.searchsorted(edges, values, side=side), expected)
    same(braze.bucketize(values, edges, right=right), expected)
    narrow = braze.searchsorted(edges, values, out_int32=True, right=right)
    assert narrow.dtype is braze.int32
    same(narrow, expected)
    # Promotion, numbers, rows of their own, an empty sequence.
    same(braze.searchsorted(edges, values.float() + 0.5), np.searchsorted(EDGES, VALUES + 0.5))
    assert braze.searchsorted(edges, 17.5).item() == np.searchsorted(EDGES, 17.5)
    assert braze.bucketize(61, edges).item() == 40
    rows = np.sort(RNG.standard_normal((3, 50)), 1)
    found = braze.searchsorted(braze.tensor(rows), values.double() / 30, right=right)
    same(found, [np.searchsorted(r, v / 30, side) for r, v in zip(rows, VALUES, strict=True)])
    same(braze.searchsorted(edges[:0], values), np.zeros((3, 30)))


def test_searchsorted_through_a_sorter():
    shuffled = RNG.permutation(EDGES)
    sorter = np.argsort(shuffled, kind="stable")
    found = braze.searchsorted(
        braze.tensor(shuffled), braze.tensor(VALUES), sorter=braze.tensor(sorter)
    )
    same(found, np.searchsorted(shuffled, VALUES, sorter=sorter))


def test_isin():
    x, tests = braze.tensor(VALUES), braze.tensor(EDGES)
    same(braze.isin(x, tests), np.isin(VALUES, EDGES))
    same(braze.isin(x, tests, invert=True), np.isin(VALUES, EDGES, invert=True))
    same(braze.isin(x, 7), VALUES == 7)
    same(braze.isin(x, tests[:0]), np.zeros(VALUES.shape, bool))
    assert braze.isin(3, tests).item() == (3 in EDGES)
    nan = braze.tensor([1.0, float("nan")])
    assert braze.isin(nan, nan).tolist() == [True, False]


def test_bincount():
    numbers = RNG.integers(0, 20, 300)
    weights = RNG.random(300)
    t = braze.tensor(numbers)
    same(t.bincount(), np.bincount(numbers))
    assert t.bincount().dtype is braze.int64
    same(braze.bincount(t, minlength=50), np.bincount(numbers, minlength=50))
    found = braze.bincount(t, braze.tensor(weights))
    same(found, np.bincount(numbers, weights))
    assert found.dtype is braze.float64
    single = braze.bincount(t.int(), braze.tensor(weights.astype(np.float32)))
    assert single.dtype is braze.float32
    same(single, np.bincount(numbers, weights), rtol=1e-5)
    assert braze.bincount(t, t).dtype is braze.float64
    assert braze.bincount(t[:0]).shape == (0,)
    same(braze.bincount(t[:0], minlength=2), [0, 0])


def test_histc():
    x = RNG.standard_normal((20, 30)).astype(np.float32)
    t = braze.tensor(x)
    same(t.histc(7, -1, 1), np.histogram(x, 7, (-1, 1))[0])
    same(braze.histc(t, bins=10), np.histogram(x, 10)[0])
    assert t.histc().shape == (100,) and t.histc().sum().item() == 600
    assert t.half().histc(4).dtype is braze.float16
    same(braze.histc(braze.ones(3), 5), [0, 0, 3, 0, 0])
    same(braze.histc(braze.tensor([0.0, 1.0, 4.0, 5.0]), 4, 1, 5), [1, 0, 0, 2])
    assert braze.histc(braze.zeros(0), 3).tolist() == [0, 0, 0]
    assert braze.histc(braze.tensor([float("nan"), 0.5]), 2, 0, 1).tolist() == [0, 1]


def test_histogram():
    x = RNG.standard_normal((20, 30))
    weight = RNG.random((20, 30))
    t, w = braze.tensor(x), braze.tensor(weight)
    for settings in ({}, {"range": (-1.0, 1.5)}, {"density": True}):
        found = braze.histogram(t, 9, **settings)
        wanted = np.histogram(x, 9, **settings)
        same(found.hist, wanted[0])
        same(found.bin_edges, wanted[1], atol=1e-12)
        assert found.hist.dtype is braze.float64
    edges = np.array([-2.0, -0.5, 0.0, 3.0])
    found = t.histogram(braze.tensor(edges), weight=w, density=True)
    same(found.hist, np.histogram(x, edges, weights=weight, density=True)[0])
    at_edges = braze.tensor([0.0, 1.0, 2.0, 2.0, 2.5])
    assert braze.histogram(at_edges, 2, range=(0, 2)).hist.tolist() == [1, 3]
    same(braze.histogram(braze.ones(3), 2).bin_edges, [0.5, 1, 1.5])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.bool_])
def test_unique(dtype):
    x = (RNG.integers(0, 12, (5, 20)) - (0 if dtype in (np.uint8, np.bool_) else 6)).astype(dtype)
    wanted = np.unique(x, return_inverse=True, return_counts=True)
    values, inverse, counts = braze.unique(
        braze.tensor(x), return_inverse=True, return_counts=True
    )
    assert values.numpy().dtype == dtype
    same(values, wanted[0])
    same(inverse, wanted[1].reshape(5, 20))
    same(counts, wanted[2])
    same(braze.tensor(x).unique(), wanted[0])
    same(braze.unique(braze.tensor(x), return_counts=True)[1], wanted[2])


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_unique_slices(columns, dim):
    x = RNG.integers(0, 2, (16, columns, 8))
    values, inverse, counts = braze.unique(
        braze.tensor(x), return_inverse=True, return_counts=True, dim=dim
    )
    wanted = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
    same(values, wanted[0])
    same(inverse, wanted[1].reshape(-1))
    same(counts, wanted[2])


def test_unique_consecutive():
    x = braze.tensor([[1, 1, 2], [2, 3, 1], [1, 1, 1]])
    values, inverse, counts = braze.unique_consecutive(x, True, True)
    assert values.tolist() == [1, 2, 3, 1]
    assert inverse.tolist() == [[0, 0, 1], [1, 2, 3], [3, 3, 3]]
    assert counts.tolist() == [2, 2, 1, 4]
    rows = braze.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
    values, counts = rows.unique_consecutive(return_counts=True, dim=0)
    assert values.tolist() == [[1, 2], [1, 3], [1, 2]] and counts.tolist() == [2, 1, 1]
    assert rows.unique_consecutive(dim=1).shape == (4, 2)


def test_nan_differs_from_itself():
    x = braze.tensor([float("nan"), 1.0, float("nan"), 1.0])
    values, counts = x.unique(return_counts=True)
    same(values, [1, np.nan, np.nan])
    assert counts.tolist() == [2, 1, 1]


def test_scalars_and_empty_tensors():
    assert braze.unique(braze.tensor(3)).tolist() == [3]
    values, inverse = braze.tensor(3).unique(return_inverse=True)
    assert values.tolist() == [3] and inverse.shape == ()
    for part in braze.unique(braze.zeros(0), return_inverse=True, return_counts=True):
        assert part.shape == (0,)
    assert braze.unique(braze.zeros(0, 2), dim=0).shape == (0, 2)
    assert braze.unique(braze.zeros(1, 2), dim=0).tolist() == [[0, 0]]


X, PAIRS = braze.ones(3), braze.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: braze.searchsorted(X, X, side="no"), RuntimeError, "can only be 'left' or"),
        (lambda: braze.searchsorted(X, X, side="left", right=True), RuntimeError, "opposites"),
        (lambda: braze.searchsorted(X.sum(), X), RuntimeError, "should have positive dimension"),
        (lambda: braze.searchsorted(PAIRS, braze.ones(3, 3)), RuntimeError, "must match"),
        (lambda: braze.searchsorted(X, X, sorter=X[:2].long()), RuntimeError, "have the same"),
        (lambda: braze.bucketize(X, braze.ones(2, 2)), RuntimeError, "must be 1 dimension"),
        (lambda: braze.bincount(X), RuntimeError, "only supports 1-d non-negative integral"),
        (lambda: braze.bincount(braze.tensor([1, -1])), RuntimeError, "non-negative.*given -1"),
        (lambda: braze.bincount(X.long(), X[:2]), RuntimeError, "weights should be 1-d and have"),
        (lambda: braze.bincount(X.long(), minlength=-1), RuntimeError, "minlength should be >= 0"),
        (lambda: braze.histc(X, 0), RuntimeError, "bins must be > 0"),
        (lambda: braze.histc(X, 3, 2, 1), RuntimeError, "max must be larger than min"),
        (lambda: braze.histc(X.long()), RuntimeError, "floating-point"),
        (lambda: braze.histogram(X, 0), RuntimeError, "bins must be > 0"),
        (lambda: braze.histogram(X, X.double()), RuntimeError, "bins tensor should have one"),
        (lambda: braze.histogram(X, 2, range=(1, 0)), RuntimeError, "min should not exceed max"),
        (lambda: braze.histogram(X, 2, weight=X[:2]), RuntimeError, "should have the same shape"),
        (lambda: braze.histogram(X.long(), 2), RuntimeError, "floating-point"),
        (lambda: braze.isin(1, 2), TypeError, "must be a Tensor"),
        (lambda: braze.unique(braze.ones(2, 0), dim=0), RuntimeError, "0 sized dimensions"),
        (lambda: braze.unique(X, dim=1), IndexError, "dimension out of range"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
