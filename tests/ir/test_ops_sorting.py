"""sort, topk and searchsorted against Python's own sort, and their gradients."""

import bisect
import math

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op
from hypothesis import given
from hypothesis import strategies as st

import braze.ir as ir
from braze.ir.dtypes import FLOATS, REAL

SORT, TOPK = ir.op_named("sort"), ir.op_named("topk")
SPECIAL = [math.nan, 0.0, -0.0, math.inf, -math.inf, 1.0, -1.0, 2.5, -7.0]


def order_of(row, descending):
    """Positions in order, by Python's sort: nan above everything, ties by position."""
    key = [(float(x) != float(x), 0.0 if x != x else float(x)) for x in row]
    return sorted(range(len(row)), key=key.__getitem__, reverse=descending)


def special_values(dtype, shape, seed=0):
    """Few different values, so that many are equal."""
    rng = np.random.default_rng(seed)
    if dtype.is_floating_point:
        return rng.choice(np.array(SPECIAL), shape).astype(dtype.numpy)
    if dtype.kind == "bool":
        return rng.random(shape) < 0.5
    limits = np.iinfo(dtype.numpy)
    return rng.choice(np.array([limits.min, limits.max, 0, 1, 5], dtype.numpy), shape)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_sort_is_stable_with_nan_largest(dtype, descending):
    x = special_values(dtype, (4, 23, 3))
    values, indices = SORT.evaluate(x, dim=1, descending=descending)
    assert values.dtype == x.dtype and indices.dtype == np.int64
    for i, j in np.ndindex(4, 3):
        expected = order_of(x[i, :, j], descending)
        assert indices[i, :, j].tolist() == expected
        # Bit for bit: -0.0 must come back as such.
        assert values[i, :, j].tobytes() == x[i, expected, j].tobytes()


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_topk_is_the_beginning_of_sort(dtype):
    x = special_values(dtype, (5, 4))
    for dim, k, largest in [(0, 3, True), (1, 4, False), (1, 0, True), (0, 1, False)]:
        values, indices = TOPK.evaluate(x, dim=dim, k=k, largest=largest)
        all_values, all_indices = SORT.evaluate(x, dim=dim, descending=largest)
        assert np.array_equal(indices, np.take(all_indices, range(k), dim))
        assert values.tobytes() == np.take(all_values, range(k), dim).tobytes()


@given(st.lists(st.sampled_from(SPECIAL), max_size=40), st.booleans(), st.sampled_from(FLOATS))
def test_any_row(row, descending, dtype):
    x = np.array(row, dtype.numpy)
    _, indices = SORT.evaluate(x, dim=0, descending=descending)
    assert indices.tolist() == order_of(x, descending)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty(shape):
    for dim in range(len(shape)):
        values, indices = SORT.evaluate(np.zeros(shape), dim=dim, descending=False)
        assert values.shape == indices.shape == shape


def test_types_and_errors():
    x = ir.tensor_type(ir.f16, (3, 4))
    assert SORT.result_types([x], {"dim": 1, "descending": False}) == (
        x,
        ir.tensor_type(ir.i64, (3, 4)),
    )
    found = TOPK.result_types([x], {"dim": 0, "k": 2, "largest": True})
    assert [t.shape for t in found] == [(2, 4), (2, 4)]
    with pytest.raises(ir.DimensionError, match=r"\[sort\] dimension 2 is outside f16\[3,4\]"):
        SORT.result_types([x], {"dim": 2, "descending": False})
    with pytest.raises(ir.ShapeError, match=r"\[topk\] selected index k out of range: 5 of"):
        TOPK.result_types([x], {"dim": 1, "k": 5, "largest": True})


def test_gradients():
    x = np.random.default_rng(0).permutation(24).reshape(4, 6) / 7.0
    for dim in (0, 1):
        gradcheck_op("sort", [x], {"dim": dim, "descending": bool(dim)}, second=True)
        gradcheck_op("topk", [x], {"dim": dim, "k": 3, "largest": bool(dim)}, second=True)


# searchsorted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 100])
def test_searchsorted_in_one_sequence(size, right):
    rng = np.random.default_rng(size)
    sequence = np.sort(rng.integers(0, max(size // 2, 2), size))
    values = rng.integers(-2, size + 2, (3, 5))
    found = run_op("searchsorted", sequence, values, right=right)
    expected = np.searchsorted(sequence, values, side="right" if right else "left")
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_takes_nan_for_the_largest(right):
    sequence = np.array([-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf, np.nan, np.nan])
    values = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 3.0, -5.0])
    found = run_op("searchsorted", sequence, values, right=right)
    expected = np.searchsorted(sequence, values, side="right" if right else "left")
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_row_by_row(right):
    rng = np.random.default_rng(0)
    sequence = np.sort(rng.integers(0, 9, (2, 3, 11)).astype(np.float32), -1)
    values = rng.integers(-1, 11, (2, 3, 4)).astype(np.float32)
    found = run_op("searchsorted", sequence, values, right=right)
    search = bisect.bisect_right if right else bisect.bisect_left
    for place in np.ndindex(2, 3, 4):
        assert found[place] == search(list(sequence[place[:2]]), values[place])


def test_searchsorted_errors():
    op = ir.op_named("searchsorted")
    f, i = ir.tensor_type(ir.f32, (2, 3)), ir.tensor_type(ir.i64, (2, 3))
    with pytest.raises(ir.DTypeError, match=r"\[searchsorted\] operands differ in dtype"):
        op.result_types([f, i], {"right": False})
    for values in [(3, 3), (3,), (2, 2, 3)]:
        with pytest.raises(ir.ShapeError, match=r"\[searchsorted\] the sorted sequence should be"):
            op.result_types([f, ir.tensor_type(ir.f32, values)], {"right": False})
