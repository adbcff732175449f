"""Elementwise composites of several operands against NumPy, and their gradients."""

import math

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op

import braze.ir as ir

inf, nan = math.inf, math.nan
VALUES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 7.25, inf, -inf, nan])
X, Y = (a.reshape(-1) for a in np.meshgrid(VALUES, VALUES))


def floor_divide(x, y):
    """NumPy's, but for divisions by zero, where PyTorch has IEEE's quotient."""
    with np.errstate(all="ignore"):
        return np.where(y == 0, x / y, np.floor_divide(x, y))


REFERENCES = {
    "fmod": np.fmod,
    "div_floor": floor_divide,
    "div_trunc": lambda x, y: np.trunc(x / y),
    "copysign": np.copysign,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "nextafter": np.nextafter,
    "heaviside": lambda x, y: np.where(x == 0, y, (x > 0).astype(x.dtype)),
    "logical_xor": np.logical_xor,
}
DIFFERENTIABLE = [n for n in REFERENCES if ir.op_named(n).differentiable]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_special_pairs(name, dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    with np.errstate(all="ignore"):
        expected = REFERENCES[name](x, y)
    tolerance = 4e-16 if dtype == "float64" else 3e-7
    np.testing.assert_allclose(run_op(name, x, y), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", REFERENCES)
def test_random_pairs(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400) * 10.0 ** rng.integers(-3, 4, 400)
    y = rng.normal(size=400) * 10.0 ** rng.integers(-3, 4, 400)
    np.testing.assert_allclose(run_op(name, x, y), REFERENCES[name](x, y), rtol=5e-16, atol=2e-16)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0.6, 1.9, (3, 4)), rng.uniform(0.3, 1.9, (4,))
    gradcheck_op(name, [x, y], second=True)
    gradcheck_op(name, [-x, y])


@pytest.mark.parametrize("name", ["fmod", "div_floor", "div_trunc"])
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8"])
def test_division_of_integers(name, dtype):
    x = np.array([7, -7, 7, -7, 6, -6, 0, 127, -128]).astype(dtype)
    y = np.array([2, 2, -2, -2, 3, 3, 5, 2, 7]).astype(dtype)
    expected = {
        "fmod": np.fmod,
        "div_floor": np.floor_divide,
        "div_trunc": lambda x, y: np.trunc(x.astype(float) / y).astype(dtype),
    }[name](x, y)
    np.testing.assert_array_equal(run_op(name, x, y), expected)


def test_division_rounds_as_its_remainder_says():
    x, y = np.array([1.0, 6.0, -1.0, 2.0**60]), np.array([0.1, 0.2, 0.1, 3.0])
    np.testing.assert_array_equal(run_op("div_floor", x, y), x // y)
    assert run_op("fmod", np.array(1e30), np.array(7.0)) == math.fmod(1e30, 7.0)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
def test_times_logarithm(name):
    shift = 0.0 if name == "xlogy" else 1.0
    x, y = np.array([0, 0, 0, 2, 2, nan]), np.array([0, nan, -5, 3, 0, 1]) - shift
    with np.errstate(all="ignore"):
        expected = np.where(np.isnan(y), nan, np.where(x == 0, 0, x * np.log(y + shift)))
    np.testing.assert_allclose(run_op(name, x, y), expected, rtol=1e-15)
    gradcheck_op(name, [np.array([0.0, 0.7, -2.0]), np.array([0.5, 1.5, 2.5])], second=True)


def test_replacing_nans():
    x = np.array([nan, inf, -inf, 2.0])
    numbers = [np.array(v) for v in (7.0, 8.0, 9.0)]
    np.testing.assert_array_equal(run_op("nan_to_num", x, *numbers), [7, 8, 9, 2])
    gradcheck_op("nan_to_num", [np.array([0.5, -3.0]), *numbers])


def test_interpolation_meets_both_ends():
    x, end = np.array([0.1, 1e20, -3.0]), np.array([0.7, -1.0, 5.0])
    for weight, expected in ((0.0, x), (1.0, end)):
        np.testing.assert_array_equal(run_op("lerp", x, end, np.array(weight)), expected)
    np.testing.assert_allclose(
        run_op("lerp", x[::2], end[::2], np.array([0.25, 0.75])), [0.25, 3.0], rtol=1e-15
    )
    gradcheck_op("lerp", [x[::2], end[::2], np.array([0.3, 0.8])], second=True)


def test_closeness():
    x = np.array([1.0, 1.0, inf, inf, nan, 0.0])
    y = np.array([1.0 + 1e-6, 1.1, inf, -inf, nan, 1e-9])
    close = run_op("isclose", x, y, np.array(1e-5), np.array(1e-8))
    np.testing.assert_array_equal(close, [True, False, True, False, False, True])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_shifts(dtype):
    bits = np.dtype(dtype).itemsize * 8
    x = np.array([1, 5, 100, -3, -100]).astype(dtype).reshape(-1, 1)
    y = np.array([0, 1, 3, bits - 1, bits, 100, -1]).astype(dtype)
    inside = (y >= 0) & (y < bits)
    safe = np.where(inside, y, 0).astype(dtype)
    left = np.where(inside, np.left_shift(x, safe), 0)
    right = np.where(inside, np.right_shift(x, safe), np.where(x < 0, -1, 0))
    np.testing.assert_array_equal(run_op("bitwise_left_shift", x, y), left)
    np.testing.assert_array_equal(run_op("bitwise_right_shift", x, y), right)
    with pytest.raises(ir.DTypeError, match=r"\[bitwise_left_shift\] needs integer operands"):
        run_op("bitwise_left_shift", np.ones(2), np.ones(2))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_whole_powers(dtype):
    x = np.array([0, 1, 2, 3, 7, -1, -2, -5]).astype(dtype).reshape(-1, 1)
    y = np.array([0, 1, 2, 3, 10, 30, 63]).astype(dtype)
    np.testing.assert_array_equal(run_op("integer_pow", x, y), np.power(x, y))
    if np.dtype(dtype).kind == "i":
        negative = run_op(
            "integer_pow", np.array([1, -1, -1, 2, 0], dtype), np.array([-3, -3, -2, -1, -1], dtype)
        )
        assert negative.tolist() == [1, -1, 1, 0, 0]
    if dtype == "int64":
        large = run_op(
            "integer_pow", np.array([1, -1, -1, 2, 0]), np.array([200, 201, 200, 300, 99])
        )
        assert large.tolist() == [1, -1, 1, 0, 0]


def test_numbers_next_to_zero():
    x = np.array([0.0, 0.0, 5e-324, 1.0])
    y = np.array([1.0, -1.0, -1.0, 2.0])
    np.testing.assert_array_equal(run_op("nextafter", x, y), np.nextafter(x, y))
