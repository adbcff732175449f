"""Tensors made in `inference_mode`: not kept for a backward pass, not changed outside the mode."""

import copy
import pickle

import pytest

import braze


def made():
    with braze.inference_mode():
        return braze.ones(3) * 2


def test_what_is_an_inference_tensor():
    with braze.inference_mode():
        assert braze.tensor([1.0]).is_inference()
        assert braze.is_inference(braze.ones(2))
        assert braze.randn(2).is_inference()
        with braze.inference_mode(False):
            assert not braze.ones(2).is_inference()
    assert not braze.ones(2).is_inference()
    x = made()
    assert x.view(3, 1)[0].is_inference() and x.detach().is_inference()
    assert not x.clone().is_inference() and not (x * 2).is_inference()
    assert not copy.deepcopy(x).is_inference()
    assert not pickle.loads(pickle.dumps(x)).is_inference()


def test_views_and_writes_in_the_mode_leave_a_normal_tensor_normal():
    y = braze.ones(3, requires_grad=True)
    with braze.inference_mode():
        view = y.view(3)
        y.mul_(3)
        assert not view.is_inference() and not view[1:].is_inference()
    assert not y.is_inference()
    assert y.tolist() == view.tolist() == [3.0, 3.0, 3.0]
    (y * y).sum().backward()
    assert y.grad.tolist() == [6.0, 6.0, 6.0]


@pytest.mark.parametrize("synced", [False, True])
def test_it_cannot_be_kept_for_a_backward_pass(synced):
    x, y = made(), braze.ones(3, requires_grad=True)
    if synced:
        braze.sync()
    for view in (x, x.view(3), x.detach()):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            y * view
    assert (x + y).requires_grad  # nothing is kept
    (y * x.clone()).sum().backward()
    assert y.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_function_cannot_save_it():
    class Scale(braze.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.save_for_backward(factor)
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        Scale.apply(braze.ones(3, requires_grad=True), made())


def test_it_is_changed_in_the_mode_only():
    x = made()
    for change in (lambda: x.mul_(2), lambda: x[:1].zero_(), lambda: x.__setitem__(0, 5)):
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
            change()
    with braze.no_grad(), pytest.raises(RuntimeError, match="Inplace update to inference"):
        x.add_(1)
    with braze.inference_mode():
        x.mul_(2)
        assert x.is_inference()
    assert x.tolist() == [4.0, 4.0, 4.0]
    with pytest.raises(RuntimeError, match="do not track version counter"):
        x._version  # noqa: B018
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
        x.requires_grad_()


def test_constants_of_the_mode_do_not_stain_gradient_rules():
    y = braze.ones(3, requires_grad=True)
    with braze.inference_mode():
        x = braze.zeros(3)
        x[0] = 1.0
    z = y * 1
    z[0] = 5.0
    (z * z).sum().backward()
    assert y.grad.tolist() == [0.0, 2.0, 2.0]
    assert x.tolist() == [1.0, 0.0, 0.0]


def test_parameters_and_data():
    with braze.inference_mode():
        layer = braze.nn.Linear(2, 2)
        x = braze.ones(2)
    assert layer.weight.is_inference()
    y = braze.zeros(2)
    y.data = x
    assert y.is_inference()
    assert not braze.zeros(2).copy_(x).is_inference()
