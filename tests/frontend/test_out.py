"""`out=`: memory, dtypes, resizing, autograd, functions with several results."""

import inspect

import numpy as np
import pytest

import braze


@pytest.fixture(params=["interpret", "compile"], autouse=True)
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield
    braze.sync()
    braze.config.tier = before


def same(tensor, expected):
    np.testing.assert_allclose(tensor.numpy(force=True), expected, rtol=1e-6)


def test_the_result_is_in_the_memory_of_out():
    memory = np.zeros(3, np.float32)
    out = braze.from_numpy(memory)
    x = braze.tensor([1.0, 2.0, 3.0])
    assert braze.add(x, x, out=out) is out
    same(out, [2, 4, 6])
    np.testing.assert_array_equal(memory, [2, 4, 6])
    braze.mul(out, out, out=out)
    np.testing.assert_array_equal(out.numpy(), [4, 16, 36])
    np.testing.assert_array_equal(memory, [4, 16, 36])


def test_a_part_of_a_tensor():
    base = braze.zeros(2, 3)
    braze.exp(braze.zeros(3), out=base[1])
    same(base, [[0, 0, 0], [1, 1, 1]])


def test_an_operand_is_not_shared():
    x, out = braze.tensor([1.0, 2.0]), braze.empty(0)
    braze.pow(x, 1, out=out)
    out.add_(1)
    same(x, [1, 2])
    braze.clamp(x, min=-5, out=out)
    out.zero_()
    same(x, [1, 2])


def test_resizing(recwarn):
    x = braze.ones(2, 3)
    out = braze.empty(0)
    braze.neg(x, out=out)
    assert out.shape == (2, 3) and not recwarn.list
    with pytest.warns(UserWarning, match=r"was resized since it had shape \[2, 3\]"):
        braze.sum(x, 0, out=out)
    same(out, [2, 2, 2])


def test_dtypes():
    x = braze.tensor([1, 2])
    wide = braze.empty(2, dtype=braze.float64)
    same(braze.add(x, 1, out=wide), [2, 3])
    assert wide.dtype is braze.float64
    same(braze.sum(x, 0, out=braze.empty((), dtype=braze.float32)), 3)
    same(braze.sqrt(x, out=wide), np.float32([1, 2**0.5]))
    same(braze.eq(x, 1, out=braze.zeros(2)), [1, 0])
    for function, target in (
        (lambda out: braze.mul(x, 1.5, out=out), braze.int64),
        (lambda out: braze.sin(x, out=out), braze.int32),
        (lambda out: braze.add(x, 1, out=out), braze.bool),
    ):
        with pytest.raises(RuntimeError, match="can't be cast to the desired output type"):
            function(braze.zeros(2, dtype=target))


def test_creation():
    out = braze.empty(3, dtype=braze.int32)
    same(braze.arange(3, out=out), [0, 1, 2])
    same(braze.zeros(3, out=out), [0, 0, 0])
    same(braze.linspace(0, 4, 3, out=out), [0, 2, 4])
    assert out.dtype is braze.int32
    with pytest.raises(RuntimeError, match="does not match dtype of out"):
        braze.ones(3, dtype=braze.float32, out=out)
    braze.manual_seed(0)
    expected = braze.rand(5)
    braze.manual_seed(0)
    same(braze.rand(5, out=braze.empty(5)), expected.numpy())


def test_several_results():
    x = braze.tensor([[3.0, 1.0], [2.0, 5.0]])
    values, indices = braze.empty(0), braze.empty(0, dtype=braze.int64)
    result = braze.max(x, 1, out=(values, indices))
    assert result.values is values and result.indices is indices
    same(values, [3, 5])
    same(indices, [0, 1])
    spread = (braze.empty(0), braze.empty(0))
    assert braze.std_mean(x, 0, out=spread)[1] is spread[1]
    same(spread[1], [2.5, 3])
    with pytest.raises(TypeError, match="2 results, but out has 1"):
        braze.max(x, 1, out=values)
    with pytest.raises(TypeError, match="must be Tensor"):
        braze.sin(x, out=[1.0])


def test_gradients_are_refused():
    x = braze.ones(2, requires_grad=True)
    for a, out in ((x, braze.empty(2)), (x.detach(), x)):
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            braze.exp(a, out=out)
    with braze.no_grad():
        assert not braze.exp(x, out=braze.empty(2)).requires_grad


def test_none_and_the_signature():
    same(braze.add(braze.ones(2), 1, out=None), [2, 2])
    assert "out" in inspect.signature(braze.add).parameters
    assert "out" in inspect.signature(braze.special.ndtri).parameters
    assert "out" not in inspect.signature(braze.zeros_like).parameters


ONE_OPERAND = "abs exp sqrt sigmoid lgamma erfinv logical_not floor signbit isposinf frac".split()


@pytest.mark.parametrize("name", ONE_OPERAND)
def test_functions_of_one_operand(name):
    x = braze.tensor([0.25, 0.75])
    function = getattr(braze, name)
    expected = function(x)
    out = braze.empty(0, dtype=expected.dtype)
    same(function(x, out=out), expected.numpy())
    assert out.dtype is expected.dtype
