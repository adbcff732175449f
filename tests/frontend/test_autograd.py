"""The tape: gradients, what it saves, double backward, modes, hooks and its errors."""

import numpy as np
import pytest

import braze

pytestmark = pytest.mark.usefixtures("interpret")


def leaf(*values):
    return braze.tensor(list(values), dtype=braze.float64, requires_grad=True)


def test_gradients_accumulate():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]


def test_broadcast_operands_get_their_own_shape():
    x = braze.ones(4, 3, requires_grad=True)
    bias = braze.ones(3, requires_grad=True)
    column = braze.ones(4, 1, requires_grad=True)
    ((x + bias) * column).sum().backward()
    assert bias.grad.tolist() == [4.0, 4.0, 4.0]
    assert column.grad.tolist() == [[6.0]] * 4
    assert x.grad.shape == (4, 3)


def test_leaves_with_one_gradient_do_not_share_memory():
    a, b = leaf(1.0), leaf(2.0)
    (a + b).sum().backward()
    a.grad.add_(10.0)
    assert (a.grad.item(), b.grad.item()) == (11.0, 1.0)


def test_reading_the_loss_first_changes_nothing():
    x = leaf(0.5, -1.0)
    loss = (x.exp() * x.sin()).sum()
    assert np.isfinite(loss.item())
    loss.backward()
    v = x._numpy()
    np.testing.assert_allclose(x.grad._numpy(), np.exp(v) * (np.sin(v) + np.cos(v)), rtol=1e-12)


def test_second_derivatives():
    x = leaf(2.0, 3.0)
    (first,) = braze.autograd.grad((x**3).sum(), x, create_graph=True)
    assert first.tolist() == [12.0, 27.0]
    (second,) = braze.autograd.grad(first.sum(), x)
    assert second.tolist() == [12.0, 18.0]


def test_backward_with_create_graph_leaves_differentiable_gradients():
    x = leaf(2.0)
    (x * x * x).sum().backward(create_graph=True)
    gradient = x.grad
    x.grad = None
    gradient.sum().backward()
    assert x.grad.item() == 12.0


def test_freed_tape():
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 4.0
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_saved_values_must_not_be_overwritten():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    z = y * y
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation.*test_autograd"):
        z.sum().backward()


def test_in_place_operations_are_recorded():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    y *= 3.0
    y[0] = 0.0
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 3.0]


def test_leaves_are_protected():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.add_(1.0)
    with braze.no_grad():
        x.add_(1.0)
    x.data.add_(1.0)
    x.detach().mul_(2.0)
    assert x.item() == 6.0
    assert x.requires_grad


def test_modes():
    x = leaf(1.0)
    with braze.no_grad():
        assert not (x * 2.0).requires_grad
        with braze.enable_grad():
            assert (x * 2.0).requires_grad

    @braze.no_grad()
    def double(value):
        return value * 2.0

    assert not double(x).requires_grad
    with braze.set_grad_enabled(False):
        assert not braze.is_grad_enabled()
    assert braze.is_grad_enabled()
    with braze.inference_mode():
        assert not (x + 1.0).requires_grad


def test_detach_stops_gradients():
    x = leaf(3.0)
    (x * x.detach()).sum().backward()
    assert x.grad.item() == 3.0


def test_hooks_and_retained_gradients():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10.0)
    y.sum().backward(retain_graph=True)
    assert seen == [[1.0, 1.0]]
    assert y.grad.tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [20.0, 20.0]
    handle.remove()
    y.sum().backward()
    assert len(seen) == 1


def test_grad_of_intermediate_and_unused():
    x, other = leaf(2.0), leaf(1.0)
    y = x * x
    (dy,) = braze.autograd.grad((y * 3.0).sum(), y)
    assert dy.item() == 3.0
    with pytest.raises(RuntimeError, match="allow_unused"):
        braze.autograd.grad((x * x).sum(), other)
    assert braze.autograd.grad((x * x).sum(), other, allow_unused=True) == (None,)


def test_argument_errors():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        (x * 2.0).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        braze.ones(1).sum().backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (x * 2.0).backward(braze.ones(3, dtype=braze.float64))
    with pytest.raises(RuntimeError, match="floating point"):
        braze.ones(2, dtype=braze.int64).requires_grad_()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp().log1p().sum(),
        lambda x: (x / (x * x + 1.0)).mean(),
        lambda x: x.reshape(3, 2).t().matmul(x.reshape(3, 2)).sum(),
        lambda x: x.softmax(0)[1:4].sum(),
        lambda x: x.max() * x.var() + x.norm(),
        lambda x: braze.cat([x, x * 2.0]).flip(0)[::2].sin().sum(),
        lambda x: braze.where(x > 0.2, x * x, x.tanh()).sum(),
        lambda x: x[braze.tensor([0, 0, 3])].pow(3).sum(),
        lambda x: x.expand(4, 6).permute(1, 0).cos().prod(),
        lambda x: x.clamp(-0.5, 0.5).abs().sqrt().sum(),
    ],
)
def test_numerical_gradients(function):
    point = np.array([0.3, -0.7, 0.9, 0.45, -0.2, 0.65])
    x = braze.tensor(point, requires_grad=True)
    function(x).backward()
    step = 1e-6
    for i in range(point.size):
        shift = np.zeros_like(point)
        shift[i] = step
        up = function(braze.tensor(point + shift)).item()
        down = function(braze.tensor(point - shift)).item()
        assert x.grad[i].item() == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)
