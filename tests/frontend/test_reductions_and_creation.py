"""Reductions, ranges and filled tensors against NumPy, in both tiers."""

import math

import numpy as np
import pytest

import braze

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(3, 4, 5))
NANS = np.where(RNG.uniform(size=(3, 4)) < 0.3, np.nan, RNG.normal(size=(3, 4)))
NANS[1] = np.nan


@pytest.fixture(params=["interpret", "compile"], autouse=True)
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield
    braze.sync()
    braze.config.tier = before


def same(tensor, expected, rtol=1e-12):
    np.testing.assert_allclose(tensor.numpy(force=True), expected, rtol=rtol)


@pytest.mark.parametrize("dim", [None, 1, -1, (0, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_statistics_in_pairs(dim, keepdim):
    x = braze.tensor(DATA)
    deviation, mean = braze.std_mean(x, dim, keepdim=keepdim)
    same(deviation, DATA.std(dim, ddof=1, keepdims=keepdim))
    same(mean, DATA.mean(dim, keepdims=keepdim))
    variance, mean = braze.var_mean(x, dim, correction=0, keepdim=keepdim)
    same(variance, DATA.var(dim, keepdims=keepdim))
    assert braze.std_mean(x, unbiased=False)[0].shape == ()
    same(braze.var_mean(x, False)[0], DATA.var())


def test_extrema_and_counts():
    x = braze.tensor(DATA)
    low, high = braze.aminmax(x, dim=1, keepdim=True)
    same(low, DATA.min(1, keepdims=True))
    same(high, DATA.max(1, keepdims=True))
    whole = x.aminmax()
    assert (whole.min.item(), whole.max.item()) == (DATA.min(), DATA.max())
    counts = braze.tensor([[0, 2, 3], [0, 0, 1]])
    same(braze.count_nonzero(counts), 3)
    same(counts.count_nonzero(1), [2, 1])
    same(braze.count_nonzero(counts, (0, 1)), 3)
    small = braze.tensor([[0, 1]], dtype=braze.uint8)
    assert small.any().dtype is braze.uint8 and small.all(1).tolist() == [0]
    assert braze.any(counts, 0, keepdim=True).tolist() == [[False, True, True]]
    assert braze.zeros(0).all().item() and not braze.zeros(0).any().item()


def test_reductions_without_nans():
    x = braze.tensor(NANS)
    same(braze.nansum(x), np.nansum(NANS))
    same(x.nansum(1, keepdim=True), np.nansum(NANS, 1, keepdims=True))
    same(braze.nanmean(x), np.nanmean(NANS))
    expected = [np.nanmean(NANS[0]), np.nan, np.nanmean(NANS[2])]
    same(x.nanmean(1), expected)
    y = braze.tensor([1.0, math.nan, 3.0], requires_grad=True)
    (braze.nanmean(y) + braze.nansum(y)).backward()
    same(y.grad, [1.5, 0, 1.5])
    with pytest.raises(RuntimeError, match="floating point"):
        braze.nanmean(braze.tensor([1]))


@pytest.mark.parametrize("p", [2, 1, 3, 0.5, -1, 0, math.inf, -math.inf, "fro"])
def test_norms_and_distances(p):
    x, y = braze.tensor(DATA, requires_grad=True), braze.tensor(DATA[0])
    order = 2 if p == "fro" else p
    same(braze.norm(x, p, dim=1), np.linalg.norm(DATA, order, axis=1))
    gap = (DATA - DATA[0]).reshape(-1)
    if order not in (-1,):  # of which some elements are 0
        same(braze.dist(x, y, order), np.linalg.norm(gap, order))
    braze.norm(x, p).backward()
    flat, step = DATA.reshape(-1), 1e-6
    moved = flat.copy()
    moved[7] += step
    slope = (np.linalg.norm(moved, order) - np.linalg.norm(flat, order)) / step
    np.testing.assert_allclose(x.grad.numpy().reshape(-1)[7], slope, rtol=2e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="unknown norm 'other'"):
        braze.norm(x, "other")


def test_products_and_log_sums():
    x = braze.tensor(DATA)
    same(braze.prod(x, 1), DATA.prod(1))
    same(x.prod(-1, keepdim=True), DATA.prod(-1, keepdims=True))
    assert braze.prod(braze.tensor([2, 3])).dtype is braze.int64
    same(braze.logsumexp(braze.tensor([1, 2]), 0), np.log(np.exp([1.0, 2.0]).sum()), 1e-6)
    same(braze.sum(x, ()), DATA.sum())


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_gradients_of_products_with_zeros_have_gradients(zeros):
    x = braze.tensor([2.0, 3.0, 5.0], dtype=braze.float64)
    x[:zeros] = 0
    x.requires_grad_()
    (slope,) = braze.autograd.grad(x.prod(0), x, create_graph=True)
    a, b, c = x.tolist()
    same(slope.detach(), [b * c, a * c, a * b])
    (second,) = braze.autograd.grad(slope, x, braze.tensor([1.0, 10.0, 100.0], dtype=x.dtype))
    same(second, [10 * c + 100 * b, c + 100 * a, b + 10 * a])
    (pairs,) = braze.autograd.grad((x.reshape(1, 3) * x.reshape(3, 1)).prod(), x, create_graph=True)
    same(pairs.detach(), [0 if zeros else 6 * (a * b * c) ** 6 / v for v in (a, b, c)], 1e-12)


def test_ranges():
    with pytest.warns(UserWarning, match="deprecated"):
        out = braze.range(1, 4)
    assert out.dtype is braze.float32
    same(out, [1, 2, 3, 4])
    with pytest.warns(UserWarning):
        same(braze.range(1, 2.2, 0.5, dtype=braze.float64), [1, 1.5, 2])
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="step sign"):
        braze.range(1, 0)


def test_spaced_values():
    same(braze.linspace(-3, 7, 11, dtype=braze.float64), np.linspace(-3, 7, 11))
    same(braze.linspace(3, 7, 1), [3])
    same(braze.linspace(0, 9, 4, dtype=braze.int64), [0, 3, 6, 9])
    assert braze.linspace(0.1, 0.7, 7, dtype=braze.float64)[-1].item() == 0.7
    assert braze.linspace(0, 1, 0).shape == (0,)
    same(braze.linspace(braze.tensor(1.0), braze.tensor(2.0), 3), [1, 1.5, 2])
    same(braze.logspace(-2, 2, 5), [0.01, 0.1, 1, 10, 100], 1e-6)
    same(braze.logspace(0, 3, 4, base=2), [1, 2, 4, 8])
    with pytest.raises(RuntimeError, match="non-negative"):
        braze.linspace(0, 1, -1)


def test_filled_tensors():
    x = braze.tensor([[1, 2]], dtype=braze.int32)
    for function in (braze.zeros_like, braze.ones_like, braze.empty_like):
        assert function(x).dtype is braze.int32 and function(x).shape == (1, 2)
        assert function(x, dtype=braze.float64, device="cpu").dtype is braze.float64
    assert braze.full((2,), True).dtype is braze.bool
    assert braze.full((2,), 1).dtype is braze.int64
    assert braze.full((2,), 1.0).dtype is braze.get_default_dtype()
    assert braze.full_like(x, 7).tolist() == [[7, 7]]
    assert x.new_empty(2, 3).dtype is braze.int32 and x.new_empty((2, 3)).shape == (2, 3)
    assert braze.scalar_tensor(2).dtype is braze.float32
    same(braze.eye(2, 3), np.eye(2, 3))
    assert braze.eye(0).shape == (0, 0)
    with pytest.raises(RuntimeError, match="greater or equal to 0"):
        braze.eye(-1)
