"""The elementwise primitives: types, values at the edges, gradients, errors."""

import math

import numpy as np
import pytest
from graphs import sample

import braze.ir as ir
from braze.ir.dtypes import FLOATS, INTEGERS, REAL

OPS = [op for op in ir.all_ops() if op.is_pointwise]
BY_NAME = {op.name: op for op in OPS}
ANY = set(REAL)
NUMERIC = ANY - {ir.bool_}
FLOAT, INTEGER = set(FLOATS), set(INTEGERS)
ACCEPTED = {
    "add": ANY,
    "sub": NUMERIC,
    "mul": ANY,
    "floor_divide": NUMERIC,
    "remainder": NUMERIC,
    "maximum": ANY,
    "minimum": ANY,
    "neg": NUMERIC,
    "abs": NUMERIC,
    "sign": NUMERIC,
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "where", "cast"), ANY),
    **dict.fromkeys(
        ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"), INTEGER | {ir.bool_}
    ),
    **dict.fromkeys(("shift_left", "shift_right", "gcd"), INTEGER),
    "bitcast": ANY,  # to itself
}


def attributes_of(op, dtype):
    return {"dtype": dtype} if "dtype" in op.attributes else {}


def operand_types(op, dtype, shapes):
    dtypes = [ir.bool_ if name == "condition" else dtype for name in op.operands]
    return [ir.tensor_type(d, s) for d, s in zip(dtypes, shapes, strict=False)]


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
@pytest.mark.parametrize("op", OPS, ids=str)
def test_types_and_values_agree(op, dtype):
    """What is accepted runs, and gives the shape and dtype that the rule says."""
    generator = np.random.default_rng(0)
    for shapes in (((2, 3),) * 3, ((), (), ()), ((2, 1), (3,), (1, 1)), ((0, 3), (1, 3), (3,))):
        types = operand_types(op, dtype, shapes)
        attributes = attributes_of(op, dtype)
        if dtype not in ACCEPTED.get(op.name, FLOAT):
            with pytest.raises(ir.DTypeError, match=rf"^\[{op.name}\]"):
                op.result_types(types, attributes)
            continue
        (expected,) = op.result_types(types, attributes)
        operands = [sample(generator, t, op.domain) for t in types]
        found = np.asarray(op.evaluate(*operands, **attributes))
        assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected


def value(name, *operands, **attributes):
    return BY_NAME[name].evaluate(*operands, **attributes)


I8 = np.array([-128, -7, -1, 0, 3, 127], np.int8)


def test_integers_wrap_around():
    assert value("add", I8, np.int8(1)).tolist() == [-127, -6, 0, 1, 4, -128]
    assert value("neg", I8).tolist() == [-128, 7, 1, 0, -3, -127]
    assert value("abs", I8).tolist() == [-128, 7, 1, 0, 3, 127]
    assert value("mul", I8, np.int8(2)).tolist() == [0, -14, -2, 0, 6, -2]
    assert value("sub", np.array([0, 5], np.uint8), np.uint8(6)).tolist() == [250, 255]


def test_integer_division_rounds_down_and_survives_zero():
    y = np.array([0, 2, -2, 5, -5], np.int32)
    x = np.full(5, -7, np.int32)
    assert value("floor_divide", x, y).tolist() == [0, -4, 3, -2, 1]
    assert value("remainder", x, y).tolist() == [0, 1, -1, 3, -2]
    smallest = np.array([-(2**31)], np.int32)
    assert value("floor_divide", smallest, np.int32(-1)).tolist() == [-(2**31)]
    assert value("remainder", smallest, np.int32(-1)).tolist() == [0]


def test_float_remainder_has_the_sign_of_the_divisor():
    x, y = np.array([5.5, -5.5, 5.5, -5.5, 1.0]), np.array([2.0, 2.0, -2.0, -2.0, np.inf])
    assert value("remainder", x, y).tolist() == [a % b for a, b in zip(x, y, strict=True)]
    assert np.isnan(value("remainder", x, np.zeros(5))).all()


def test_shifts_take_the_count_modulo_the_width():
    x = np.array([-128, 65, 1], np.int8)
    assert value("shift_left", x, np.int8(1)).tolist() == [0, -126, 2]
    assert value("shift_left", x, np.int8(9)).tolist() == [0, -126, 2]
    assert value("shift_right", x, np.int8(1)).tolist() == [-64, 32, 0]
    assert value("shift_right", x.view(np.uint8), np.uint8(1)).tolist() == [64, 32, 0]
    assert value("shift_right", x, np.int8(-7)).tolist() == [-64, 32, 0]


