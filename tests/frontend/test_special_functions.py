"""Elementwise functions, methods and operators as users call them, in both tiers."""

import math

import numpy as np
import pytest

import braze

inf, nan = math.inf, math.nan


@pytest.fixture(params=["interpret", "compile"], autouse=True)
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


def same(tensor, expected, rtol=0.0):
    np.testing.assert_allclose(tensor.numpy(force=True), expected, rtol=rtol, atol=0)


# Operand -> value, to 17 digits.
POINTS = {
    "lgamma": {0.3: 1.0957979948180756, 1.46: -0.12148500100400743, 12.0: 17.502307845873887},
    "digamma": {0.4: -2.561384544585116, 7.7: 1.9748820949131018, -7.6: 1.071732116277544},
    "erfinv": {0.4: 0.37080715859355795, -0.84: -0.9935356283473041},
    "i0": {0.7: 1.126303018306809, -3.0: 4.880792585865024},
    "sinc": {0.3: 0.8583936913341398, -2.5: 0.12732395447351627},
    "log2": {8.0: 3.0, 0.3: -1.7369655941662063},
    "log10": {1000.0: 3.0, 0.3: -0.5228787452803376},
    "asinh": {0.3: 0.29567304756342244, -50.0: -4.60527017099142},
    "acosh": {1.5: 0.9624236501192069, 50.0: 4.605070170984757},
    "atanh": {0.3: 0.3095196042031117, -0.9: -1.4722194895832204},
    "frac": {2.75: 0.75, -2.75: -0.75},
}


@pytest.mark.parametrize("name", POINTS)
def test_functions_of_one_operand(name):
    values = POINTS[name]
    x = np.array(list(values))
    for dtype, tolerance in (("float64", 2e-15), ("float32", 1e-6)):
        given = braze.tensor(x.astype(dtype), requires_grad=True)
        out = getattr(braze, name)(given)
        assert out.dtype is given.dtype and out.requires_grad
        same(out, list(values.values()), tolerance)
        same(getattr(given.detach(), name)(), list(values.values()), tolerance)
        same(getattr(given.detach().clone(), f"{name}_")(), list(values.values()), tolerance)


def test_the_special_module():
    x = braze.tensor([0.25, 0.5, 0.75], dtype=braze.float64)
    special = braze.special
    same(special.ndtr(special.ndtri(x)), x.numpy(), 1e-15)
    same(special.expit(special.logit(x)), x.numpy(), 1e-15)
    same(special.gammaln(x), [math.lgamma(v) for v in x.tolist()], 1e-14)
    same(special.erfcx(x), [math.exp(v * v) * math.erfc(v) for v in x.tolist()], 1e-14)
    same(special.xlog1py(x, x), x.numpy() * np.log1p(x.numpy()), 1e-15)
    same(special.zeta(2.0, braze.ones(1, dtype=braze.float64)), [math.pi**2 / 6], 1e-15)
    same(special.polygamma(1, braze.ones(1, dtype=braze.float64)), [math.pi**2 / 6], 1e-15)
    assert {"i0e", "i1", "i1e", "log_ndtr", "entr", "psi", "multigammaln"} <= set(dir(special))
    with pytest.raises(AttributeError):
        special.nothing  # noqa: B018


def test_mvlgamma_and_polygamma():
    x = braze.tensor([3.5, 4.0], dtype=braze.float64)
    expected = [
        math.log(math.pi) * 1.5 + sum(math.lgamma(v - j / 2) for j in range(3)) for v in (3.5, 4.0)
    ]
    same(x.mvlgamma(3), expected, 1e-14)
    same(x.polygamma(0), x.digamma().numpy())
    with pytest.raises(RuntimeError, match="p has to be greater"):
        braze.mvlgamma(x, 0)
    with pytest.raises(RuntimeError, match="negative n"):
        braze.polygamma(-1, x)


