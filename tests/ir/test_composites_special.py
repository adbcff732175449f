"""Special functions against values computed with mpmath to 40 digits, and their gradients."""

import math

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op

import braze.ir as ir
from braze.ir.errors import AttributeTypeError

# Operand -> value, each rounded to f64.
REFERENCES: dict[str, dict[float, float]] = {
    "lgamma": {
        1e-12: 27.63102111592797,
        0.3: 1.0957979948180756,
        0.8: 0.15205967839983756,
        1.1: -0.049872441259839764,
        1.46: -0.12148500100400743,
        1.9: -0.03898427592308336,
        2.2: 0.09694746679063887,
        3.5: 1.2009736023470743,
        7.9: 8.32426586800881,
        12.0: 17.502307845873887,
        100000.0: 1051287.7089736569,
        -0.5: 1.2655121234846454,
        -3.25: -0.6231534513209986,
        -20.7: -43.105133189536225,
    },
    "digamma": {
        1e-06: -1000000.5772140201,
        0.4: -2.561384544585116,
        1.0: -0.5772156649015329,
        1.46: -0.0015805619870834522,
        1.99: 0.41631470604541493,
        2.5: 0.7031566406452432,
        7.7: 1.9748820949131018,
        10.0: 2.251752589066721,
        33.0: 3.4812795305349873,
        100000000.0: 18.420680738952367,
        -0.3: 2.113309779635399,
        -7.6: 1.071732116277544,
    },
    "erfinv": {
        1e-15: 8.862269254527581e-16,
        -0.02: -0.01772639502667802,
        0.4: 0.37080715859355795,
        -0.84: -0.9935356283473041,
        0.86: 1.0435418436397588,
        0.99: 1.8213863677184494,
        -0.9999999: -3.7665625816384707,
        0.9999999999999999: 5.8635847487551676,
    },
    "ndtri": {
        1e-300: -37.0470962993612,
        1e-30: -11.464024688443615,
        1e-05: -4.264890793922825,
        0.07: -1.4757910281791706,
        0.08: -1.4050715603096327,
        0.4: -0.2533471031357997,
        0.55: 0.12566134685507416,
        0.95: 1.6448536269514722,
        0.999999: 4.753424308817087,
    },
    "erfcx": {
        -5.0: 144009798674.66104,
        -0.7: 2.7387021025613167,
        1e-09: 0.9999999988716208,
        0.9: 0.456531651323117,
        1.1: 0.4017304606364951,
        3.0: 0.17900115118138996,
        7.9: 0.07085747736739713,
        8.1: 0.06913392017734316,
        30.0: 0.01879588886141675,
        55.0: 0.010256297732270069,
        100000.0: 5.6418958351954685e-06,
    },
    "ndtr": {
        -37.0: 5.725571222524577e-300,
        -10.0: 7.619853024160525e-24,
        -2.0: 0.02275013194817921,
        -1.3: 0.09680048458561033,
        -0.4: 0.3445782583896758,
        0.6: 0.7257468822499265,
        1.5: 0.9331927987311419,
        4.0: 0.9999683287581669,
    },
    "log_ndtr": {
        -10000.0: -50000010.12927891,
        -50.0: -1254.8313611394199,
        -10.0: -53.23128515051247,
        -1.01: -1.8563130623431785,
        -0.9: -1.6924928065613383,
        0.5: -0.3689464152886564,
        3.0: -0.0013508099647481938,
        6.0: -9.865876455243758e-10,
    },
    "i0": {
        1e-05: 1.000000000025,
        0.7: 1.1263030183068092,
        -3.0: 4.8807925858650245,
        7.9: 389.406283282158,
        8.1: 469.5006067101215,
        40.0: 1.48947747934199e16,
        -700.0: 1.5295933476718737e302,
    },
    "i1": {
        1e-05: 5.0000000000625004e-06,
        0.7: 0.37187967777700864,
        -3.0: -3.9533702174026093,
        7.9: 363.8539440845084,
        8.1: 439.48430891035844,
        40.0: 1.4707396163259352e16,
        -700.0: -1.5285003902339006e302,
    },
    "i0e": {
        0.3: 0.7575806251825479,
        7.9: 0.14436986414104191,
        8.1: 0.14251180948829528,
        1000.0: 0.012617240455891257,
    },
    "i1e": {
        0.3: 0.1123775606398388,
        -7.9: -0.13489649943989376,
        8.1: 0.13340068832583662,
        1000.0: 0.012610930256928629,
    },
    "sinc": {
        1e-09: 1.0,
        0.3: 0.8583936913341398,
        0.9999: 0.00010000999935499043,
        -2.5: 0.12732395447351627,
        101.25: -0.0022230032497706324,
    },
    "logit": {
        1e-300: -690.7755278982137,
        0.1: -2.197224577336219,
        0.3: -0.8472978603872037,
        0.4999999: -4.000000000115076e-07,
        0.51: 0.0400053346136992,
        0.8: 1.3862943611198908,
        0.9999999999990905: 27.725887222396903,
    },
    "entr": {
        1e-300: 6.9077552789821376e-298,
        0.2: 0.3218875824868201,
        0.99: 0.009949832494966436,
        3.0: -3.295836866004329,
    },
}
POLYGAMMA = {
    1: {
        0.001: 1000001.6425331958,
        0.6: 3.6362096709023577,
        1.0: 1.6449340668482264,
        4.5: 0.24872510303901038,
        30.0: 0.033895060357739946,
        -0.4: 9.886209670902357,
        -3.3: 14.817739525515929,
    },
    2: {
        0.001: -2000000002.3976321,
        0.6: -9.96283153714346,
        1.0: -2.4041138063191885,
        4.5: -0.061556821321027695,
        30.0: -0.0011487652037286,
        -0.4: 21.287168462856535,
        -3.3: 68.76944547748523,
    },
    5: {
        0.001: 1.1999999999999998e20,
        0.6: 2579.6319077684693,
        1.0: 122.0811674381339,
        4.5: 0.0217702556694113,
        30.0: 1.0726994936161623e-06,
        -0.4: 31876.50690776846,
        -3.3: 165660.14652917208,
    },
}
ZETA = {
    (1.01, 1.0): 100.57794333849678,
    (2.0, 1.0): 1.6449340668482264,
    (2.5, 0.3): 21.069239202247726,
    (7.0, 3.5): 0.0001921640382639378,
    (30.0, 12.0): 4.6418371139547267e-33,
}
ATTRIBUTES = {"logit": {"eps": -1.0}, "polygamma": {"n": 2}}
# Units in the last place: the functions claim a few.
ULPS = {"digamma": 20, "lgamma": 20}


