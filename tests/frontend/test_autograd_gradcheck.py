"""`gradcheck` and `gradgradcheck`: what they accept, what they find wrong, and what they say."""

import numpy as np
import pytest

import braze
from braze.autograd import Function, GradcheckError, gradcheck, gradgradcheck


@pytest.fixture(autouse=True)
def interpret():
    braze.sync()
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).uniform(0.2, 1.0, shape)
    return braze.tensor(values, requires_grad=True)


class WrongSlope(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2.0

    @staticmethod
    def backward(ctx, grad):
        return grad * 3.0


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x @ y,
        lambda x, y: (x.sin(), (y * x.sum()).exp()),
        lambda x, y: x.max(1),
        lambda x, y: [x * 2.0, y.softmax(0)],
        lambda x, y: (x[1:] * y[:, :1].t()).prod(),
    ],
)
def test_right_gradients(function, fast_mode):
    x, y = leaf(2, 3), leaf(3, 2, seed=1)
    before = x.tolist()
    assert gradcheck(function, (x, y), fast_mode=fast_mode)
    assert gradgradcheck(function, (x, y), fast_mode=fast_mode)
    assert x.tolist() == before
    assert x.grad is None


def test_wrong_gradients_are_shown():
    x = leaf(2)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(WrongSlope.apply, x)
    text = str(caught.value)
    assert text.startswith(
        "Jacobian mismatch for output 0 with respect to input 0,\nnumerical:tensor("
    )
    numerical, analytical = text.split("analytical:")
    assert "2." in numerical
    assert "3." not in numerical
    assert "3." in analytical
    assert issubclass(GradcheckError, RuntimeError)
    assert gradcheck(WrongSlope.apply, x, raise_exception=False) is False
    assert gradcheck(WrongSlope.apply, x, raise_exception=False, fast_mode=True) is False
    assert gradcheck(WrongSlope.apply, x, atol=2.0)


def test_wrong_second_derivatives():
    class Detached(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3.0 * x.detach() ** 2

    x = leaf(3)
    assert gradcheck(Detached.apply, x)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0"):
        gradgradcheck(Detached.apply, x)
    assert gradgradcheck(lambda x: x**3, x, braze.ones(3, dtype=braze.float64))


def test_gradients_that_should_be_zero():
    x = leaf(2)
    with pytest.raises(GradcheckError, match="expected to be zero"):
        gradcheck(lambda x: (x * 1.0, x.detach() * 2.0), x)
    assert gradcheck(lambda x: (x * 1.0, braze.ones(2)), x)


def test_a_gradient_that_ignores_what_comes_in():
    class Ignores(Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

        @staticmethod
        def backward(ctx, grad):
            return braze.ones(2, dtype=braze.float64)

    with pytest.raises(GradcheckError, match="not multiplied by grad_output"):
        gradcheck(Ignores.apply, leaf(2))


def test_gradients_that_change_from_pass_to_pass():
    passes = []

    class Drifts(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            passes.append(None)
            return grad * (1.0 + 1e-7 * len(passes))

    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(Drifts.apply, leaf(2))
    assert gradcheck(Drifts.apply, leaf(2), nondet_tol=1e-4)


def test_outputs_that_nothing_uses():
    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1.0, x * 2.0

        @staticmethod
        def backward(ctx, first, second):
            if first is None or second is None:
                return braze.zeros(2, dtype=braze.float64)
            return first + second * 2.0

    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lambda x: Two.apply(x), leaf(2))


def test_compiled():
    with braze.config.using(tier="compile"):
        assert gradgradcheck(lambda x: (x.sin() * x).sum(), leaf(3))
        with pytest.raises(GradcheckError, match="Jacobian mismatch"):
            gradcheck(WrongSlope.apply, leaf(2))


def test_inputs():
    x = leaf(2)
    assert gradcheck(lambda x, n, y: x * n * y, (x, 3.0, braze.ones(2)))
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(braze.sin, braze.ones(2, dtype=braze.float64))
    single = braze.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double"):
        gradcheck(lambda x: x * 2.0, single, eps=1e-2)
    with pytest.raises(NotImplementedError, match="check_forward_ad"):
        gradcheck(braze.sin, x, check_forward_ad=True)
    assert gradcheck(lambda x: x.sin(), (x * 2.0,))  # not a leaf
    assert gradcheck(lambda x: x.sin() * closed, closed := leaf(2, seed=2))


def test_passes_that_are_first_interpreted_and_then_compiled():
    x = braze.tensor([[0.3, -1.2], [0.7, 2.1]], dtype=braze.float64, requires_grad=True)
    with braze.config.using(tier="auto"):
        assert braze.autograd.gradcheck(lambda x: (x @ x).sin(), (x,))
        assert braze.autograd.gradcheck(lambda x: (x @ x).exp(), (x,), fast_mode=True)


def test_nothing_to_check():
    with pytest.raises(ValueError, match="at least one input"):
        braze.autograd.gradgradcheck(lambda x: x * x, (braze.ones(2, dtype=braze.float64),))