def test_two_operands():
    x = braze.tensor([3.0, -4.0, 0.0])
    y = braze.tensor([[4.0], [-0.0]])
    a, b = np.broadcast_arrays(x.numpy(), y.numpy())
    same(braze.hypot(x, y), np.hypot(a, b), 1e-6)
    same(braze.copysign(x, y), np.copysign(a, b))
    same(braze.copysign(x, -2), -np.abs(x.numpy()))
    same(braze.logaddexp(x, y), np.logaddexp(a, b), 1e-6)
    same(braze.fmax(x, braze.tensor([nan, 1.0, 1.0])), [3, 1, 1])
    same(braze.fmin(x, 1), [1, -4, 0])
    same(braze.heaviside(x, braze.tensor(0.5)), [1, 0, 0.5])
    same(braze.ldexp(x, braze.tensor([1, 2, 3])), [6, -16, 0])
    same(braze.xlogy(0, y), [[0], [0]])
    same(braze.nextafter(x, x), x.numpy())
    assert braze.float_power(x, 2).dtype is braze.float64
    assert braze.hypot(braze.tensor([3]), braze.tensor([4])).dtype is braze.float32
    with pytest.raises(RuntimeError, match="different dtypes"):
        braze.heaviside(x, braze.tensor([1]))


def test_logic_and_aliases():
    x, y = braze.tensor([0, 1, 2]), braze.tensor([0.0, 0.0, 3.0])
    same(braze.logical_and(x, y), [False, False, True])
    same(x.logical_or(y), [False, True, True])
    same(braze.logical_xor(x, y), [False, True, False])
    same(braze.greater(x, 1), [False, False, True])
    same(braze.less_equal(x, 1), [True, True, False])
    same(braze.not_equal(x, y), [False, True, True])
    same(braze.subtract(y, x, alpha=2), [0, -2, -1])
    same(braze.rsub(x, 1), [1, 0, -1])
    same(braze.clip(x, 1, 1), [1, 1, 1])
    same(braze.positive(x), x.numpy())
    same(+x, x.numpy())
    same(braze.deg2rad(braze.tensor([180])), [np.float32(math.pi)], 1e-6)
    same(braze.rad2deg(braze.tensor([math.pi])), [180], 1e-6)
    assert x.logical_and_(y).dtype is braze.int64


def test_clamp_with_tensors():
    x = braze.tensor([-1.0, 0.5, 2.0])
    same(x.clamp(braze.tensor([0.0, 0.6, 0.0]), braze.tensor(1.0)), [0, np.float32(0.6), 1])
    same(x.clamp_min(0), [0, 0.5, 2])
    same(x.clone().clamp_max_(braze.tensor([0.0])), [-1, 0, 0])
    with pytest.raises(RuntimeError, match="At least one"):
        braze.clamp(x)


def test_nan_to_num_and_isclose():
    x = braze.tensor([nan, inf, -inf, 1.0])
    top = np.finfo(np.float32).max
    same(braze.nan_to_num(x), [0, top, -top, 1])
    same(x.nan_to_num(2.0, posinf=3.0, neginf=4.0), [2, 3, 4, 1])
    same(braze.isclose(x, x), [False, True, True, True])
    same(braze.isclose(x, x, equal_nan=True), [True] * 4)
    same(braze.isclose(braze.tensor([100]), braze.tensor([101]), rtol=0.1), [True])
    assert braze.allclose(x, x, equal_nan=True) and not braze.allclose(x, x)
    same(braze.isposinf(x), [False, True, False, False])
    same(braze.isneginf(x), [False, False, True, False])
    with pytest.raises(RuntimeError, match="did not match"):
        braze.isclose(x, x.double())


def test_rounding_of_integers_and_decimals():
    x = braze.tensor([1, -5])
    for function in (braze.floor, braze.ceil, braze.trunc, braze.round, braze.fix):
        out = function(x)
        assert out.dtype is braze.int64 and out is not x
        same(out, [1, -5])
    same(braze.round(braze.tensor([1.25, -3.375]), decimals=1), np.float32([1.2, -3.4]), 1e-6)
    same(braze.round(braze.tensor([1250.0]), decimals=-2), [1200])
    with pytest.raises(RuntimeError, match="not implemented"):
        braze.frac(x)