def units_off(result, exact):
    """Distance from the rounded exact values in units in the last place."""
    expected = np.asarray(exact).astype(result.dtype)
    gap = np.abs(result.astype(np.longdouble) - np.asarray(exact, np.longdouble))
    return (gap / np.spacing(np.abs(expected))).astype(float)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values(name, dtype):
    x = np.array(list(REFERENCES[name]))
    exact = np.array(list(REFERENCES[name].values()))
    if dtype == "float32":  # only where rounding the operand changes nothing but the last digits
        same = x == x.astype(dtype)
        x, exact = x[same], exact[same]
    result = run_op(name, x.astype(dtype), tolerance=1e-15, **ATTRIBUTES.get(name, {}))
    limit = ULPS.get(name, 8) if dtype == "float64" else 3
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    assert (result[~finite] == rounded[~finite]).all()
    off = units_off(result[finite], exact[finite])
    assert off.max(initial=0) <= limit, dict(zip(x[finite], off, strict=True))


def test_polygamma_and_zeta():
    for n, values in POLYGAMMA.items():
        result = run_op("polygamma", np.array(list(values)), n=n)
        np.testing.assert_allclose(result, list(values.values()), rtol=2e-14)
    s, q = np.array(list(ZETA)).T
    np.testing.assert_allclose(run_op("zeta", s, q), list(ZETA.values()), rtol=2e-15)
    with pytest.raises(AttributeTypeError, match="order must be at least 1"):
        run_op("polygamma", np.ones(2), n=0)


def test_lgamma_against_the_c_library():
    x = np.concatenate([np.linspace(0.01, 12, 997), np.linspace(13, 1e6, 97)])
    result = run_op("lgamma", x)
    exact = np.array([math.lgamma(v) for v in x])
    np.testing.assert_allclose(result, exact, rtol=1e-14, atol=2e-15)


