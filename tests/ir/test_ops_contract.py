"""The contraction primitive against NumPy's einsum."""

import numpy as np
import pytest
from graphs import sample

import braze.ir as ir
from braze.ir.dtypes import ALL
from braze.ir.ops.contract import parse_equation

CONTRACT = ir.op_named("contract")
CASES = [
    ("mk,kn->mn", (3, 4), (4, 5)),
    ("mk,nk->nm", (3, 4), (5, 4)),
    ("bmk,bkn->bmn", (2, 3, 4), (2, 4, 5)),
    ("kmb,nbk->bnm", (4, 3, 2), (5, 2, 4)),
    ("k,k->", (4,), (4,)),
    ("m,n->nm", (3,), (5,)),
    ("ab,ab->ba", (3, 4), (3, 4)),
    (",mn->mn", (), (2, 3)),
    (",->", (), ()),
    ("nhwklc,klco->nhwo", (2, 2, 2, 2, 1, 3), (2, 1, 3, 2)),
    ("nhwklc,nhwo->klco", (2, 2, 2, 2, 1, 3), (2, 2, 2, 2)),
    ("mk,kn->mn", (3, 0), (0, 5)),
    ("mk,kn->mn", (0, 3), (3, 5)),
]


@pytest.mark.parametrize(("equation", "left", "right"), CASES)
@pytest.mark.parametrize("dtype", [d for d in ALL if d is not ir.bool_], ids=lambda d: d.name)
def test_it_is_einsum(equation, left, right, dtype):
    generator = np.random.default_rng(0)
    types = [ir.tensor_type(dtype, left), ir.tensor_type(dtype, right)]
    (expected,) = CONTRACT.result_types(types, {"equation": equation})
    x, y = (sample(generator, t) for t in types)
    found = CONTRACT.evaluate(x, y, equation=equation)
    assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected
    wide = np.float64 if dtype.is_floating_point else x.dtype
    exact = np.einsum(equation, x.astype(wide), y.astype(wide)).astype(x.dtype)
    tolerance = {"f64": 1e-12, "f32": 1e-5, "f16": 2e-3, "bf16": 2e-2}.get(dtype.name, 0)
    np.testing.assert_allclose(
        found.astype(np.float64), exact.astype(np.float64), rtol=tolerance, atol=tolerance
    )


def test_operands_may_be_views():
    x = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    y = np.broadcast_to(np.arange(3.0), (5, 3))
    found = CONTRACT.evaluate(x, y, equation="abc,nc->nab")
    np.testing.assert_array_equal(found, np.einsum("abc,nc->nab", x, y))


def test_narrow_floats_accumulate_in_f32():
    ones = np.ones((1, 4096), np.float16)
    assert CONTRACT.evaluate(ones, ones, equation="mk,nk->mn") == 4096


@pytest.mark.parametrize(
    "equation",
    [
        "mk,kn",
        "mk->m",
        "mk,kn->mn->m",
        "m1,1n->mn",
        "mm,mn->n",
        "mk,kn->mq",
        "mk,n->mn",
        "mk,nk->m",
    ],
)
def test_malformed_equations(equation):
    with pytest.raises(ir.ShapeError, match=r"^\[contract\] malformed equation"):
        parse_equation(equation)


@pytest.mark.parametrize(
    ("types", "equation", "error", "message"),
    [
        (
            ("f32", (3, 4), "f32", (8, 2)),
            "mk,kn->mn",
            ir.ShapeError,
            "[contract] sizes of 'k' in mk,kn->mn differ: f32[3,4] and f32[8,2] (4 != 8)",
        ),
        (
            ("f32", (3, 4), "f32", (4,)),
            "mk,kn->mn",
            ir.ShapeError,
            "[contract] mk,kn->mn does not fit the ranks of f32[3,4] and f32[4]",
        ),
        (
            ("f32", (3, 4), "f64", (4, 2)),
            "mk,kn->mn",
            ir.DTypeError,
            "[contract] operands differ in dtype: f32[3,4], f64[4,2]",
        ),
        (
            ("bool", (3, 4), "bool", (4, 2)),
            "mk,kn->mn",
            ir.DTypeError,
            "[contract] needs numeric operands, given bool[3,4] and bool[4,2]",
        ),
    ],
)
def test_errors(types, equation, error, message):
    left, left_shape, right, right_shape = types
    x = ir.tensor_type(ir.dtypes.dtype_named(left), left_shape)
    y = ir.tensor_type(ir.dtypes.dtype_named(right), right_shape)
    with pytest.raises(error) as caught:
        CONTRACT.result_types([x, y], {"equation": equation})
    assert str(caught.value) == message
