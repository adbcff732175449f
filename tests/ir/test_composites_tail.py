"""Common divisors, numbers taken apart, incomplete gamma functions and binomial numbers."""

import math

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op

import braze.ir as ir

inf, nan = math.inf, math.nan


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_divisors_and_multiples(dtype):
    x = np.array([0, 1, 12, 18, 100, -12, -7, 64]).astype(dtype).reshape(-1, 1)
    y = np.array([0, 1, 18, 12, 75, -8, 96]).astype(dtype)
    np.testing.assert_array_equal(run_op("gcd", x, y), np.gcd(x, y))
    expected = np.lcm(x.astype(np.int64), y.astype(np.int64)).astype(dtype)
    np.testing.assert_array_equal(run_op("lcm", x, y), expected)


@pytest.mark.parametrize("name", ["gcd", "lcm"])
def test_divisors_are_of_integers(name):
    with pytest.raises(ir.DTypeError, match=rf"\[{name}\] needs integer operands"):
        run_op(name, np.ones(2), np.ones(2))
    with pytest.raises(ir.DTypeError, match=rf"\[{name}\] needs integer operands"):
        run_op(name, np.ones(2, bool), np.ones(2, bool))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_parts_of_numbers(dtype):
    info = np.finfo(dtype)
    edges = [0.0, -0.0, 1.0, -3.5, info.max, info.tiny, info.smallest_subnormal, inf, -inf, nan]
    x = np.concatenate([edges, np.geomspace(float(info.tiny), 1e4, 50), -np.arange(1.0, 20)])
    x = x.astype(dtype)
    mantissa, exponent = run_op("frexp", x)
    right, power = np.frexp(x)
    np.testing.assert_array_equal(mantissa, right)
    np.testing.assert_array_equal(exponent, np.where(np.isfinite(x), power, 0))
    assert mantissa.dtype == x.dtype and exponent.dtype == np.int32
    np.testing.assert_array_equal(np.signbit(mantissa[:2]), [False, True])


def test_gradient_of_a_mantissa():
    gradcheck_op("frexp", [np.array([0.6, -3.0, 20.0])])


# Incomplete gamma functions -----------------------------------------------------------------------


def upper_of_whole(a, x):
    """Q(a, x) for a whole a: the probability of fewer than a events at the rate x."""
    return math.fsum(math.exp(k * math.log(x) - x - math.lgamma(k + 1)) for k in range(a))


@pytest.mark.parametrize("a", [1, 2, 5, 9, 10, 11, 40])
def test_incomplete_gamma_of_whole_numbers(a):
    x = np.array([0.3, 1.0, 2.5, a * 0.9, a * 1.0, a * 1.1, a * 2.5])
    expected = np.array([upper_of_whole(a, v) for v in x])
    order = np.full(x.shape, float(a))
    upper, lower = run_op("igammac", order, x), run_op("igamma", order, x)
    np.testing.assert_allclose(upper, expected, rtol=1e-12)
    np.testing.assert_allclose(lower, 1 - expected, rtol=1e-12, atol=3e-15)


def test_incomplete_gamma_of_a_half():
    x = np.array([1e-10, 1e-3, 0.2, 0.9, 1.0, 1.5, 7.0, 30.0])
    half = np.full(x.shape, 0.5)
    lower = [math.erf(math.sqrt(v)) for v in x]
    upper = [math.erfc(math.sqrt(v)) for v in x]
    np.testing.assert_allclose(run_op("igamma", half, x), lower, rtol=1e-12)
    np.testing.assert_allclose(run_op("igammac", half, x), upper, rtol=1e-12)


def test_incomplete_gamma_in_single_precision():
    a = np.array([0.01, 0.5, 1.0, 3.0, 10.0, 50.0, 300.0]).reshape(-1, 1)
    x = a * np.array([0.05, 0.5, 0.98, 1.05, 2.0])
    for name in ("igamma", "igammac"):
        wide = run_op(name, np.float32(a).astype(float), np.float32(x).astype(float))
        narrow = run_op(name, np.float32(a), np.float32(x))
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, wide, rtol=2e-7, atol=1e-37)


