"""The transcendental functions against NumPy at higher precision: accuracy, special values, every
width.
"""

import functools
import math
from math import inf, nan

import numpy as np
import pytest
from native import Native, elementwise, runnable_targets

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import generate
from braze.codegen.llvm.vector_math import FUNCTIONS
from braze.ir.dtypes import DType, f32, f64
from braze.ir.op import op_named
from braze.ir.target import TARGET_NAMES, named_target

TARGETS = [target.name for target in runnable_targets()]
ONE_OPERAND = sorted(n for n in FUNCTIONS if len(op_named(n).operands) == 1)

# Intervals to sweep in both dtypes, and the most units in the last place that a result may be off.
SWEEPS: dict[str, tuple[list[tuple[float, float]], dict[str, float]]] = {
    "exp": ([(-87, 88), (-1, 1)], {"f32": 1.5, "f64": 1.5}),
    "expm1": ([(-20, 88), (-1, 1), (-1e-3, 1e-3)], {"f32": 2, "f64": 3}),
    "log": ([(0, 2), (0.5, 1.5), (0, 1e30)], {"f32": 1.5, "f64": 1.5}),
    "log1p": ([(-0.999, 1), (-1e-3, 1e-3), (-0.9, 1e6)], {"f32": 2, "f64": 1.5}),
    "tanh": ([(-1, 1), (-12, 12), (-1e-3, 1e-3)], {"f32": 3, "f64": 3}),
    "erf": ([(-1.2, 1.2), (-6, 6), (-1e-3, 1e-3)], {"f32": 2, "f64": 2.5}),
    "sin": ([(-4, 4), (-1e5, 1e5), (-1e12, 1e12)], {"f32": 2, "f64": 1.5}),
    "cos": ([(-4, 4), (-1e5, 1e5), (-1e12, 1e12)], {"f32": 2, "f64": 1.5}),
    "atan": ([(-1, 1), (-10, 10), (-1e6, 1e6)], {"f32": 2.5, "f64": 2}),
}
SPECIALS = [0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 0.5, -2.0, 1e-30, -1e-30, 3e38, -3e38]


def run_op(name: str, arrays: list[np.ndarray], target: str, dtype: DType) -> np.ndarray:
    size = arrays[0].size
    program = elementwise(op_named(name), [dtype] * len(arrays), dtype, size)
    native = Native(program, named_target(target))
    (result,) = native.run(arrays, [np.zeros(size, dtype.numpy)])
    return result


def reference(name: str, *arrays: np.ndarray) -> np.ndarray:
    """In extended precision (erf in double precision, by the C library)."""
    if name == "erf":
        return np.array([math.erf(x) for x in arrays[0].tolist()])
    function = {"pow": np.power, "atan": np.arctan, "atan2": np.arctan2}.get(name)
    function = function or getattr(np, name)
    with np.errstate(all="ignore"):
        return function(*(a.astype(np.longdouble) for a in arrays))


def units_off(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place; results that are equal as special values count as 0."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(result.dtype)
        distance = np.abs(result.astype(np.longdouble) - exact) / np.spacing(np.abs(rounded))
        same = (result == rounded) | (np.isnan(result) & np.isnan(rounded))
    return np.where(same & ~np.isfinite(rounded), 0, distance).astype(np.float64)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", ONE_OPERAND)
def test_accuracy(name, dtype, target):
    intervals, limits = SWEEPS[name]
    rng = np.random.default_rng(1)
    points = [rng.uniform(low, high, 3001) for low, high in intervals]
    x = np.concatenate(points).astype(dtype.numpy)
    off = units_off(run_op(name, [x], target, dtype), reference(name, x))
    worst = int(np.argmax(off))
    assert off[worst] <= limits[dtype.name], (x[worst], off[worst])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", ONE_OPERAND)
def test_special_values(name, dtype, target):
    x = np.array(SPECIALS).astype(dtype.numpy)
    result = run_op(name, [x], target, dtype)
    exact = (
        reference(name, np.where(np.isinf(x), nan, x))
        if name in ("sin", "cos")
        else (reference(name, x))
    )
    with np.errstate(all="ignore"):
        expected = exact.astype(dtype.numpy)
    assert np.array_equal(np.isnan(result), np.isnan(expected)), (x, result, expected)
    assert np.array_equal(np.isinf(result), np.isinf(expected)), (x, result, expected)
    zeros = expected == 0
    assert np.array_equal(result == 0, zeros), (x, result, expected)
    signed = zeros | np.isinf(expected)
    assert np.array_equal(np.signbit(result[signed]), np.signbit(expected[signed])), (x, result)
    assert (units_off(result, exact)[np.isfinite(expected)] <= 3).all()


def test_exp_through_its_whole_range():
    """Into the subnormal numbers and to both ends, where the scaling overflows in one step."""
    for dtype, low, high in ((f32, -104.5, 89.0), (f64, -746.0, 710.0)):
        x = np.linspace(low, high, 20011).astype(dtype.numpy)
        result = run_op("exp", [x], TARGETS[-1], dtype)
        exact = reference("exp", x)
        with np.errstate(all="ignore"):
            finite = np.isfinite(exact.astype(dtype.numpy))
        assert np.isinf(result[~finite]).all() and finite[-1] == 0
        assert units_off(result[finite], exact[finite]).max() <= 1.5
        assert result[0] == 0


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_exponentials_are_scaled_by_one_instruction_where_there_is_one(target):
    for dtype, letter in ((f32, "s"), (f64, "d")):
        program = elementwise(op_named("exp"), [dtype], dtype, 64)
        generated = generate(program, named_target(target))
        text = assembly(generated.modules[0][1], named_target(target))
        assert (f"vscalefp{letter}" in text) == (target == "x86-64-v4")


def test_log_of_subnormal_numbers():
    for dtype, smallest in ((f32, 1e-45), (f64, 5e-324)):
        x = np.array([smallest, 3 * smallest, 1000 * smallest], dtype.numpy)
        assert units_off(run_op("log", [x], TARGETS[-1], dtype), reference("log", x)).max() <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_sine_near_multiples_of_pi(dtype, target):
    """Where reduction loses digits; the last is the f64 closest to a multiple of pi/2 (Muller,
    chapter 11).
    """
    multiples = np.arange(1, 2000) * np.pi
    far = np.array([355.0, 103993.0, 1e22, 1e300, 6381956970095103.0 * 2.0**797])
    x = np.concatenate([multiples, far, -far])
    with np.errstate(over="ignore"):
        x = x.astype(dtype.numpy)
    x = x[np.isfinite(x)]
    exact = np.array([_exact_sine(float(v)) for v in x])
    off = units_off(run_op("sin", [x], target, dtype), exact)
    assert off.max() <= 2, x[off.argmax()]


BITS = 2400


def _arctan_of_inverse(n: int) -> int:
    """arctan(1 / n) * 2^BITS."""
    total, term, k = 0, (1 << BITS) // n, 0
    while term:
        total += (-1) ** k * (term // (2 * k + 1))
        term //= n * n
        k += 1
    return total


@functools.cache
def _pi() -> int:
    """pi * 2^BITS, by Machin's formula."""
    return 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239))


