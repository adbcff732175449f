"""Short-time Fourier transforms against NumPy's and back, in both tiers."""

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


def noise(*shape, is_complex=False):
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape)
    return x + 1j * generator.standard_normal(shape) if is_complex else x


def t(array):
    return braze.from_numpy(np.array(array))


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


PADDING = {"reflect": "reflect", "constant": "constant", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("pad_mode", PADDING)
def test_complex_numbers(tier, pad_mode, is_complex):
    n, hop = 7, 2
    x = noise(2, 20, is_complex=is_complex)
    window = np.random.default_rng(1).uniform(0.5, 1, n)
    signal = np.pad(x, [(0, 0), (n // 2, n // 2)], mode=PADDING[pad_mode])
    starts = range(0, signal.shape[-1] - n + 1, hop)
    frames = np.stack([signal[..., i : i + n] * window for i in starts], -2)
    whole = np.swapaxes(np.fft.fft(frames, norm="ortho"), -1, -2)

    def found(**settings):
        return braze.stft(
            t(x), n, hop, window=t(window), pad_mode=pad_mode, normalized=True, **settings
        )

    half = whole if is_complex else whole[..., : n // 2 + 1, :]
    close(found(return_complex=True), half)
    close(found(return_complex=True, onesided=False), whole)
    close(found(return_complex=False), pairs(half))
    close(found(), half if is_complex else pairs(half))


def test_complex_windows(tier):
    x, window = noise(16), noise(8, is_complex=True)
    frames = np.stack([x[i : i + 8] * window for i in (0, 2, 4, 6, 8)])
    found = t(x).stft(8, window=t(window), center=False)
    close(found, np.fft.fft(frames).T)


def test_frames_that_start_with_their_windows(tier):
    x, window = noise(16), np.arange(1.0, 5)
    found = braze.stft(
        t(x), 8, 2, 4, t(window), center=False, align_to_window=True, return_complex=True
    )
    frames = np.zeros((7, 8))
    for i in range(7):
        frames[i, 2:6] = x[2 * i : 2 * i + 4] * window
    close(found, np.fft.rfft(frames).T)


@pytest.mark.parametrize(("n", "hop", "batch"), [(8, 1, ()), (8, 3, (2,)), (7, 3, ()), (7, 5, ())])
@pytest.mark.parametrize("center", [True, False])
def test_the_inverse(tier, center, n, hop, batch):
    """Of what `stft` gives, where windows cover the signal."""
    count = n + hop * 5 - 2 * (n // 2) * center  # the frames end with the signal
    window = t(np.random.default_rng(1).uniform(0.5, 1, n))
    for is_complex in (False, True):
        x = noise(*batch, count, is_complex=is_complex)
        for settings in ({}, {"normalized": True, "onesided": False}):
            z = braze.stft(t(x), n, hop, None, window, center, return_complex=True, **settings)
            back = braze.istft(
                z, n, hop, None, window, center, return_complex=is_complex, **settings
            )
            close(back, x)
    shorter = z.istft(n, hop, None, window, center, True, None, count - 2, True)
    close(shorter, x[..., : count - 2])


def test_a_result_longer_than_the_frames_is_filled_up(tier):
    x = noise(24)
    z = braze.stft(t(x), 8, return_complex=True)
    with pytest.warns(UserWarning, match="shorter than the length parameter"):
        found = braze.istft(z, 8, length=32)
    assert found.shape == (32,)
    np.testing.assert_allclose(found.numpy()[:24], x, atol=1e-12)
    assert not found.numpy()[28:].any()


def test_the_inverse_of_anything_is_a_least_squares_fit(tier):
    """Its transform is the projection: what is left is orthogonal to all transforms."""
    generator = np.random.default_rng(3)
    z = generator.standard_normal((8, 6)) + 1j * generator.standard_normal((8, 6))
    window = t(generator.uniform(0.5, 1, 8))
    settings = {"hop_length": 2, "window": window, "center": False}
    x = braze.istft(t(z), 8, return_complex=True, **settings)
    rest = t(z) - braze.stft(x, 8, **settings)
    other = braze.stft(t(noise(18, is_complex=True)), 8, **settings)
    assert abs((rest * other.conj()).sum().item()) < 1e-10
    assert rest.abs().max().item() > 0.1


@pytest.mark.parametrize("width", [8, 6])
def test_gradients(width):
    x = t(noise(20)).requires_grad_()
    window = t(np.random.default_rng(1).uniform(0.5, 1, width)).requires_grad_()

    def forward(x, window):
        return braze.stft(x, 8, 3, width, window, return_complex=True)

    def inverse(z, window):
        return braze.istft(z, 8, 3, width, window, length=18)

    assert gradcheck(forward, [x, window])
    assert gradgradcheck(forward, [x, window], fast_mode=True)
    z = t(noise(5, 7, is_complex=True)).requires_grad_()
    assert gradcheck(inverse, [z, window])
    assert gradgradcheck(inverse, [z, window], fast_mode=True)


def test_a_point_that_no_window_covers(tier):
    z = braze.stft(t(noise(20)), 8, return_complex=True)
    found = braze.istft(z, 8, window=braze.zeros(8, dtype=braze.float64))
    with pytest.raises(RuntimeError, match=r"\[istft\] window overlap add(.|\n)*test_short_time"):
        found.numpy()


def test_errors():
    x, z = t(noise(30)), t(noise(5, 7, is_complex=True))
    one = braze.ones(8)
    for call, error, message in (
        (lambda: braze.stft(x[:3], 8), ShapeError, r"\[stft\] f64\[3\] is too short"),
        (lambda: braze.stft(x, 8, window=one[:2]), ShapeError, r"\[stft\] the window must be"),
        (lambda: braze.stft(x[None, None], 8), ShapeError, "expected a signal or a batch"),
        (lambda: braze.stft(x.long(), 8), DTypeError, "floating point or complex values"),
        (lambda: braze.stft(x, 8, 0), RuntimeError, "expected 0 < hop_length"),
        (lambda: braze.stft(x, 8, win_length=9), RuntimeError, "win_length <= n_fft"),
        (lambda: braze.stft(x + 0j, 8, onesided=True), RuntimeError, "cannot have onesided"),
        (lambda: braze.stft(x, 8, pad_mode="no"), NotImplementedError, "Unrecognised padding mode"),
        (lambda: braze.stft(x, 8, align_to_window=True), RuntimeError, "only be set when center"),
        (lambda: braze.istft(z.real, 8), DTypeError, r"\[istft\] requires a complex-valued input"),
        (lambda: braze.istft(z[0], 8), ShapeError, r"expected \[frequencies, frames\]"),
        (lambda: braze.istft(z[:, :0], 8), ShapeError, "input tensor cannot be empty"),
        (lambda: braze.istft(z, 10), ShapeError, "expected 6 frequencies for n_fft=10"),
        (lambda: braze.istft(z, 8, onesided=False), ShapeError, "expected 8 frequencies"),
        (lambda: braze.istft(z, 8, 9), RuntimeError, "expected 0 < hop_length <= win_length"),
        (lambda: braze.istft(z, 8, window=one[:2]), ShapeError, r"\[istft\] the window must be"),
        (lambda: braze.istft(z, 8, window=one + 0j), RuntimeError, "complex windows are incompat"),
        (lambda: braze.istft(z, 8, return_complex=True), RuntimeError, "cannot have onesided"),
        (lambda: braze.istft(z, 8, length=0), ShapeError, "leave no signal"),
    ):
        with pytest.raises(error, match=message):
            call()
