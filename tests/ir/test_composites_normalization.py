"""Normalisations against PyTorch; gradients, statistics, edges and errors."""

import numpy as np
import pytest
from composites import run_op
from gradients import backward, gradcheck_op

import braze.ir as ir
from braze.ir.interpreter import interpret


def sample(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, shape)


def affine(*shape):
    return sample(*shape, seed=1), sample(*shape, seed=2)


SHAPES = [(4, 3), (2, 3, 5), (3, 2, 2, 3), (2, 2, 2, 1, 3)]
EPSILON = {"epsilon": 1e-5}


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(shape):
    x, (weight, bias) = sample(*shape), affine(shape[1])
    out, mean, var = run_op("batch_norm_train", x, weight, bias, **EPSILON)
    dims = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean, x.mean(dims), rtol=1e-12)
    np.testing.assert_allclose(var, x.var(dims), rtol=1e-12)
    # The same statistics, given, make the same result.
    again = run_op("batch_norm_eval", x, mean, var, weight, bias, **EPSILON)
    np.testing.assert_allclose(again, out, rtol=1e-10, atol=1e-12)
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a) for a in (weight, bias)]
    expected = torch.nn.functional.batch_norm(
        torch.tensor(x), None, None, *tensors, training=True, eps=1e-5
    )
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradients_of_batch_norm(shape):
    """Of all three results; second derivatives go through the statistics."""
    x, (weight, bias) = sample(*shape), affine(shape[1])
    gradcheck_op("batch_norm_train", [x, weight, bias], EPSILON, second=True, tolerance=1e-5)
    operands = [x, sample(shape[1]), sample(shape[1]) + 2.5, weight, bias]
    gradcheck_op("batch_norm_eval", operands, EPSILON, second=True, tolerance=1e-5)


@pytest.mark.parametrize("result", [0, 1, 2])
def test_batch_norm_where_only_one_result_has_a_gradient(result):
    x, (weight, bias) = sample(4, 3), affine(3)
    b = ir.Builder()
    values = [b.input(ir.tensor_type(ir.f64, a.shape)) for a in (x, weight, bias)]
    results = b.batch_norm_train(*values, **EPSILON)
    upstream = b.input(results[result].type)
    g = sample(*results[result].shape, seed=3)
    gradients = interpret(
        b.finish(backward(b, {results[result]: upstream}, values)), [x, weight, bias, g]
    )
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    mean, var = tensors[0].mean(0), tensors[0].var(0, correction=0)
    out = (tensors[0] - mean) / (var + 1e-5).sqrt() * tensors[1] + tensors[2]
    (out, mean, var)[result].backward(torch.tensor(g))
    for found, tensor in zip(gradients, tensors, strict=True):
        expected = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_batch_norm_does_not_cancel():
    x = (np.arange(64).reshape(64, 1) % 2 + 4096).astype(np.float32)
    ones = np.ones(1, dtype=np.float32)
    out, _, var = run_op("batch_norm_train", x, ones, 0 * ones, epsilon=0.0)
    assert var == 0.25
    np.testing.assert_array_equal(np.abs(out), 1)


def test_statistics_of_narrow_floats_are_f32():
    x = (sample(300, 2) * 100).astype(np.float16)
    weight, bias = np.ones(2, dtype=np.float16), np.zeros(2, dtype=np.float16)
    out, mean, var = run_op("batch_norm_train", x, weight, bias, tolerance=1e-2, **EPSILON)
    assert (out.dtype, mean.dtype, var.dtype) == (np.float16, np.float32, np.float32)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-5)
    again = run_op("batch_norm_eval", x, mean, var, weight, bias, tolerance=1e-2, **EPSILON)
    np.testing.assert_allclose(again, out, rtol=2e-3)


@pytest.mark.parametrize(
    ("shape", "dims"), [((4, 3), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((5,), 1)]
)
def test_layer_norm(shape, dims):
    x, (weight, bias) = sample(*shape), affine(*shape[-dims:])
    attributes = {"dims": dims, "epsilon": 1e-5}
    out = run_op("layer_norm", x, weight, bias, **attributes)
    gradcheck_op("layer_norm", [x, weight, bias], attributes, second=True, tolerance=1e-5)
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a) for a in (weight, bias)]
    function = torch.nn.functional.layer_norm
    expected = function(torch.tensor(x), weight.shape, *tensors, eps=1e-5)
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("shape", "groups"), [((3, 4), 2), ((2, 4, 3), 4), ((2, 6, 2, 3), 3)])
def test_group_norm(shape, groups):
    x, (weight, bias) = sample(*shape), affine(shape[1])
    attributes = {"groups": groups, "epsilon": 1e-5}
    out = run_op("group_norm", x, weight, bias, **attributes)
    gradcheck_op("group_norm", [x, weight, bias], attributes, second=True, tolerance=1e-5)
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a) for a in (weight, bias)]
    function = torch.nn.functional.group_norm
    expected = function(torch.tensor(x), groups, *tensors, eps=1e-5)
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "operands", "attributes", "text"),
    [
        ("batch_norm_train", [(4, 3), (4,), (3,)], {}, r"the weight must be \[3\] for f64\[4,3\]"),
        ("batch_norm_train", [(4,), (4,), (4,)], {}, r"\[batch_norm\] needs \[N, C, ...\]"),
        ("layer_norm", [(4, 3), (3,), (4,)], {"dims": 1}, r"the bias must be \[3\]"),
        ("layer_norm", [(4, 3), (3,), (3,)], {"dims": 3}, "normalises 1 to 2 dimensions"),
        ("group_norm", [(4, 3), (3,), (3,)], {"groups": 2}, "groups=2 does not divide"),
    ],
)
def test_errors(name, operands, attributes, text):
    with pytest.raises(ir.ShapeError, match=text):
        run_op(name, *(sample(*shape) for shape in operands), **attributes, **EPSILON)