def _exact_sine(x: float) -> float:
    """sin(x), with the reduction done exactly in Python's integers."""
    numerator, denominator = x.as_integer_ratio()
    scaled = (numerator << BITS) // denominator
    half_turns = (2 * scaled + _pi()) // (2 * _pi())
    r = (scaled - half_turns * _pi()) / (1 << BITS)
    return -math.sin(r) if half_turns % 2 else math.sin(r)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_pow_accuracy(dtype, target):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(0, 3, 4000), rng.uniform(0, 1e4, 4000)]).astype(dtype.numpy)
    y = rng.uniform(-9, 9, 8000).astype(dtype.numpy)
    off = units_off(run_op("pow", [x, y], target, dtype), reference("pow", x, y))
    assert off.max() <= 1.2, (x[off.argmax()], y[off.argmax()])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_pow_of_integers_is_exact(dtype, target):
    bases, exponents = np.meshgrid(np.arange(-12.0, 13.0), np.arange(0.0, 7.0))
    x, y = (a.reshape(-1).astype(dtype.numpy) for a in (bases, exponents))
    assert np.array_equal(run_op("pow", [x, y], target, dtype), np.power(x, y))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", ["pow", "atan2", "remainder"])
def test_special_pairs(name, dtype, target):
    values = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, inf, -inf, nan, 1e-38, -7.5]
    x, y = (a.reshape(-1).astype(dtype.numpy) for a in np.meshgrid(values, values))
    result = run_op(name, [x, y], target, dtype)
    expected = op_named(name).evaluate(x, y)
    with np.errstate(all="ignore"):
        close = np.abs(result - expected) <= 3 * np.spacing(np.abs(expected))
    same = (result == expected) | (np.isnan(result) & np.isnan(expected)) | close
    zero = expected == 0
    same &= ~zero | (np.signbit(result) == np.signbit(expected))
    wrong = [
        (a, b, r, e) for a, b, r, e, ok in zip(x, y, result, expected, same, strict=True) if not ok
    ]
    assert not wrong


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_remainder_is_exact(dtype, target):
    """Also where the quotient is far larger than the precision."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-10, 10, 2000), rng.uniform(-1, 1, 500) * 1e30])
    y = np.concatenate([rng.uniform(-10, 10, 2000), rng.uniform(-1, 1, 500) * 1e-20])
    tiny = {"f32": 3e-45, "f64": 2e-323}[dtype.name]
    x = np.append(x, [1e38, -3e38, 7 * tiny, 1.0, 1e38 if dtype is f32 else 1e308])
    y = np.append(y, [tiny, 5 * tiny, 2 * tiny, 1e38, 3 * tiny])
    x, y = x.astype(dtype.numpy), y.astype(dtype.numpy)
    assert np.array_equal(run_op("remainder", [x, y], target, dtype), np.remainder(x, y))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_atan2_accuracy(dtype, target):
    rng = np.random.default_rng(4)
    y, x = rng.standard_normal((2, 5000)).astype(dtype.numpy)
    scale = (10.0 ** rng.integers(-15, 15, 5000)).astype(dtype.numpy)
    y, x = np.append(y * scale, dtype.numpy.type(3e38)), np.append(x, dtype.numpy.type(3e38))
    off = units_off(run_op("atan2", [y, x], target, dtype), reference("atan2", y, x))
    assert off.max() <= 2.5


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_no_library_calls(target):
    """Every function compiles for every target, without a call that nobody would resolve."""
    for name in sorted(FUNCTIONS):
        for dtype in (f32, f64):
            op = op_named(name)
            program = elementwise(op, [dtype] * len(op.operands), dtype, 37)
            text = assembly(
                generate(program, named_target(target)).modules[0][1], named_target(target)
            )
            calls = [line.split()[-1] for line in text.splitlines() if _is_call(line)]
            assert all(c.startswith("braze_") for c in calls), (name, dtype, calls)


def _is_call(line: str) -> bool:
    words = line.split()
    return (
        len(words) > 1
        and words[0] in ("call", "callq", "bl", "jmp")
        and not words[1].startswith(".L")
    )