def test_inverses():
    y = np.linspace(-0.999, 0.999, 401)
    back = [math.erf(v) for v in run_op("erfinv", y)]
    np.testing.assert_allclose(back, y, rtol=1e-15, atol=1e-16)
    p = np.linspace(0.001, 0.999, 401)
    np.testing.assert_allclose(run_op("ndtr", run_op("ndtri", p)), p, rtol=2e-15)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("lgamma", [0, -1, -2, np.inf, -np.inf, 1, 2, np.nan], [np.inf] * 5 + [0, 0, np.nan]),
        ("digamma", [0.0, -0.0, -1, -3, np.inf], [-np.inf, np.inf, np.nan, np.nan, np.inf]),
        ("erfinv", [-1, 1, 1.5, 0, np.nan], [-np.inf, np.inf, np.nan, 0, np.nan]),
        ("ndtri", [0, 1, -0.1, 1.1, 0.5], [-np.inf, np.inf, np.nan, np.nan, 0]),
        ("erfcx", [0, np.inf, -np.inf, -30], [1, 0, np.inf, np.inf]),
        ("ndtr", [-np.inf, 0, np.inf, np.nan], [0, 0.5, 1, np.nan]),
        ("log_ndtr", [-np.inf, np.inf], [-np.inf, 0]),
        ("i0", [0, np.inf, -np.inf, np.nan], [1, np.inf, np.inf, np.nan]),
        ("i1", [0, np.inf, -np.inf], [0, np.inf, -np.inf]),
        ("i0e", [0, np.inf], [1, 0]),
        ("i1e", [0, -np.inf], [0, 0]),
        ("sinc", [0, 1, -2, 1e15], [1, 0, 0, 0]),
        ("entr", [0, -1, np.inf, np.nan], [0, -np.inf, -np.inf, np.nan]),
        ("logit", [0, 1, -1, 2], [-np.inf, np.inf, np.nan, np.nan]),
        ("frac", [2.75, -2.75, 3], [0.75, -0.75, 0]),
        ("signbit", [-0.0, 0.0, -np.inf, 1], [True, False, True, False]),
        ("isposinf", [np.inf, -np.inf, np.nan], [True, False, False]),
        ("isneginf", [np.inf, -np.inf, np.nan], [False, True, False]),
    ],
)
def test_special_values(name, given, expected):
    out = run_op(name, np.array(given, dtype=np.float64), **ATTRIBUTES.get(name, {}))
    np.testing.assert_array_equal(out, expected)


def test_logit_with_a_limit():
    x = np.array([-0.5, 0.01, 0.3, 0.98, 1.5])
    z = np.clip(x, 0.1, 0.9)
    np.testing.assert_allclose(run_op("logit", x, eps=0.1), np.log(z / (1 - z)), rtol=1e-14)
    gradcheck_op("logit", [np.array([0.02, 0.3, 0.95])], {"eps": 0.1})


def test_logarithms_are_exact_at_powers_of_the_base():
    for dtype, low, high in (("float64", -1074, 1023), ("float32", -149, 127)):
        powers = np.arange(low, high + 1)
        x = np.ldexp(np.ones(powers.size, dtype), powers)
        np.testing.assert_array_equal(run_op("log2", x), powers)
    powers = np.arange(-300, 301)
    np.testing.assert_array_equal(
        run_op("log10", np.array([float(f"1e{k}") for k in powers])), powers
    )


GRADIENTS = ["lgamma", "digamma", "erfinv", "ndtri", "erfcx", "ndtr", "log_ndtr", "i0", "i0e", "i1"]


def test_gradients_of_zeta_and_at_zero():
    gradcheck_op("zeta", [np.array([1.5, 3.0]).astype(np.float64), np.array([0.7, 4.0])])
    gradcheck_op("sinc", [np.array([0.0, 0.02, -0.5, 3.0])], tolerance=1e-7)
    gradcheck_op("i1", [np.array([0.0])], tolerance=1e-7)


@pytest.mark.parametrize("name", [*GRADIENTS, "i1e"])
def test_against_mpmath(name):
    mpmath = pytest.importorskip("mpmath")
    functions = {
        "lgamma": mpmath.loggamma,
        "digamma": mpmath.digamma,
        "erfinv": mpmath.erfinv,
        "ndtri": lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1),
        "erfcx": lambda v: mpmath.exp(v * v) * mpmath.erfc(v),
        "ndtr": lambda v: mpmath.erfc(-v / mpmath.sqrt(2)) / 2,
        "log_ndtr": lambda v: mpmath.log(mpmath.erfc(-v / mpmath.sqrt(2)) / 2),
        "i0": lambda v: mpmath.besseli(0, v),
        "i0e": lambda v: mpmath.besseli(0, v) * mpmath.exp(-abs(v)),
        "i1": lambda v: mpmath.besseli(1, v),
        "i1e": lambda v: mpmath.besseli(1, v) * mpmath.exp(-abs(v)),
    }
    with mpmath.workdps(40):
        x = np.linspace(*ir.op_named(name).domain, 61) + 0.0031
        x = x[x < ir.op_named(name).domain[1]]
        exact = [float(functions[name](mpmath.mpf(v))) for v in x]
    assert units_off(run_op(name, x), exact).max() <= 8
