"""Fourier transforms in PyTorch 1.0's form against NumPy's, in both tiers."""

import numpy as np
import pytest

import braze
from braze.autograd import gradcheck, gradgradcheck
from braze.ir.errors import DTypeError, ShapeError


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def pairs(z):
    return np.stack([z.real, z.imag], -1)


def close(found, wanted):
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-10)


SHAPES = [(1, (7,)), (1, (2, 8)), (2, (3, 4)), (2, (2, 3, 5)), (3, (2, 3, 4)), (3, (2, 2, 3, 5))]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("ndim", "shape"), SHAPES)
def test_transforms(tier, ndim, shape, normalized):
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape)
    z = x + 1j * generator.standard_normal(shape)
    axes, norm = tuple(range(-ndim, 0)), "ortho" if normalized else "backward"
    t = braze.from_numpy(pairs(z))
    close(braze.fft(t, ndim, normalized), pairs(np.fft.fftn(z, axes=axes, norm=norm)))
    close(t.ifft(ndim, normalized), pairs(np.fft.ifftn(z, axes=axes, norm=norm)))
    real = braze.from_numpy(x)
    half = np.fft.rfftn(x, axes=axes, norm=norm)
    close(braze.rfft(real, ndim, normalized), pairs(half))
    whole = real.rfft(ndim, normalized, onesided=False)
    close(whole, pairs(np.fft.fftn(x, axes=axes, norm=norm)))
    close(braze.irfft(whole, ndim, normalized, onesided=False), x)
    back = braze.irfft(
        braze.from_numpy(pairs(half)), ndim, normalized, signal_sizes=shape[-ndim:]
    )
    close(back, x)
    if shape[-1] % 2 == 0:
        close(braze.irfft(braze.from_numpy(pairs(half)), ndim, normalized), x)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("ndim", [1, 2])
def test_gradients(ndim, size):
    generator = np.random.default_rng(0)
    z = braze.from_numpy(generator.standard_normal((3, size, 2))).requires_grad_()
    half = braze.from_numpy(generator.standard_normal((3, size // 2 + 1, 2))).requires_grad_()
    sizes = (3, size)[-ndim:]
    assert gradcheck(lambda x: braze.fft(x, ndim), [z])
    assert gradcheck(lambda x: braze.ifft(x, ndim, True), [z])
    assert gradcheck(lambda x: braze.rfft(x[..., 0], ndim), [z])
    assert gradcheck(lambda x: braze.rfft(x[..., 0], ndim, onesided=False), [z])
    assert gradcheck(lambda x: braze.irfft(x, ndim, signal_sizes=sizes), [half])
    assert gradgradcheck(lambda x: braze.irfft(x, ndim, signal_sizes=sizes), [half])


def test_errors():
    x = braze.ones(4, 2)
    for function, message in (
        (lambda: braze.fft(braze.ones(4), 1), r"\[fft\] the last dimension must hold real and"),
        (lambda: braze.fft(x, 2), r"\[fft\] 2 dimensions \(1 to 3\) to transform of f32\[4,2\]"),
        (lambda: braze.rfft(braze.ones(0), 1), r"\[rfft\] a dimension to transform is empty"),
        (lambda: braze.irfft(x, 1, signal_sizes=[9]), r"\[irfft\] f32\[4,2\] is not half of a"),
        (lambda: braze.irfft(x, 1, signal_sizes=[3, 6]), r"\[irfft\] signal sizes \[3, 6\] do not"),
    ):
        with pytest.raises(ShapeError, match=message):
            function()
    with pytest.raises(DTypeError, match=r"\[rfft\] needs float32 or float64"):
        braze.rfft(braze.tensor([1, 2]), 1)
