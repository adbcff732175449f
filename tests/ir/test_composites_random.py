"""Random composites: ranges, moments, reproducibility, and what they use of the generator."""

import math

import numpy as np
import pytest
from composites import one_op, run_op, to_primitives
from gradients import gradcheck_op

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.ops.dropout import counters

SEED, OFFSET = np.array(1234), np.array(64)
COUNT = 40000


def draw(name, seed=SEED, offset=OFFSET, **attributes):
    return run_op(name, seed, offset, tolerance=0, **attributes)


@pytest.mark.parametrize("dtype", [ir.f16, ir.bf16, ir.f32, ir.f64])
def test_uniform(dtype):
    x = draw("uniform", shape=(200, 200), dtype=dtype)
    assert x.dtype == dtype.numpy
    wide = x.astype(np.float64)
    assert wide.min() >= 0 and wide.max() < 1
    offset = 2.0**-9 if dtype is ir.bf16 else 0.0  # 8 bits: the mean is half a step below 1/2
    assert abs(wide.mean() + offset - 0.5) < 5 * math.sqrt(1 / 12 / COUNT)
    assert abs(wide.var() - 1 / 12) < 0.002


def test_uniform_uses_all_bits_of_the_significand():
    x = draw("uniform", shape=(COUNT,), dtype=ir.f32).astype(np.float64) * 2**24
    assert (x == np.floor(x)).all() and (x % 2 == 1).any()
    x = draw("uniform", shape=(COUNT,), dtype=ir.f64)
    scaled = x * 2.0**53
    assert (scaled == np.floor(scaled)).all() and (scaled % 2 == 1).any()


@pytest.mark.parametrize("dtype", [ir.f16, ir.f32, ir.f64])
def test_normal(dtype):
    x = draw("normal", shape=(COUNT,), dtype=dtype).astype(np.float64)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 5 / math.sqrt(COUNT)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / COUNT)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / COUNT)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / COUNT)
    below = [(x < t).mean() for t in (-2, -1, 0, 1, 2)]
    expected = [0.5 * math.erfc(-t / math.sqrt(2)) for t in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(below, expected, atol=0.01)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-3, 4), (5, 6), (-(2**31), 2**31), (0, 2**62)])
def test_randint(low, high):
    x = draw("randint", shape=(COUNT,), low=low, high=high)
    assert x.dtype == np.int64 and x.min() >= low and x.max() < high
    middle = (high - low - 1) / 2
    spread = math.sqrt(((high - low) ** 2 - 1) / 12 / COUNT)
    assert abs((x - low).astype(np.float64).mean() - middle) <= 5 * spread
    if high - low <= 10:
        assert set(x.tolist()) == set(range(low, high))


def test_randint_of_an_empty_range():
    with pytest.raises(ir.ShapeError, match=r"\[randint\] low must be less than high: 3 and 3"):
        draw("randint", shape=(2,), low=3, high=3)


def test_bernoulli():
    p = np.array([0.0, 0.2, 0.5, 1.0])
    x = run_op("bernoulli", np.repeat(p, COUNT), SEED, OFFSET, tolerance=0).reshape(4, -1)
    assert set(np.unique(x)) == {0, 1}
    assert abs(x.mean(1) - p).max() < 0.015
    assert x[0].max() == 0 and x[3].min() == 1


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("uniform", {"dtype": ir.f32}),
        ("uniform", {"dtype": ir.f64}),
        ("normal", {"dtype": ir.f32}),
        ("normal", {"dtype": ir.f64}),
        ("randint", {"low": 0, "high": 100}),
        ("randint", {"low": 0, "high": 2**40}),
    ],
)
def test_equal_states_give_equal_numbers_and_ranges_of_counters_do_not_overlap(name, attributes):
    """The numbers made at offset + counters(..) reuse no counter: they are all new."""
    shape = (100,)
    span = attributes.get("high", 1) - attributes.get("low", 0)
    used = counters(name, 100, attributes.get("dtype", ir.f32), span)
    first = draw(name, shape=shape, **attributes)
    np.testing.assert_array_equal(first, draw(name, shape=shape, **attributes))
    # Count the counters for real: the largest offset of a draw plus its length.
    graph = to_primitives(one_op(name, [SEED, OFFSET], {"shape": shape, **attributes}))
    ends = []

    def trace(node, operands, results):
        if node.op.name == "random_bits":
            ends.append(int(operands[1]) + 32)

    interpret(graph, [SEED, OFFSET], trace)
    assert max(ends) - int(OFFSET) == used and used % 32 == 0


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p):
    x = np.ones((200, 200), dtype=np.float32)
    out = run_op("dropout", x, SEED, OFFSET, tolerance=0, p=p)
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / (1 - p), rtol=1e-6)
    assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / COUNT)


def test_dropout_at_the_ends():
    x = np.array([1.0, np.inf, -2.0])
    np.testing.assert_array_equal(run_op("dropout", x, SEED, OFFSET, p=0.0), x)
    np.testing.assert_array_equal(run_op("dropout", x, SEED, OFFSET, p=1.0), 0)
    with pytest.raises(TypeError, match=r"\[dropout\] the probability must be between 0 and 1"):
        run_op("dropout", x, SEED, OFFSET, p=1.5)


def test_the_gradient_of_dropout_has_the_same_mask():
    x = np.random.default_rng(0).uniform(1, 2, (5, 7))
    gradcheck_op("dropout", [x, SEED, OFFSET], {"p": 0.4}, second=True)


def test_the_state_must_be_i64():
    with pytest.raises(ir.DTypeError, match=r"\[uniform\] seed and offset must be i64\[\]"):
        run_op("uniform", SEED.astype(np.int32), OFFSET, shape=(2,), dtype=ir.f32)
