"""Fourier transforms against NumPy's, in both tiers."""

import numpy as np
import pytest
from gradients import gradcheck_op

import braze
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
    z = generator.standard_normal((3, size, 2))
    for inverse in (False, True):
        gradcheck_op("fft", [z], {"ndim": ndim, "inverse": inverse}, second=True)
    gradcheck_op("rfft", [z[..., 0]], {"ndim": ndim}, second=True)
    half = generator.standard_normal((3, size // 2 + 1, 2))
    gradcheck_op("irfft", [half], {"ndim": ndim, "size": size}, second=True)


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("width", [None, 6])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("center", [True, False])
def test_short_time_transform(tier, batch, width, center, pad_mode):
    n, hop = 8, 3
    x = np.random.default_rng(0).standard_normal((*batch, 29))
    window = np.random.default_rng(1).uniform(0.5, 1, width or n)
    side = (n - len(window)) // 2
    padded_window = np.pad(window, (side, n - len(window) - side))
    padding = [(0, 0)] * len(batch) + [(n // 2, n // 2)]
    signal = np.pad(x, padding, mode=pad_mode) if center else x
    starts = range(0, signal.shape[-1] - n + 1, hop)
    frames = np.stack([signal[..., i : i + n] * padded_window for i in starts], -2)
    wanted = pairs(np.swapaxes(np.fft.rfft(frames), -1, -2))
    found = braze.stft(
        braze.from_numpy(x), n, hop, width, braze.from_numpy(window), center, pad_mode
    )
    close(found, wanted)
    plain = braze.stft(braze.from_numpy(x), n, hop, width, None, center, pad_mode)
    ones = braze.ones(len(window), dtype=braze.float64)
    close(plain, braze.stft(braze.from_numpy(x), n, hop, width, ones, center, pad_mode).numpy())


def test_gradient_of_the_short_time_transform(tier):
    x = np.random.default_rng(0).standard_normal(20)
    signal = braze.from_numpy(x).requires_grad_()
    out = braze.stft(signal, 8)
    (out * out).sum().backward()
    direction = np.random.default_rng(2).standard_normal(20)
    sides = [
        (braze.stft(braze.from_numpy(x + sign * 1e-6 * direction), 8) ** 2).sum().item()
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(
        (signal.grad.numpy() * direction).sum(), (sides[0] - sides[1]) / 2e-6, rtol=1e-6
    )


def test_errors():
    x = braze.ones(4, 2)
    for function, message in (
        (lambda: braze.fft(braze.ones(4), 1), r"\[fft\] the last dimension must hold real and"),
        (lambda: braze.fft(x, 2), r"\[fft\] 2 dimensions \(1 to 3\) to transform of f32\[4,2\]"),
        (lambda: braze.rfft(braze.ones(0), 1), r"\[rfft\] a dimension to transform is empty"),
        (lambda: braze.irfft(x, 1, signal_sizes=[9]), r"\[irfft\] f32\[4,2\] is not half of a"),
        (lambda: braze.irfft(x, 1, signal_sizes=[3, 6]), r"\[irfft\] signal sizes \[3, 6\] do not"),
        (lambda: braze.stft(braze.ones(3), 8), r"\[stft\] f32\[3\] is too short"),
        (lambda: braze.stft(braze.ones(30), 8, window=x[0]), r"\[stft\] the window must be \[8\]"),
    ):
        with pytest.raises(ShapeError, match=message):
            function()
    with pytest.raises(DTypeError, match=r"\[rfft\] needs float32 or float64"):
        braze.rfft(braze.tensor([1, 2]), 1)
