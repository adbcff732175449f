"""The reduction primitives."""

import numpy as np
import pytest
from gradients import gradcheck_op
from graphs import sample

import braze.ir as ir
from braze.ir.dtypes import ALL, FLOATS

OPS = {op.name: op for op in ir.all_ops() if op.is_reduce}
NUMERIC = set(ALL) - {ir.bool_}
ACCEPTED = {
    "sum": NUMERIC,
    "prod": NUMERIC,
    "amax": set(ALL),
    "amin": set(ALL),
    "any": {ir.bool_},
    "all": {ir.bool_},
    "argmax": set(ALL),
    "argmin": set(ALL),
}
CASES = [((4,), (0,)), ((2, 3, 4), (1,)), ((2, 3, 4), (0, 2)), ((3, 1), (1,)), ((2, 3), ())]


def run(name, x, dims, keepdim=False):
    return OPS[name].evaluate(np.asarray(x), dims=dims, keepdim=keepdim)


def test_all_are_covered():
    assert set(OPS) == set(ACCEPTED)


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("op", OPS.values(), ids=str)
def test_types_and_values_agree(op, dtype):
    generator = np.random.default_rng(0)
    for shape, dims in CASES:
        for keepdim in (False, True):
            attributes = {"dims": dims, "keepdim": keepdim}
            x = ir.tensor_type(dtype, shape)
            if op.name.startswith("arg") and len(dims) != 1:
                continue
            if dtype not in ACCEPTED[op.name]:
                with pytest.raises(ir.DTypeError, match=rf"^\[{op.name}\] needs a "):
                    op.result_types([x], attributes)
                continue
            (expected,) = op.result_types([x], attributes)
            found = op.evaluate(sample(generator, x), **attributes)
            assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected


@pytest.mark.parametrize(
    "x", [[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [-2.0, 5.0, 3.0], [0.0, 0.0, 0.0]], ids=str
)
def test_the_gradient_of_products_with_zeros(x):
    gradcheck_op("prod", [np.array(x)], {"dims": (0,), "keepdim": False})
    gradcheck_op("prod", [np.array([x, [1.0, 2.0, 0.0]])], {"dims": (1,), "keepdim": True})


def test_equal_extrema_share_the_gradient():
    b = ir.Builder("ties")
    x = b.input(ir.tensor_type(ir.f64, (2, 3)))
    g = b.input(ir.tensor_type(ir.f64, (2,)))
    out = b.amax(x, dims=(1,), keepdim=False)
    op, attributes = OPS["amax"], {"dims": (1,), "keepdim": False}
    values = {"operand": [x], "result": [out]}
    gradient = ir.gradient_of(b, op, 0, [x.type], attributes, [g], lambda k, i: values[k][i])
    (found,) = ir.interpret(
        b.finish([gradient]), [np.array([[1.0, 3, 3], [5, 0, 0]]), np.array([6.0, 2.0])]
    )
    assert found.tolist() == [[0, 3, 3], [2, 0, 0]]


@pytest.mark.parametrize("op", list(OPS.values()), ids=str)
def test_several_dimensions_at_once_are_one_after_the_other(op):
    if op.name.startswith("arg"):
        return
    dtype = ir.bool_ if op.name in ("any", "all") else ir.f64
    x = sample(np.random.default_rng(3), ir.tensor_type(dtype, (2, 3, 4)))
    both = op.evaluate(x, dims=(0, 2), keepdim=True)
    step = op.evaluate(op.evaluate(x, dims=(2,), keepdim=True), dims=(0,), keepdim=True)
    np.testing.assert_allclose(both.astype(float), step.astype(float), rtol=1e-12)


def test_nan_wins():
    x = np.array([[1.0, np.nan, 3.0], [np.nan, np.inf, np.nan]])
    assert np.isnan(run("amax", x, (1,))).all() and np.isnan(run("amin", x, (1,))).all()
    assert run("argmax", x, (1,)).tolist() == [1, 0]
    assert run("argmin", x, (1,)).tolist() == [1, 0]


def test_the_first_extremum_is_named():
    x = np.array([[2, 7, 7], [1, 1, 5]])
    assert run("argmax", x, (1,)).tolist() == [1, 2]
    assert run("argmin", x, (1,)).tolist() == [0, 0]
    assert run("argmax", x, (0,), keepdim=True).tolist() == [[0, 0, 0]]


def test_empty_reductions():
    x = np.zeros((0, 3))
    assert run("sum", x, (0,)).tolist() == [0, 0, 0]
    assert run("prod", x, (0,)).tolist() == [1, 1, 1]
    assert run("any", x.astype(bool), (0,)).tolist() == [False] * 3
    assert run("all", x.astype(bool), (0,)).tolist() == [True] * 3
    for name in ("amax", "amin", "argmax", "argmin"):
        message = rf"\[{name}\] a reduction over an empty dimension has no value: f32\[0,3\]"
        with pytest.raises(ir.ShapeError, match=message):
            OPS[name].result_types(
                [ir.tensor_type(ir.f32, (0, 3))], {"dims": (0,), "keepdim": False}
            )
        OPS[name].result_types([ir.tensor_type(ir.f32, (0, 3))], {"dims": (1,), "keepdim": False})


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.bits == 16], ids=lambda d: d.name)
def test_narrow_floats_are_summed_in_f32(dtype):
    x = np.full(4096, 1.0).astype(dtype.numpy)
    assert float(run("sum", x, (0,))) == 4096  # in bf16 itself, one by one, 256
    assert float(run("prod", np.array([1e-3, 1e-3, 1e3, 1e3], dtype.numpy), (0,))) == pytest.approx(
        1, rel=2e-2
    )


def test_integer_sums_keep_their_dtype_and_wrap():
    assert run("sum", np.full(3, 100, np.int8), (0,)).tolist() == 44
    assert run("sum", np.full(3, 100, np.uint8), (0,)).dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "dims", "error", "message"),
    [
        ("sum", (2,), ir.DimensionError, "[sum] dimension 2 is outside f32[2,3]"),
        ("sum", (-1,), ir.DimensionError, "[sum] dimension -1 is outside f32[2,3]"),
        ("prod", (1, 1), ir.ShapeError, "[prod] a dimension appears twice in (1, 1)"),
        ("argmax", (0, 1), ir.ShapeError, "[argmax] takes one dimension, given (0, 1)"),
        (
            "any",
            (0,),
            ir.DTypeError,
            "[any] needs a bool operand, given f32[2,3]; cast it first",
        ),
    ],
)
def test_errors(name, dims, error, message):
    x = ir.tensor_type(ir.f32, (2, 3))
    with pytest.raises(error) as caught:
        OPS[name].result_types([x], {"dims": dims, "keepdim": False})
    assert str(caught.value) == message
