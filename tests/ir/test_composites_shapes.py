"""Making, selecting and masking composites against NumPy, their errors and gradients."""

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op

import braze.ir as ir


def sample(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, shape)


@pytest.mark.parametrize("dtype", [ir.f32, ir.i64, ir.bool_, ir.bf16])
def test_full(dtype):
    out = run_op("full", shape=(2, 3), value=3.0, dtype=dtype)
    assert out.shape == (2, 3) and out.dtype == dtype.numpy
    assert (out == np.asarray(3.0).astype(dtype.numpy)).all()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((4, 2, 3), (1, 3)), ((2, 1), ()),
     ((1, 3), (1, 3)), ((2, 0, 3), (1, 3)), ((1, 1, 3), (3,))],
)  # fmt: skip
def test_sum_to_shape_undoes_broadcasting(given, wanted):
    x = sample(*given)
    out = run_op("sum_to_shape", x, shape=wanted)
    ones = np.ones(wanted)
    assert out.shape == wanted
    # The adjoint of broadcasting: <x, broadcast(y)> == <sum_to_shape(x), y>.
    np.testing.assert_allclose((x * np.broadcast_to(ones, given)).sum(), (out * ones).sum())
    gradcheck_op("sum_to_shape", [x], {"shape": wanted}, second=True)


def test_sum_to_shape_refuses_a_shape_that_does_not_broadcast():
    with pytest.raises(ir.ShapeError, match=r"\[2\] does not broadcast to f64\[2,3\]"):
        run_op("sum_to_shape", sample(2, 3), shape=(2,))


@pytest.mark.parametrize(("dim", "index"), [(0, 0), (1, 2), (2, 3)])
def test_select(dim, index):
    x = sample(2, 3, 4)
    np.testing.assert_array_equal(
        run_op("select", x, dim=dim, index=index), np.take(x, index, axis=dim)
    )
    gradcheck_op("select", [x], {"dim": dim, "index": index}, second=True)


def test_select_outside_is_an_index_error():
    text = r"\[select\] index 3 is out of range for dimension 1 of f64\[2,3\]"
    with pytest.raises(IndexError, match=text):
        run_op("select", sample(2, 3), dim=1, index=3)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_stack_and_its_gradient_for_each_position(dim):
    xs = [sample(2, 3, seed=seed) for seed in range(3)]
    np.testing.assert_array_equal(run_op("stack", *xs, dim=dim), np.stack(xs, axis=dim))
    gradcheck_op("stack", xs, {"dim": dim}, second=True)


def test_stack_needs_equal_shapes():
    with pytest.raises(ir.ShapeError, match=r"\[stack\] .*f64\[2\] and f64\[3\]"):
        run_op("stack", sample(2), sample(3), dim=0)


@pytest.mark.parametrize("dim", [0, 1])
def test_concat_has_a_gradient_for_each_position(dim):
    shapes = [(2, 3), (2, 3), (4, 3)] if dim == 0 else [(2, 3), (2, 1), (2, 0)]
    gradcheck_op("concat", [sample(*s) for s in shapes], {"dim": dim}, second=True)


def test_masked_fill_broadcasts_both_operands():
    x, mask = sample(3, 1), sample(2, 3, 4) > 0
    out = run_op("masked_fill", x, mask, value=-np.inf)
    np.testing.assert_array_equal(out, np.where(mask, -np.inf, x))
    gradcheck_op("masked_fill", [x, mask], {"value": 1.5}, second=True)


@pytest.mark.parametrize("name", ["tril", "triu"])
@pytest.mark.parametrize("diagonal", [-5, -1, 0, 2])
def test_triangles(name, diagonal):
    x = sample(2, 4, 3)
    expected = getattr(np, name)(x, diagonal)
    np.testing.assert_array_equal(run_op(name, x, diagonal=diagonal), expected)
    gradcheck_op(name, [x], {"diagonal": diagonal}, second=True)


def test_one_hot():
    index = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(run_op("one_hot", index, classes=3), np.eye(3, dtype=int)[index])
    with pytest.raises(IndexError, match=r"\[one_hot\] index 3 is out of range \[0, 3\)"):
        run_op("one_hot", index + 1, classes=3)
