"""`braze.nn.grad`: the gradients of convolutions as functions."""

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze.nn import grad

CASES = [
    (1, (2, 4, 9), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    (2, (2, 3, 7, 8), (4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    (3, (1, 2, 4, 5, 6), (2, 1, 2, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
]


@pytest.mark.parametrize("spatial,size,weight_size,geometry", CASES)
def test_they_are_those_of_the_tape(spatial, size, weight_size, geometry):
    braze.manual_seed(0)
    x = braze.randn(size, dtype=braze.float64, requires_grad=True)
    weight = braze.randn(weight_size, dtype=braze.float64, requires_grad=True)
    out = getattr(F, f"conv{spatial}d")(x, weight, **geometry)
    upstream = braze.randn(out.shape, dtype=braze.float64)
    wanted = braze.autograd.grad(out, [x, weight], upstream)
    given = (size, weight.detach(), upstream)
    found = getattr(grad, f"conv{spatial}d_input")(*given, **geometry)
    np.testing.assert_allclose(found.numpy(), wanted[0].numpy(), rtol=1e-12, atol=1e-12)
    found = getattr(grad, f"conv{spatial}d_weight")(x.detach(), weight_size, upstream, **geometry)
    np.testing.assert_allclose(found.numpy(), wanted[1].numpy(), rtol=1e-12, atol=1e-12)


def test_they_have_gradients():
    upstream = braze.randn(1, 2, 3, 3, dtype=braze.float64, requires_grad=True)
    weight = braze.randn(2, 1, 2, 2, dtype=braze.float64, requires_grad=True)
    x = braze.randn(1, 1, 4, 4, dtype=braze.float64, requires_grad=True)
    gradcheck = braze.autograd.gradcheck
    assert gradcheck(lambda w, g: grad.conv2d_input((1, 1, 4, 4), w, g), (weight, upstream))
    assert gradcheck(lambda x, g: grad.conv2d_weight(x, (2, 1, 2, 2), g), (x, upstream))


def test_shapes_that_do_not_fit():
    weight, out = braze.zeros(2, 3, 3, 3), braze.zeros(1, 2, 4, 4)
    with pytest.raises(RuntimeError, match=r"input_size of 4 numbers, got \(6, 6\)"):
        grad.conv2d_input((6, 6), weight, out)
    with pytest.raises(RuntimeError, match=r"input_size is \(1, 4, 6, 6\)"):
        grad.conv2d_input((1, 4, 6, 6), weight, out)
    with pytest.raises(RuntimeError):
        grad.conv2d_input((1, 3, 9, 9), weight, out)
    with pytest.raises(RuntimeError, match=r"weight_size is \(2, 2, 3, 3\)"):
        grad.conv2d_weight(braze.zeros(1, 3, 6, 6), (2, 2, 3, 3), out)
