"""What is computed from a reduction and stored in another order of its elements."""

import numpy as np
import pytest

import braze
from braze.nn import functional as F


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("size", "shape"), [(2, (2, 3, 6)), (2, (3, 5)), (3, (2, 2, 9))])
def test_gradient_of_max_pool1d_compiled(size, shape, second):
    """The gradient follows the position of the maximum, one element of each window, and is stored
    with the channels last."""
    x = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    gradients = []
    for tier in ("interpret", "compile"):
        with braze.config.using(tier=tier):
            leaf = braze.tensor(x, requires_grad=True)
            pooled = F.max_pool1d(leaf, size)
            weights = braze.arange(1.0, pooled.numel() + 1).reshape(pooled.shape)
            total = (pooled * weights).sum()
            (gradient,) = braze.autograd.grad(total, [leaf], create_graph=second)
            gradients.append(gradient.numpy(force=True))
    np.testing.assert_array_equal(*gradients)
    count = shape[-1] // size
    windows = x[..., : count * size].reshape(*shape[:-1], count, size)
    expected = np.zeros((*shape[:-1], count, size), np.float32)
    numbers = np.arange(1.0, windows[..., 0].size + 1).reshape(windows.shape[:-1])
    np.put_along_axis(expected, windows.argmax(-1)[..., None], numbers[..., None], -1)
    actual = gradients[0][..., : count * size].reshape(expected.shape)
    np.testing.assert_array_equal(actual, expected)