def test_division():
    x, y = braze.tensor([7, -7, 16777217]), braze.tensor([2, 2, 1])
    same(braze.div(x, y, rounding_mode="trunc"), [3, -3, 16777217])
    same(braze.div(x, y, rounding_mode="floor"), [3, -4, 16777217])
    same(x // 2, [3, -4, 8388608])
    same(x % -4, [-1, -3, -3])
    same(braze.fmod(x, 4), [3, -3, 1])
    same(braze.tensor([1.0, -1.0], dtype=braze.float64) // 0.1, [9, -10])
    same(braze.true_divide(x, y), [3.5, -3.5, 16777216])
    a = braze.tensor([7.5, -7.5], requires_grad=True)
    b = braze.tensor([2.0, 2.0], requires_grad=True)
    braze.fmod(a, b).sum().backward()
    same(a.grad, [1, 1])
    same(b.grad, [-3, 3])


def test_powers():
    x = braze.tensor([2, 3, -3])
    same(x**5, [32, 243, -243])
    same(x ** braze.tensor([40, 39, 3]), [2**40, 3**39, -27])
    assert (x**2.0).dtype is braze.float32
    same(braze.tensor([True, False]) ** braze.tensor([False, True]), [True, False])
    with pytest.raises(RuntimeError, match="negative integer powers"):
        x**-1
    z = braze.tensor([0.0, 2.0], requires_grad=True)
    (z**3 + z**1.5 + z**0.0).sum().backward()
    same(z.grad, [0, 12 + 1.5 * math.sqrt(2)], 1e-6)


def test_shifts():
    x = braze.tensor([1, -8])
    same(x << 2, [4, -32])
    same(x >> 1, [0, -4])
    same(1 << braze.tensor([3]), [8])
    x <<= 1
    same(x, [2, -16])
    x >>= braze.tensor([1, 70])
    same(x, [1, -1])


def test_alpha_and_value():
    x, y = braze.tensor([1, 2]), braze.tensor([10, 20])
    same(braze.add(x, y, alpha=3), [31, 62])
    same(braze.add(x.float(), y, alpha=0.5), [6, 12])
    same(x.clone().sub_(y, alpha=2), [-19, -38])
    same(braze.addcmul(x, y, y, value=2), [201, 802])
    same(braze.addcmul(x, y, y, value=2.5), [201, 802])  # the whole part counts
    same(braze.addcdiv(x.float(), y.float(), y, value=2), [3, 4])
    same(braze.lerp(x.float(), y.float(), braze.tensor([0.0, 1.0])), [1, 20])
    for wrong in (
        lambda: braze.add(x, y, alpha=0.5),
        lambda: braze.addcdiv(x, y, y),
        lambda: braze.lerp(x.float(), y.double(), 0.5),
        lambda: braze.sub(x, True),
    ):
        with pytest.raises(RuntimeError):
            wrong()


def test_in_place_methods():
    x = braze.tensor([4.0, 9.0])
    assert x.sqrt_() is x
    same(x, [2, 3])
    same(x.atan2_(braze.tensor([0.0, -1.0])), np.arctan2([2, 3], [0, -1]), 1e-6)
    bits = braze.tensor([6, 5])
    same(bits.bitwise_and_(4).bitwise_or_(3).bitwise_xor_(1), [6, 6])
    same(braze.abs_(braze.tensor([-1.0])), [1])
    for wrong in (
        lambda: bits.mul_(1.5),
        lambda: bits.sqrt_(),
        lambda: braze.tensor([True]).add_(1),
        lambda: bits.add_(braze.ones(2, 2, dtype=braze.int64)),
    ):
        with pytest.raises(RuntimeError):
            wrong()
    same(bits, [6, 6])
