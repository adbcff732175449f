"""Composite reductions against NumPy and PyTorch; their gradients and edges."""

import math

import ml_dtypes
import numpy as np
import pytest
from composites import run_op
from gradients import backward, gradcheck_op

import braze.ir as ir
from braze.ir.interpreter import interpret

OVER = [((0,), False), ((1,), True), ((0, 2), False), ((0, 1, 2), False), ((), False)]


def sample(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, shape)


@pytest.mark.parametrize(("dims", "keepdim"), OVER)
def test_mean(dims, keepdim):
    x, over = sample(2, 3, 4), {"dims": dims, "keepdim": keepdim}
    np.testing.assert_allclose(run_op("mean", x, **over), x.mean(dims, keepdims=keepdim))
    gradcheck_op("mean", [x], over, second=True)


def test_mean_of_integers_is_an_error():
    with pytest.raises(ir.DTypeError, match=r"\[mean\] needs a floating-point .* i64\[3\]"):
        run_op("mean", np.arange(3), dims=(0,), keepdim=False)


def test_mean_of_nothing_is_nan():
    assert np.isnan(run_op("mean", np.zeros((0, 2)), dims=(0,), keepdim=False)).all()


def test_narrow_floats_are_averaged_in_f32():
    x = np.full((70000,), 1.0, dtype=np.float16)  # the sum overflows f16
    assert run_op("mean", x, dims=(0,), keepdim=False) == 1
    x = np.full((1000,), 1.0, dtype=ml_dtypes.bfloat16)
    out = run_op("softmax", x, dim=0)
    assert out.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(out.astype(np.float32), 0.001, rtol=0.004)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize(("dims", "keepdim"), OVER[:4])
def test_var_and_std(name, correction, dims, keepdim):
    x = sample(2, 3, 4)
    attributes = {"dims": dims, "keepdim": keepdim, "correction": correction}
    expected = getattr(np, name)(x, dims, keepdims=keepdim, ddof=correction)
    np.testing.assert_allclose(run_op(name, x, **attributes), expected, rtol=1e-12)
    gradcheck_op(name, [x], attributes, second=True)


def test_var_does_not_cancel():
    x = (np.arange(1000) % 2 + 10000).astype(np.float32)
    np.testing.assert_allclose(run_op("var", x, dims=(0,), keepdim=False, correction=0), 0.25)


def test_var_without_freedom():
    over = {"dims": (0,), "keepdim": False, "correction": 1}
    assert np.isnan(run_op("var", np.ones(1), **over))
    assert np.isnan(run_op("std", np.ones(1), **over))


@pytest.mark.parametrize(("dims", "keepdim"), OVER)
def test_logsumexp(dims, keepdim):
    x, over = sample(2, 3, 4), {"dims": dims, "keepdim": keepdim}
    expected = np.log(np.exp(x).sum(dims, keepdims=keepdim))
    np.testing.assert_allclose(run_op("logsumexp", x, **over), expected, rtol=1e-12)
    gradcheck_op("logsumexp", [x], over, second=True)


def test_logsumexp_at_infinity():
    inf = np.inf
    x = np.array([[-inf, -inf], [inf, 0], [inf, inf], [1e4, 1e4], [-inf, 3]])
    out = run_op("logsumexp", x, dims=(1,), keepdim=False)
    np.testing.assert_allclose(out, [-inf, inf, inf, 1e4 + math.log(2), 3])
    assert (run_op("logsumexp", np.zeros((2, 0)), dims=(1,), keepdim=False) == -inf).all()


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax(dim):
    x = sample(2, 3, 4)
    expected = np.exp(x) / np.exp(x).sum(dim, keepdims=True)
    np.testing.assert_allclose(run_op("softmax", x, dim=dim), expected, rtol=1e-12)
    np.testing.assert_allclose(run_op("log_softmax", x, dim=dim), np.log(expected), rtol=1e-12)
    gradcheck_op("softmax", [x], {"dim": dim}, second=True)
    gradcheck_op("log_softmax", [x], {"dim": dim}, second=True)


def test_softmax_does_not_overflow():
    x = np.array([[1e4, 0, -np.inf], [-1e4, -1e4, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(run_op("softmax", x, dim=1), [[1, 0, 0], [0.5, 0.5, 0]])
    expected = [[0, -1e4, -np.inf], [-math.log(2), -math.log(2), -np.inf]]
    np.testing.assert_allclose(run_op("log_softmax", x, dim=1), expected, rtol=1e-6)
    assert run_op("softmax", np.zeros((2, 0)), dim=1).shape == (2, 0)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf, -math.inf])
def test_norm(p):
    x = sample(3, 4)
    expected = np.linalg.norm(x, ord=p, axis=1)
    out = run_op("norm", x, dims=(1,), keepdim=False, p=p)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    attributes = {"dims": (1,), "keepdim": True, "p": p}
    gradcheck_op("norm", [x], attributes, second=True, tolerance=1e-5)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("x", [[0.0, 0.0], [0.0, 3.0]])
def test_the_gradient_of_norm_at_zero_is_that_of_pytorch(p, x):
    torch = pytest.importorskip("torch")
    b = ir.Builder()
    value, g = b.input(ir.tensor_type(ir.f64, (2,))), b.input(ir.tensor_type(ir.f64))
    out = b.norm(value, dims=(0,), keepdim=False, p=p)
    (actual,) = interpret(b.finish(backward(b, {out: g}, [value])), [np.array(x), 1.0])
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    torch.linalg.vector_norm(t, ord=p).backward()
    np.testing.assert_allclose(actual, t.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("keepdim", [False, True])
def test_extrema_with_index(name, keepdim):
    x = np.array([[1.0, 3.0, 3.0, -2.0], [np.nan, 1.0, 5.0, np.nan]])
    over = {"dim": 1, "keepdim": keepdim}
    values, indices = run_op(f"{name}_with_index", x, **over)
    np.testing.assert_array_equal(values, getattr(np, name)(x, 1, keepdims=keepdim))
    np.testing.assert_array_equal(indices, getattr(np, f"arg{name}")(x, 1, keepdims=keepdim))
    gradcheck_op(f"{name}_with_index", [sample(3, 4)], over, second=True)
    gradcheck_op(f"{name}_with_index", [sample(3, 4)], {"dim": 0, "keepdim": keepdim})


def test_only_the_first_of_equal_maxima_gets_the_gradient():
    b = ir.Builder()
    x = b.input(ir.tensor_type(ir.f64, (1, 3)))
    values, _ = b.max_with_index(x, dim=1, keepdim=False)
    one = b.full(shape=(1,), value=1.0, dtype=ir.f64)
    (gradient,) = backward(b, {values: one}, [x])
    (found,) = interpret(b.finish([gradient]), [np.array([[1.0, 2.0, 2.0]])])
    np.testing.assert_array_equal(found, [[0, 1, 0]])


def test_an_empty_dimension_has_no_maximum():
    with pytest.raises(ir.ShapeError, match=r"\[max_with_index\] a reduction over an empty"):
        run_op("max_with_index", np.zeros((2, 0)), dim=1, keepdim=False)
