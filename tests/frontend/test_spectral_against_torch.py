"""Fourier transforms and complex linear algebra against PyTorch, where it is installed: values,
dtypes and gradients."""

import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def interpreted():
    braze.sync()
    before, braze.config.tier = braze.config.tier, "interpret"
    yield
    braze.sync()
    braze.config.tier = before


def numbers(*shape, real=False, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape)
    return np.asarray(x if real else x + 1j * generator.standard_normal(shape))


def same(function, *arrays):
    """Values, dtypes and the gradients of a weighted sum are equal."""
    ours = [braze.from_numpy(a.copy()).requires_grad_() for a in arrays]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    found, wanted = function(braze, *ours), function(torch, *theirs)
    assert str(found.dtype).split(".")[1] == str(wanted.dtype).split(".")[1]
    result = wanted.detach().resolve_conj().numpy()
    assert tuple(found.shape) == result.shape
    np.testing.assert_allclose(found.detach().numpy(), result, atol=1e-10)
    weight = numbers(*result.shape, real=not wanted.is_complex(), seed=9)
    found.backward(braze.from_numpy(weight.copy()))
    wanted.backward(torch.from_numpy(weight))
    for one, other in zip(ours, theirs, strict=True):
        gradient = other.grad.resolve_conj().numpy()
        np.testing.assert_allclose(one.grad.numpy(), gradient, atol=1e-10)


NAMES = (
    "fft ifft rfft irfft hfft ihfft fft2 ifft2 rfft2 irfft2 hfft2 ihfft2 fftn ifftn rfftn irfftn "
    "hfftn ihfftn"
).split()


@pytest.mark.parametrize("norm", [None, "forward", "ortho"])
@pytest.mark.parametrize("name", NAMES)
def test_transforms(name, norm):
    real = name.rstrip("2n") in ("rfft", "ihfft")
    x = numbers(3, 4, 6, real=real)
    several = name[-1] in "2n"
    cases = [{}, {"s": (3, 9)}, {"dim": (1, 0)}] if several else [{}, {"n": 9}, {"n": 3, "dim": 0}]
    for settings in cases:
        same(lambda m, z, kw=settings: getattr(m.fft, name)(z, norm=norm, **kw), x)


@pytest.mark.parametrize("pad_mode", ["reflect", "constant", "replicate", "circular"])
@pytest.mark.parametrize("is_complex", [False, True])
def test_short_time_transforms(is_complex, pad_mode):
    x, window = numbers(2, 30, real=not is_complex), np.linspace(0.2, 1, 7)
    settings = {"hop_length": 3, "win_length": 7}

    def forward(m, x, window):
        return m.stft(x, 8, window=window, pad_mode=pad_mode, return_complex=True, **settings)

    def inverse(m, x, window):
        z = forward(m, x, window) ** 2
        return m.istft(z, 8, window=window, length=28, return_complex=is_complex, **settings)

    same(forward, x, window)
    same(inverse, x, window)


def matrix(seed=0):
    return numbers(2, 3, 3, seed=seed) + 2 * np.eye(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, a: m.linalg.inv(a),
        lambda m, a: m.linalg.slogdet(a)[0],
        lambda m, a: m.linalg.slogdet(a)[1],
        lambda m, a: m.linalg.cholesky(a @ a.mH),
        lambda m, a: m.linalg.qr(a)[0],
        lambda m, a: m.linalg.qr(a)[1],
        lambda m, a: m.linalg.eigvalsh(a @ a.mH),
        lambda m, a: m.linalg.eigh(a @ a.mH)[1].abs(),
        lambda m, a: m.linalg.svd(a[..., :2], full_matrices=False)[0].abs(),
        lambda m, a: m.linalg.svdvals(a),
        lambda m, a: m.linalg.pinv(a[..., :2]),
        lambda m, a: m.linalg.lu(a)[2],
        lambda m, a: m.linalg.eig(a)[1].abs(),
        lambda m, a: m.linalg.vector_norm(a, 3, dim=-1),
        lambda m, a: m.linalg.matrix_norm(a, 1),
        lambda m, a: m.linalg.cond(a),
        lambda m, a: m.linalg.vecdot(a, a**2),
    ],
)
def test_linear_algebra(function):
    same(function, matrix())


def test_eigenvalues():
    """In any order."""
    for a in (matrix()[0], matrix()[0].real):
        same(lambda m, a: m.linalg.eigvals(a).exp().sum(), a)
        same(lambda m, a: (m.linalg.eigvals(a) ** 2).sum(), a)