def test_bools_are_logic():
    x, y = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for name, expected in {
        "add": x | y,
        "mul": x & y,
        "maximum": x | y,
        "minimum": x & y,
        "bitwise_xor": x ^ y,
        "lt": ~x & y,
        "ge": x | ~y,
    }.items():
        assert value(name, x, y).tolist() == expected.tolist()
    assert value("bitwise_not", x).tolist() == [True, True, False, False]


NAN, INF = np.nan, np.inf


def test_nan_and_infinity():
    x, y = np.array([NAN, 1.0, NAN, INF]), np.array([1.0, NAN, NAN, -INF])
    np.testing.assert_array_equal(value("maximum", x, y), [NAN, NAN, NAN, INF])
    np.testing.assert_array_equal(value("minimum", x, y), [NAN, NAN, NAN, -INF])
    np.testing.assert_array_equal(value("add", x, y), [NAN] * 4)
    assert value("eq", x, x).tolist() == [False, True, False, True]
    assert value("ne", x, x).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(value("sign", np.array([NAN, -INF, -0.0, 5])), [0, -1, 0, 1])
    np.testing.assert_array_equal(
        value("div", np.array([1.0, -1, 0]), np.zeros(3)), [INF, -INF, NAN]
    )
    np.testing.assert_array_equal(value("log", np.array([0.0, -1, INF])), [-INF, NAN, INF])
    np.testing.assert_array_equal(value("sqrt", np.array([-1.0, INF, 0])), [NAN, INF, 0])
    np.testing.assert_array_equal(value("exp", np.array([-INF, 1e4, NAN])), [0, INF, NAN])


def test_powers():
    x = np.array([-2.0, -2, -2, 0, 0, 0, 5, NAN, 1])
    y = np.array([3.0, 0.5, -1, 2, 0, -1, 0, 0, NAN])
    np.testing.assert_array_equal(value("pow", x, y), [-8, NAN, -0.5, 0, 1, INF, 1, 1, 1])


def test_rounding_is_to_even():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.7])
    assert value("round", x).tolist() == [-2, -2, -0, 0, 2, 2, 3]
    assert value("trunc", x).tolist() == [-2, -1, -0, 0, 1, 2, 2]
    assert value("floor", x).tolist() == [-3, -2, -1, 0, 1, 2, 2]
    assert value("ceil", x).tolist() == [-2, -1, -0, 1, 2, 3, 3]


def test_erf_is_accurate():
    generator = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-7, 7, 20001), generator.normal(size=5000)])
    x = np.concatenate([x, 10.0 ** np.linspace(-310, 3, 500), [0.46875, 4.0, -4.0]])
    expected = np.array([math.erf(v) for v in x])
    found = value("erf", x)
    assert np.abs(found - expected).max() < 4e-16
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    np.testing.assert_array_equal(value("erf", np.array([INF, -INF, NAN])), [1, -1, NAN])
    assert np.signbit(value("erf", np.array([-0.0])))[0]
    half = value("erf", np.array([0.5], np.float16))
    assert half.dtype == np.float16 and half[0] == np.float16(math.erf(0.5))


def test_casts():
    x = np.array([-1.9, 0.0, 0.3, 2.9], np.float32)
    assert value("cast", x, dtype=ir.i32).tolist() == [-1, 0, 0, 2]
    assert value("cast", x, dtype=ir.bool_).tolist() == [True, False, True, True]
    assert value("cast", np.array([True, False]), dtype=ir.f16).tolist() == [1, 0]
    assert value("cast", np.array([300, -1]), dtype=ir.u8).tolist() == [44, 255]
    assert value("cast", np.array([1e300]), dtype=ir.f32).tolist() == [INF]
    # bf16 rounds to nearest, ties to even: 1 + 2**-8 lies halfway.
    assert value("cast", np.array([1 + 2**-8, 1 + 3 * 2**-8]), dtype=ir.bf16).tolist() == [
        1,
        1.015625,
    ]


