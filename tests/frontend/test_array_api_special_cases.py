"""The array API standard's special cases: nan, infinities and signed zeros in every elementwise
function, against NumPy's, interpreted and compiled."""

import numpy as np
import pytest

import braze
from braze import array_api as xp

SIZES = [0.0, 1.0, 0.5, 2.0, 3.0, 7.5, 1e30, 1e-30, np.inf]
VALUES = [*SIZES, *(-x for x in SIZES), np.nan]
ONE = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log "
    "log10 log1p log2 logical_not negative positive reciprocal round sign signbit sin sinh sqrt "
    "square tan tanh trunc"
).split()
TWO = (
    "add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal "
    "logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow "
    "remainder subtract"
).split()
# How far from NumPy's (for ordinary numbers among the special ones), by dtype.
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
# The error of these for numbers that are not special is tested elsewhere.
LARGE = {"sin", "cos", "tan"}


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield
    braze.sync()
    braze.config.tier = before


def faults(found, right, operands, tolerance):
    """The operands where two results differ: in nan, in the sign of a zero, or by too much."""
    assert found.dtype == right.dtype
    if right.dtype == bool:
        wrong = found != right
    else:
        with np.errstate(all="ignore"):
            close = np.isclose(found, right, rtol=tolerance, atol=0, equal_nan=True)
        wrong = ~close | (np.signbit(found) != np.signbit(right)) & ~np.isnan(right)
    return [(*(x[i] for x in operands), found[i], right[i]) for i in np.flatnonzero(wrong)]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_functions_of_one_operand(tier, dtype):
    x = np.array(VALUES, dtype)
    t = braze.tensor(x)
    found = {name: getattr(xp, name)(t) for name in ONE}  # one graph
    for name, result in found.items():
        with np.errstate(all="ignore"):
            right = getattr(np, name)(x)
        use = np.abs(x) < 1e4 if name in LARGE else np.ones(x.shape, bool)
        use |= ~np.isfinite(x)
        assert not faults(result.numpy()[use], right[use], [x[use]], TOLERANCE[dtype]), name


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_functions_of_two_operands(tier, dtype):
    x, y = (grid.reshape(-1) for grid in np.meshgrid(*[np.array(VALUES, dtype)] * 2))
    a, b = braze.tensor(x), braze.tensor(y)
    found = {name: getattr(xp, name)(a, b) for name in TWO}
    for name, result in found.items():
        with np.errstate(all="ignore"):
            right = getattr(np, name)(x, y)
        assert not faults(result.numpy(), right, [x, y], TOLERANCE[dtype]), name
