"""Bounds on rounding: other ways of computing stay within them, and wrong results do not."""

import numpy as np
import pytest
from graphs import random_graph, sample_inputs

from braze import ir
from braze.ir.interpreter import interpret
from braze.ir.ops.contract import contract
from braze.ir.parser import parse_graph
from braze.ir.rounding import Bounded, difference, eps, interpret_bounded, sum_rounding
from braze.ir.widening import widened, widened_inputs
from braze.passes.decompose import decompose


def bounded(text, *arrays):
    return interpret_bounded(parse_graph(text), list(arrays))


def within(found, expected):
    return difference(np.asarray(found, expected.value.dtype), expected) is None


@pytest.mark.parametrize("seed", range(40))
def test_double_precision_stays_within_the_bounds(seed):
    graph = decompose(random_graph(seed, nodes=15))
    inputs = sample_inputs(graph, seed)
    arrays = [np.asarray(x, v.dtype.numpy) for v, x in zip(graph.inputs, inputs, strict=True)]
    expected = interpret_bounded(graph, arrays)
    for value, exact in zip(expected, interpret(graph, inputs), strict=True):
        assert value.value.tobytes() == exact.tobytes()
    try:
        wide = interpret(widened(graph), widened_inputs(graph, inputs))
    except Exception:
        pytest.skip("the graph has no form in double precision")
    for value, result in zip(expected, wide, strict=True):
        with np.errstate(all="ignore"):
            assert difference(result.astype(value.value.dtype), value) is None


@pytest.mark.parametrize("dtype", [ir.f32, ir.f16, ir.bf16], ids=str)
@pytest.mark.parametrize("count", [3, 1000])
def test_sums_in_any_order_stay_within_the_bounds(dtype, count):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, count)).astype(dtype.numpy)
    text = f"graph @g(%x: {dtype.name}[8,{count}]) -> ({dtype.name}[8]) {{\n"
    text += f"%0: {dtype.name}[8] = sum(%x; dims=(1), keepdim=false)\nreturn %0\n}}"
    (expected,) = bounded(text, x)
    forwards = np.zeros(8, np.float32)
    for column in x.T:  # one after the other, which rounds most
        forwards += column
    assert within(forwards.astype(dtype.numpy), expected)
    size = np.abs(x.astype(np.float64)).sum(1)
    assert (expected.error <= 2 * sum_rounding(count, dtype) * size + 2 * eps(dtype) * size).all()
    assert not within((forwards * 1.1 + 1).astype(dtype.numpy), expected)


def test_a_product_is_as_exact_as_its_terms_are_large():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((20, 20), np.float32) for _ in range(2))
    text = """graph @g(%x: f32[20,20], %y: f32[20,20]) -> (f32[20,20]) {
      %0: f32[20,20] = contract(%x, %y; equation="mk,kn->mn")
      return %0
    }"""
    (expected,) = bounded(text, x, y)
    exact = contract.evaluate(*(a.astype(np.float64) for a in (x, y)), equation="mk,kn->mn")
    assert within(exact, expected)
    assert within(exact + 0.5 * expected.error, expected)
    assert not within(exact + 1e-4, expected)
    one_term_less = exact - np.outer(x[:, 3], y[3].astype(np.float64))
    assert difference(one_term_less.astype(np.float32), expected).count > 390


def test_what_cancels_may_be_off_by_more():
    text = """graph @g(%x: f32[4], %y: f32[4]) -> (f32[4]) {
      %0: f32[4] = mul(%x, %y)
      %1: f32[4] = sub(%0, %x)
      return %1
    }"""
    x = np.array([1e6, 1.0, 0.0, -3.0], np.float32)
    (expected,) = bounded(text, x, np.full(4, 1.0000001, np.float32))
    assert expected.error[0] > 0.1 and expected.error[1] < 1e-5 and expected.error[2] == 0


def test_comparisons_of_what_is_nearly_equal_may_come_out_either_way():
    text = """graph @g(%x: f32[3], %y: f32[3]) -> (f32[3]) {
      %0: f32[3] = mul(%x, %x)
      %1: bool[3] = lt(%0, %y)
      %2: f32[3] = where(%1, %x, %y)
      return %2
    }"""
    x = np.array([3.0, 3.0, 3.0], np.float32)
    y = np.array([9.0, 9.000001, 20.0], np.float32)
    (expected,) = bounded(text, x, y)
    assert expected.value.tolist() == [9.0, 3.0, 3.0]
    assert within([3.0, 9.0, 3.0], expected)
    assert not within([9.0, 3.0, 20.0], expected)


def test_positions_are_exact_where_no_other_one_is_near():
    text = """graph @g(%x: f32[2,3]) -> (i64[2], f32[2,3], i64[2,3]) {
      %0: f32[2,3] = mul(%x, %x)
      %1: i64[2] = argmax(%0; dims=(1), keepdim=false)
      %2, %3: f32[2,3], i64[2,3] = sort(%x; dim=1, descending=false)
      return %1, %2, %3
    }"""
    x = np.array([[1.0, -1.0, 0.5], [1.0, 2.0, 0.0]], np.float32)
    largest, values, positions = bounded(text, x)
    assert within([1, 1], largest) and not within([0, 2], largest)
    assert values.error is None and positions.error is None


def test_what_is_only_moved_is_exact():
    text = """graph @g(%x: f32[2,3], %i: i64[2]) -> (f32[3,2], f32[2,3], f32[2], u32[4]) {
      %0: f32[3,2] = permute(%x; dims=(1,0))
      %1: f32[2,3] = take(%x, %i; dim=0)
      %2: f32[2] = amax(%x; dims=(1), keepdim=false)
      %3: i64[] = constant(value=7, dtype=i64)
      %4: u32[4] = random_bits(%3, %3; shape=(4))
      return %0, %1, %2, %4
    }"""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert all(found.error is None for found in bounded(text, x, np.array([1, 0])))


def test_infinities_and_nans_must_be_where_they_are_expected():
    value = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    expected = Bounded(value, np.full(4, 1e-3, np.float32))
    assert difference(value.copy(), expected) is None
    for at, wrong in ((0, 1.0), (1, 1e38), (2, np.inf), (3, np.nan), (3, np.inf), (3, 1.1)):
        other = value.copy()
        other[at] = wrong
        found = difference(other, expected)
        assert found is not None and found.index == (at,) and found.count == 1
    assert difference(value + np.float32(1e-3), expected) is None


def test_a_difference_tells_the_first_and_the_worst_element():
    expected = Bounded(np.zeros((2, 3)), np.full((2, 3), 0.01))
    found = difference(np.array([[0.0, 0.02, 0.1], [0.5, 0.01, -0.2]]), expected)
    assert (found.count, found.index, found.worst) == (3, (0, 2), (1, 0))
    assert (found.expected, found.found, found.largest) == (0.0, 0.1, 0.5)
    assert found.allowed == pytest.approx(0.04)


def test_integers_are_exact():
    assert difference(np.array([1, 2]), Bounded(np.array([1, 2]))) is None
    found = difference(np.array([1, 3]), Bounded(np.array([1, 2])))
    assert found.index == (1,) and found.allowed == 0
