"""The scan primitives, and logcumsumexp, which is made of them."""

import math

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op
from graphs import sample
from hypothesis import given, settings
from hypothesis import strategies as st

import braze.ir as ir
from braze.ir.dtypes import FLOATS, REAL

OPS = {op.name: op for op in ir.all_ops() if op.is_scan}
PLAIN = ("cumsum", "cumprod", "cummax", "cummin", "linear_recurrence")
CUT = PLAIN[:4]
UFUNC = {"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum, "cummin": np.minimum}
CASES = [((6,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 5, 3), 1), ((1,), 0), ((2, 0), 1), ((0, 3), 1)]


def run(name, *operands, dim=0, reverse=False, **attributes):
    return OPS[name].evaluate(*operands, dim=dim, reverse=reverse, **attributes)


def accepts(name, dtype):
    if name.startswith("cumm"):
        return True
    return dtype.is_floating_point if name == "linear_recurrence" else dtype is not ir.bool_


def test_all_are_covered():
    assert set(OPS) == {*PLAIN, *(f"{n}_{form}" for n in CUT for form in ("ends", "from"))}


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
@pytest.mark.parametrize("name", PLAIN)
def test_types_and_values_agree(name, dtype):
    op, generator = OPS[name], np.random.default_rng(0)
    for shape, dim in CASES:
        types = [ir.tensor_type(dtype, shape) for _ in op.operands]
        for reverse in (False, True):
            attributes = {"dim": dim, "reverse": reverse}
            if not accepts(name, dtype):
                with pytest.raises(ir.DTypeError, match=rf"^\[{name}\] needs a "):
                    op.result_types(types, attributes)
                continue
            expected = op.result_types(types, attributes)
            found = op.evaluate(*(sample(generator, t) for t in types), **attributes)
            found = found if isinstance(found, tuple) else (found,)
            made = [ir.tensor_type(ir.from_numpy(a.dtype), a.shape) for a in found]
            assert made == list(expected)
            assert all(array.flags.c_contiguous for array in found)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("reverse", [False, True])
def test_values_are_those_of_numpy(name, reverse):
    for shape, dim in CASES:
        x = np.random.default_rng(1).uniform(-2, 2, shape)
        x = np.round(x) if name.startswith("cumm") else x  # many equal elements
        row = np.flip(x, dim) if reverse else x
        expected = UFUNC[name].accumulate(row, axis=dim)
        expected = np.flip(expected, dim) if reverse else expected
        found = run(name, x, dim=dim, reverse=reverse)
        values = found[0] if name.startswith("cumm") else found
        np.testing.assert_allclose(values, expected, rtol=1e-14)
        if name.startswith("cumm"):
            np.testing.assert_array_equal(np.take_along_axis(x, found[1], dim), values)


def test_the_last_extremum_is_named():
    x = np.array([1, 3, 3, 2, 3, 4, 0])
    assert run("cummax", x)[1].tolist() == [0, 1, 2, 2, 4, 5, 5]
    assert run("cummin", x)[1].tolist() == [0, 0, 0, 0, 0, 0, 6]
    assert run("cummax", x, reverse=True)[1].tolist() == [5, 5, 5, 5, 5, 5, 6]
    assert run("cummax", np.array([True, False, True]))[1].tolist() == [0, 0, 2]


def test_nan_wins_and_the_last_one_is_named():
    nan = np.nan
    x = np.array([1.0, nan, 3.0, nan, 5.0])
    for name in ("cummax", "cummin"):
        values, indices = run(name, x)
        np.testing.assert_array_equal(values, [1, nan, nan, nan, nan])
        assert indices.tolist() == [0, 1, 1, 3, 3]
    values, indices = run("cummax", np.array([-np.inf, -np.inf, np.inf]))
    assert values.tolist() == [-np.inf, -np.inf, np.inf] and indices.tolist() == [0, 1, 2]


def test_a_recurrence():
    a, x = np.array([9.0, 2.0, 0.0, 0.5]), np.array([1.0, 1.0, 3.0, 1.0])
    assert run("linear_recurrence", a, x).tolist() == [1, 3, 3, 2.5]
    assert run("linear_recurrence", a, x, reverse=True).tolist() == [64, 7, 3, 1]
    many = np.random.default_rng(0).uniform(-1, 1, (2, 6, 20))
    single = [run("linear_recurrence", *many[..., k]) for k in range(20)]
    found = run("linear_recurrence", *many)
    np.testing.assert_allclose(found, np.stack(single, 1), rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
def test_sums_are_kept_wider_than_they_are_stored(dtype):
    x = np.full(4096, 1.0).astype(dtype.numpy)
    assert float(run("cumsum", x)[-1]) == 4096  # in bf16 itself, one by one, 256
    tiny = np.array([1.0, *[2.0**-20] * 1000]).astype(dtype.numpy)
    exact = 1.0 + np.arange(1001) * 2.0**-20
    if dtype.bits >= 32:
        assert (run("cumsum", tiny) == exact.astype(dtype.numpy)).all()


def test_integers_keep_their_dtype_and_wrap():
    assert run("cumsum", np.full(3, 100, np.int8)).tolist() == [100, -56, 44]
    assert run("cumprod", np.full(3, 100, np.uint8)).tolist() == [100, 16, 64]


# In blocks ----------------------------------------------------------------------------------------


@given(
    st.sampled_from(CUT),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_blocks_give_the_same_as_a_whole_row(name, shape, data):
    shape = tuple(shape)
    dim = data.draw(st.integers(0, len(shape) - 1))
    reverse = data.draw(st.booleans())
    if shape[dim] < 2:
        return
    length = data.draw(st.integers(1, shape[dim] - 1))
    elements = st.sampled_from([-2.0, -1.0, 0.5, 1.0, 2.0, np.nan])
    count = math.prod(shape)
    x = np.array(data.draw(st.lists(elements, min_size=count, max_size=count)))
    x = x.reshape(shape)
    b = ir.Builder("blocks")
    value = b.input(ir.tensor_type(ir.f64, shape))
    cut = {"dim": dim, "reverse": reverse, "length": length}
    ends = getattr(b, f"{name}_ends")(value, **cut)
    if name.startswith("cumm"):
        best, block = getattr(b, name)(ends[0], dim=dim, reverse=False)
        starts = [best, b.take_along(ends[1], block, dim=dim)]
        made = list(getattr(b, f"{name}_from")(value, *starts, **cut))
    else:
        starts = [getattr(b, name)(ends, dim=dim, reverse=False)]
        made = [getattr(b, f"{name}_from")(value, *starts, **cut)]
    whole = getattr(b, name)(value, dim=dim, reverse=reverse)
    whole = list(whole) if name.startswith("cumm") else [whole]
    graph = b.finish([*made, *whole])
    ir.verify(graph)
    results = ir.interpret(graph, [x])
    for cut_up, at_once in zip(results[: len(made)], results[len(made) :], strict=True):
        np.testing.assert_array_equal(cut_up, at_once)


# Gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients(name, reverse):
    for shape, dim in CASES:
        x = np.random.default_rng(2).uniform(0.5, 2, (2, *shape))[: len(OPS[name].operands)]
        attributes = {"dim": dim, "reverse": reverse}
        gradcheck_op(name, list(x), attributes, second=True, tolerance=1e-5)


@pytest.mark.parametrize(
    "x", [[2.0, 0.0, 3.0, 1.5], [0.0, 0.0, 3.0, 1.0], [-2.0, 5.0, 0.0, 0.0], [0.0] * 4], ids=str
)
def test_the_gradients_of_products_with_zeros(x):
    for reverse in (False, True):
        how = {"dim": 0, "reverse": reverse}
        gradcheck_op("cumprod", [np.array(x)], how, second=True, tolerance=1e-5)


def test_equal_extrema_send_the_gradient_to_the_last():
    b = ir.Builder("ties")
    x, g = (b.input(ir.tensor_type(ir.f64, (4,))) for _ in range(2))
    attributes = {"dim": 0, "reverse": False}
    results = b.cummax(x, **attributes)
    saved = {"operand": [x], "result": results}
    op = OPS["cummax"]
    gradient = ir.gradient_of(
        b, op, 0, [x.type], attributes, [g, None], lambda k, i: saved[k][i]
    )
    values = [np.array([3.0, 3, 1, 4]), np.array([1.0, 2, 4, 8])]
    (found,) = ir.interpret(b.finish([gradient]), values)
    assert found.tolist() == [1, 6, 0, 8]


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "types", "attributes", "error", "message"),
    [
        ("cumsum", "f32", {"dim": 2}, ir.DimensionError, "[cumsum] dimension 2 is outside f32"),
        ("cummax", "f32", {"dim": -1}, ir.DimensionError, "[cummax] dimension -1 is outside f32"),
        (
            "cumprod",
            "bool",
            {"dim": 0},
            ir.DTypeError,
            "[cumprod] needs a numeric operand, given bool[2,3]; cast it first",
        ),
        (
            "cumsum_ends",
            "f32",
            {"dim": 1, "length": 3},
            ir.ShapeError,
            "[cumsum_ends] f32[2,3] has no two blocks of 3 along 1",
        ),
        (
            "cumsum_from",
            "f32",
            {"dim": 1, "length": 2},
            ir.ShapeError,
            "[cumsum_from] starts must be f64[2,1], given f32[2,3]",
        ),
    ],
)
def test_errors(name, types, attributes, error, message):
    x = ir.tensor_type(ir.dtypes.dtype_named(types), (2, 3))
    with pytest.raises(error) as caught:
        OPS[name].result_types([x] * len(OPS[name].operands), {"reverse": False, **attributes})
    assert str(caught.value).startswith(message)


def test_a_recurrence_takes_one_shape():
    x, y = ir.tensor_type(ir.f32, (2, 3)), ir.tensor_type(ir.f32, (3,))
    with pytest.raises(ir.ShapeError, match=r"operands differ in shape: f32\[2,3\], f32\[3\]"):
        OPS["linear_recurrence"].result_types([x, y], {"dim": 0, "reverse": False})


# logcumsumexp -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, dim", CASES)
def test_logcumsumexp(shape, dim):
    x = np.random.default_rng(3).uniform(-5, 5, shape)
    expected = np.log(np.cumsum(np.exp(x), axis=dim))
    np.testing.assert_allclose(run_op("logcumsumexp", x, dim=dim), expected, rtol=1e-12, atol=1e-14)
    gradcheck_op("logcumsumexp", [x], {"dim": dim}, second=True, tolerance=1e-5)


def test_logcumsumexp_neither_overflows_nor_loses_infinities():
    inf = np.inf
    np.testing.assert_allclose(
        run_op("logcumsumexp", np.array([1000.0, 1000.0, -1000.0]), dim=0),
        1000 + np.log([1, 2, 2]),
    )
    x = np.array([-inf, -inf, 0.0, -inf, inf, 1.0, inf])
    assert run_op("logcumsumexp", x, dim=0).tolist() == [-inf, -inf, 0, 0, inf, inf, inf]
    assert np.isnan(run_op("logcumsumexp", np.array([0.0, np.nan, 1.0]), dim=0)).tolist() == [
        False,
        True,
        True,
    ]


def test_the_gradient_of_logcumsumexp_is_finite_beside_infinity():
    b = ir.Builder("infinite")
    x = b.input(ir.tensor_type(ir.f64, (4,)))
    out = b.logcumsumexp(x, dim=0)
    g = b.full(shape=(4,), value=1.0, dtype=ir.f64)
    saved = {"operand": [x], "result": [out]}
    op = ir.op_named("logcumsumexp")
    gradient = ir.gradient_of(b, op, 0, [x.type], {"dim": 0}, [g], lambda k, i: saved[k][i])
    (found,) = ir.interpret(b.finish([gradient]), [np.array([-np.inf, 0.0, -np.inf, 0.0])])
    np.testing.assert_allclose(found, [1, 2.5, 0, 0.5])