def test_bitcasts():
    assert value("bitcast", np.array([1.0], np.float32), dtype=ir.i32).tolist() == [0x3F800000]
    strided = np.arange(6, dtype=np.float32)[::2]
    assert value("bitcast", strided, dtype=ir.u32).view(np.float32).tolist() == [0, 2, 4]
    types = [ir.tensor_type(ir.f32, (2,))]
    with pytest.raises(ir.DTypeError, match=r"\[bitcast\] f32 and f64 differ in width"):
        BY_NAME["bitcast"].result_types(types, {"dtype": ir.f64})
    with pytest.raises(
        ir.DTypeError, match=r"a bool has no bit pattern of its own: u8\[\] to bool"
    ):
        BY_NAME["bitcast"].result_types([ir.tensor_type(ir.u8)], {"dtype": ir.bool_})


# Gradients where the formula would give nan -------------------------------------------------------


def gradients_of(name, *operands, second=()):
    """The gradients of the sum of the results, without comparison."""
    from gradients import backward

    b = ir.Builder("g")
    values = [b.input(ir.tensor_type(ir.f64, np.shape(o))) for o in operands]
    result = getattr(b, name)(*values)
    ones = b.expand(b.constant(value=1.0, dtype=ir.f64), shape=result.shape)
    found = backward(b, {result: ones}, values)
    return [a.tolist() for a in ir.interpret(b.finish(found), [np.array(o) for o in operands])]


def test_the_gradient_of_powers_of_zero():
    """PyTorch's: no nan where the function is flat."""
    x, y = [0.0, 0.0, 0.0, 3.0, 0.0], [2.0, 1.0, 0.0, 0.0, 0.5]
    base, exponent = gradients_of("pow", x, y)
    assert base == [0, 1, 0, 0, math.inf]
    assert exponent == [0, 0, 0, math.log(3), 0]


def test_ties_share_the_gradient():
    x, y = [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]
    assert gradients_of("maximum", x, y) == [[0, 0.5, 1], [1, 0.5, 0]]
    assert gradients_of("minimum", x, y) == [[1, 0.5, 0], [0, 0.5, 1]]


def test_gradients_of_steps_are_zero():
    for name in ("floor", "ceil", "trunc", "round", "sign"):
        assert gradients_of(name, [0.3, -1.7]) == [[0, 0]]


# Errors -------------------------------------------------------------------------------------------


def types(*texts):
    made = []
    for text in texts:
        name, _, rest = text.partition("[")
        dims, _, device = rest.partition("]")
        shape = tuple(int(d) for d in dims.split(",") if d)
        made.append(ir.tensor_type(ir.dtypes.dtype_named(name), shape, device.strip("@") or "cpu"))
    return made


@pytest.mark.parametrize(
    ("name", "operands", "error", "message"),
    [
        (
            "add",
            types("f32[2,3]", "f32[4]"),
            ir.ShapeError,
            "[add] shapes do not broadcast: f32[2,3], f32[4] (3 != 4 at dimension -1)",
        ),
        (
            "mul",
            types("f32[2]", "f64[2]"),
            ir.DTypeError,
            "[mul] operands differ in dtype: f32[2], f64[2]",
        ),
        (
            "eq",
            types("f32[2]", "f32[2]@cuda:0"),
            ir.DeviceError,
            "Expected all tensors to be on the same device, but found at least two devices, "
            "cuda:0 and cpu!",
        ),
        (
            "exp",
            types("i64[2]"),
            ir.DTypeError,
            "[exp] needs a floating-point operand, given i64[2]",
        ),
        (
            "neg",
            types("bool[2]"),
            ir.DTypeError,
            "[neg] needs a numeric operand, given bool[2]; cast it first",
        ),
        (
            "bitwise_and",
            types("f32[]", "f32[]"),
            ir.DTypeError,
            "[bitwise_and] needs integer or bool operands, given f32[]",
        ),
        (
            "shift_left",
            types("bool[]", "bool[]"),
            ir.DTypeError,
            "[shift_left] needs integer operands, given bool[]",
        ),
        (
            "where",
            types("f32[2]", "f32[2]", "f32[2]"),
            ir.DTypeError,
            "[where] the condition must be bool, given f32[2]",
        ),
        (
            "where",
            types("bool[2]", "f32[2]", "f32[3]"),
            ir.ShapeError,
            "[where] shapes do not broadcast: bool[2], f32[2], f32[3] (2 != 3 at dimension -1)",
        ),
    ],
)
def test_errors(name, operands, error, message):
    with pytest.raises(error) as caught:
        BY_NAME[name].result_types(operands, {})
    assert str(caught.value) == message
