"""sort, topk and the order statistics in both tiers, against NumPy; their gradients and errors."""

import warnings

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


def normal(*shape, seed=0, nans=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    x[rng.random(shape) < nans] = np.nan
    return x


def same(tensor, array, **tolerance):
    array = np.asarray(array)
    assert tensor.shape == array.shape
    np.testing.assert_allclose(tensor.numpy(force=True), array, **{"rtol": 1e-6, **tolerance})


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sort(dim):
    x = normal(4, 70, 3)
    values, indices = braze.sort(braze.tensor(x), dim=dim)
    same(values, np.sort(x, dim))
    same(indices, np.argsort(x, dim, kind="stable"))
    assert indices.dtype is braze.int64
    found = braze.tensor(x).sort(dim, descending=True)
    same(found.values, -np.sort(-x, dim))
    same(found.indices, np.argsort(-x, dim, kind="stable"))
    same(braze.tensor(x).argsort(dim), np.argsort(x, dim, kind="stable"))
    same(braze.argsort(braze.tensor(x), dim, True, stable=True), np.argsort(-x, dim, kind="stable"))


def test_sort_keeps_ties_in_order_and_puts_nan_last():
    x = braze.tensor([2.0, float("nan"), 0.0, -0.0, 2.0, float("-inf"), float("nan")])
    assert x.argsort().tolist() == [5, 2, 3, 0, 4, 1, 6]
    assert x.argsort(descending=True).tolist() == [1, 6, 0, 4, 2, 3, 5]
    assert np.signbit(x.sort().values.numpy()).tolist() == [True, False, True, *[False] * 4]
    flags = braze.tensor([True, False, True, False])
    assert flags.sort().values.tolist() == [False, False, True, True]
    assert flags.sort(descending=True, stable=True).indices.tolist() == [0, 2, 1, 3]


def test_sort_of_a_computed_and_rearranged_operand():
    x = normal(6, 50)
    t = braze.tensor(x)
    values, indices = braze.sort((t * t + 1.0).t()[3:40:2], dim=0)
    wanted = (x * x + 1).T[3:40:2]
    same(values, np.sort(wanted, 0))
    same(indices, np.argsort(wanted, 0, kind="stable"))
    # Both what is sorted and its order are used further.
    same((values + 1.0) * indices.float(), (np.sort(wanted, 0) + 1) * np.argsort(wanted, 0))


def test_scalars_and_empty_tensors():
    for function in (braze.sort, braze.mode, lambda x: braze.topk(x, 1)):
        values, indices = function(braze.tensor(3.0))
        assert (values.shape, indices.shape) == ((), ())
        assert (values.item(), indices.item()) == (3.0, 0)
    assert braze.msort(braze.tensor(3.0)).item() == 3.0
    assert braze.sort(braze.zeros(0, 3), 0).indices.shape == (0, 3)
    assert braze.sort(braze.zeros(0, 3), 1).values.shape == (0, 3)
    assert braze.topk(braze.zeros(2, 3), 0).values.shape == (2, 0)


def test_named_results():
    x = braze.tensor([3, 1, 2])
    assert braze.sort(x)._fields == braze.topk(x, 2)._fields == ("values", "indices")
    assert type(braze.kthvalue(x, 2)) is braze.return_types.kthvalue
    assert type(x.median(0)) is braze.return_types.median
    same(braze.msort(braze.tensor([[3, 1], [2, 5]])), [[2, 1], [3, 5]])


@pytest.mark.parametrize(("k", "dim"), [(1, 0), (3, 1), (40, 1), (6, 0)])
def test_topk(k, dim):
    x = normal(6, 400)
    values, indices = braze.tensor(x).topk(k, dim)
    order = np.take(np.argsort(-x, dim, kind="stable"), range(k), dim)
    same(indices, order)
    same(values, np.take_along_axis(x, order, dim))
    values, indices = braze.topk(braze.tensor(x), k, dim=dim, largest=False, sorted=False)
    same(values, np.take(np.sort(x, dim), range(k), dim))


def test_kthvalue():
    x = normal(5, 9)
    for k in (1, 4, 9):
        found = braze.kthvalue(braze.tensor(x), k)
        same(found.values, np.sort(x, 1)[:, k - 1])
        same(found.indices, np.argsort(x, 1)[:, k - 1])
    assert braze.tensor(x).kthvalue(2, 0, keepdim=True).values.shape == (1, 9)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_median(size):
    x = normal(3, size, 4)
    lower = np.sort(x, 1)[:, (size - 1) // 2]
    found = braze.median(braze.tensor(x), 1)
    same(found.values, lower)
    at_index = np.take_along_axis(x, found.indices.numpy()[:, None], 1)[:, 0]
    assert np.array_equal(at_index, lower)
    same(braze.tensor(x).median(), np.sort(x.reshape(-1))[(x.size - 1) // 2])
    whole = (x * 10).astype(np.int64)
    found = braze.tensor(whole).median(1, keepdim=True)
    same(found.values, np.sort(whole, 1)[:, [(size - 1) // 2]])


def test_median_and_nan():
    nan = float("nan")
    x = braze.tensor([[1.0, nan, 2.0, nan], [4.0, 3.0, 5.0, 9.0], [nan] * 4])
    found = x.median(1)
    same(found.values, [nan, 4, nan])
    assert found.indices.tolist()[:2] == [1, 0]
    found = x.nanmedian(1)
    same(found.values, [1, 4, nan])
    assert found.indices.tolist()[:2] == [0, 0]
    assert np.isnan(x.median().item()) and x.nanmedian().item() == 3.0
    assert np.isnan(braze.median(braze.zeros(0)).item())


def test_mode():
    x = np.random.default_rng(0).integers(0, 5, (6, 13, 3))
    values, indices = braze.mode(braze.tensor(x), 1)
    for i, j in np.ndindex(6, 3):
        row = x[i, :, j].tolist()
        best = min(sorted(set(row)), key=lambda value: (-row.count(value), value))
        assert values[i, j].item() == best
        assert indices[i, j].item() == 12 - row[::-1].index(best)
    assert braze.mode(braze.tensor(x), 0, keepdim=True).values.shape == (1, 13, 3)


METHODS = ["linear", "lower", "higher", "midpoint", "nearest"]


@pytest.mark.parametrize("interpolation", METHODS)
def test_quantile(interpolation):
    x = normal(4, 11, 3).astype(np.float64)
    for q in (0.0, 0.33, 0.5, 1.0):
        same(
            braze.quantile(braze.tensor(x), q, dim=1, interpolation=interpolation),
            np.quantile(x, q, 1, method=interpolation),
        )
    several = braze.tensor([0.1, 0.8], dtype=braze.float64)
    found = braze.tensor(x).quantile(several, -1, True, interpolation=interpolation)
    same(found, np.quantile(x, [0.1, 0.8], -1, keepdims=True, method=interpolation))
    same(braze.quantile(braze.tensor(x), [0.2]), np.quantile(x, [0.2]))
    same(braze.quantile(braze.tensor(x), 0.2, keepdim=True), np.quantile(x, 0.2, keepdims=True))


def test_quantile_and_nan():
    x = normal(5, 12, nans=0.2).astype(np.float64)
    x[0] = np.nan
    x[1] = np.arange(12)
    t = braze.tensor(x)
    same(t.quantile(0.4, 1), np.quantile(x, 0.4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy remarks on rows of nan
        same(t.nanquantile(0.4, 1), np.nanquantile(x, 0.4, 1))
        same(t.nanquantile(braze.tensor([0.4, 1.0]).double(), 0), np.nanquantile(x, [0.4, 1], 0))
    infinite = braze.tensor([1.0, float("inf"), float("inf")])
    assert infinite.quantile(0.5).item() == float("inf")


# Gradients ----------------------------------------------------------------------------------------


def numerical(function, x, step=1e-5):
    gradient = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            gradient[place] += sign * function(braze.tensor(moved)).item() / (2 * step)
    return gradient


WEIGHTS = np.linspace(0.5, 2.0, 15).reshape(3, 5)
GRADIENTS = {
    "sort": lambda x: (x.sort(1).values ** 2 * braze.tensor(WEIGHTS)).sum(),
    "descending": lambda x: (x.sort(0, True).values ** 2 * braze.tensor(WEIGHTS)).sum(),
    "topk": lambda x: (x.topk(2).values ** 3).sum(),
    "kthvalue": lambda x: (x.kthvalue(2).values ** 3).sum(),
    "median": lambda x: (x.median(1).values ** 3).sum() + x.median() ** 2,
    "nanmedian": lambda x: (x.nanmedian(0).values ** 3).sum(),
    "mode": lambda x: (x.mode(1).values ** 3).sum(),
    "quantile": lambda x: (x.quantile(0.3, 1) ** 3).sum() + x.nanquantile(0.7) ** 2,
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, tier):
    x = np.random.default_rng(1).permutation(15).reshape(3, 5) / 5.0 - 1.3
    t = braze.tensor(x, requires_grad=True)
    GRADIENTS[name](t).backward()
    with braze.config.using(tier="interpret"):
        expected = numerical(GRADIENTS[name], x)
    np.testing.assert_allclose(t.grad.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_second_derivative():
    x = braze.tensor([3.0, 1.0, 2.0], requires_grad=True)
    weights = braze.tensor([1.0, 2.0, 4.0])
    (first,) = braze.autograd.grad((x.sort().values ** 3 * weights).sum(), x, create_graph=True)
    assert first.tolist() == [108.0, 3.0, 24.0]
    (second,) = braze.autograd.grad(first.sum(), x)
    assert second.tolist() == [72.0, 6.0, 24.0]


def test_indices_carry_no_gradient():
    values, indices = braze.sort(braze.ones(3, requires_grad=True))
    assert values.requires_grad and not indices.requires_grad


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.topk(4), RuntimeError, r"selected index k out of range: topk\(\) of k = 4"),
        (lambda x: x.topk(-1), RuntimeError, "selected index k out of range"),
        (lambda x: x.sort(2), IndexError, r"\[sort\] dimension out of range"),
        (lambda x: x.kthvalue(0), RuntimeError, r"kthvalue\(\): selected number k out of range"),
        (lambda x: x.kthvalue(4), RuntimeError, r"kthvalue\(\): selected number k out of range"),
        (lambda x: x[:0].median(0), IndexError, r"median\(\): Expected reduction dim 0"),
        (lambda x: x[:0].mode(0), IndexError, r"mode\(\): Expected reduction dim 0"),
        (lambda x: x.quantile(1.5), RuntimeError, "must be in the range .* but got 1.5"),
        (lambda x: x.quantile([0.5, -1.0]), RuntimeError, "q values must be in the range"),
        (lambda x: x.quantile([float("nan")]), RuntimeError, "q values must be in the range"),
        (lambda x: x.long().quantile(0.5), RuntimeError, "must be either float or double dtype"),
        (lambda x: x[:0].quantile(0.5), RuntimeError, "input tensor must be non-empty"),
        (lambda x: x.quantile(x), RuntimeError, "q must be a scalar or 1D tensor"),
        (lambda x: x.quantile(x[0].double()), RuntimeError, "q tensor must be same dtype"),
        (lambda x: x.quantile(0.5, interpolation="no"), RuntimeError, "interpolation must be one"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(braze.ones(2, 3))