def test_incomplete_gamma_far_out():
    """Values computed with mpmath to 40 digits."""
    a = np.array([0.001, 0.1, 200.0, 200.0, 200.0])
    x = np.array([0.001, 3.0, 120.0, 200.0, 240.0])
    lower = [
        0.9936876467088603,
        0.9984347282528856,
        1.637784144906892e-11,
        0.5094034180072363,
        0.9963452981077119,
    ]
    np.testing.assert_allclose(run_op("igamma", a, x), lower, rtol=2e-12)


def test_incomplete_gamma_of_large_numbers():
    """They tend to the normal distribution, up to 0.13 / sqrt(a)."""
    c = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    for a in (1e24, 1e30, 3e38):
        order = np.full(c.shape, a)
        x = order + c * math.sqrt(a)
        z = (x - order) / math.sqrt(a)
        upper = [math.erfc(v / math.sqrt(2)) / 2 for v in z]
        np.testing.assert_allclose(run_op("igammac", order, x), upper, atol=5e-13)


def test_edges_of_incomplete_gamma():
    a = np.array([0.0, 0.0, 1.0, inf, 2.0, inf, -1.0, 1.0, nan, 1.0])
    x = np.array([0.0, 1.0, 0.0, 1.0, inf, inf, 1.0, -1.0, 1.0, nan])
    lower = np.array([nan, 1, 0, 0, 1, nan, nan, nan, nan, nan])
    np.testing.assert_array_equal(run_op("igamma", a, x), lower)
    np.testing.assert_array_equal(run_op("igammac", a, x), 1 - lower)


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_gradients_of_incomplete_gamma(name):
    a, x = np.array([[0.4], [1.0], [12.0]]), np.array([0.3, 1.7, 9.0])
    gradcheck_op(name, [a, x])
    assert ir.op_named(name).gradient(0) is None
    with pytest.raises(ir.DTypeError, match=rf"\[{name}\] needs a floating-point operand"):
        run_op(name, np.ones(2, int), np.ones(2, int))


# Binomial numbers ---------------------------------------------------------------------------------

SEED, OFFSET = np.array(5), np.array(0)


@pytest.mark.parametrize(
    ("count", "prob"), [(1.0, 0.3), (20.0, 0.1), (9.0, 0.8), (40.0, 0.5), (1000.0, 0.03),
                        (300.0, 0.9)],
)  # fmt: skip
def test_moments_of_binomial_numbers(count, prob):
    size = 20000
    drawn = run_op("binomial", np.full(size, count), np.array(prob), SEED, OFFSET)
    variance = count * prob * (1 - prob)
    assert ((drawn >= 0) & (drawn <= count) & (drawn == np.round(drawn))).all()
    assert abs(drawn.mean() - count * prob) < 5 * math.sqrt(variance / size)
    assert abs(drawn.var() - variance) < 0.08 * variance


@pytest.mark.parametrize(("count", "prob"), [(12, 0.4), (50, 0.45), (60, 0.75)])
def test_distribution_of_binomial_numbers(count, prob):
    """Chi squared of the frequencies, over the cells that are expected often enough."""
    size = 20000
    drawn = run_op("binomial", np.full(size, float(count)), np.array(prob), SEED, OFFSET)
    k = np.arange(count + 1)
    chances = [math.comb(count, i) * prob**i * (1 - prob) ** (count - i) for i in k]
    expected = size * np.array(chances)
    found = np.bincount(drawn.astype(int), minlength=count + 1)
    often = expected >= 10
    squares = ((found - expected) ** 2 / np.where(often, expected, 1))[often]
    freedom = often.sum() - 1
    assert squares.sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_certain_and_impossible_trials():
    count = np.array([5.0, 5.0, 0.0, 1e6, 3.0, -1.0, 3.0, nan])
    prob = np.array([0.0, 1.0, 0.5, 1.0, 1.5, 0.5, nan, 0.5])
    drawn = run_op("binomial", count, prob, SEED, OFFSET)
    np.testing.assert_array_equal(drawn, [0, 5, 0, 1e6, nan, nan, nan, nan])
