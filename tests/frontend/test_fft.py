"""`braze.fft` against NumPy's transforms, in both tiers, and its gradients."""

import numpy as np
import pytest

import braze
from braze.autograd import gradcheck, gradgradcheck

NAMES = "fft ifft rfft irfft hfft ihfft".split()
SEVERAL = "fftn ifftn rfftn irfftn fft2 ifft2 rfft2 irfft2".split()
NORMS = [None, "forward", "backward", "ortho"]


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def numbers(*shape, real=False):
    generator = np.random.default_rng(len(shape))
    x = generator.standard_normal(shape)
    return x if real else x + 1j * generator.standard_normal(shape)


def is_real(name):
    """Does a transform take real numbers only?"""
    return name.removesuffix("2").removesuffix("n") in ("rfft", "ihfft")


def t(array):
    return braze.from_numpy(np.array(array))


def close(found, wanted):
    assert found.numpy().dtype == wanted.dtype and tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_one_dimension(tier, name, norm):
    x = numbers(3, 4, 5, real=is_real(name))
    for n, dim in ((None, -1), (2, 0), (9, 1), (1, 1)):
        found = getattr(braze.fft, name)(t(x), n, dim, norm)
        close(found, getattr(np.fft, name)(x, n, dim, norm))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_dimensions(tier, name):
    x = numbers(2, 3, 4, 5, real=is_real(name))
    default = {} if "n" in name else {"axes": (-2, -1)}
    cases = [({}, default), ({"dim": (2, 0)}, {"axes": (2, 0)})]
    cases.append(({"s": (3, 6), "dim": (1, -1)}, {"s": (3, 6), "axes": (1, -1)}))
    cases.append(({"s": (-1, 2)}, {"s": (4, 2), "axes": (-2, -1)}))
    if "n" in name:
        cases.append(({"dim": 1, "norm": "ortho"}, {"axes": (1,), "norm": "ortho"}))
        cases.append(({"s": 3}, {"s": (3,), "axes": (-1,)}))
    reference = getattr(np.fft, name.replace("2", "n"))
    for given, wanted in cases:
        close(getattr(braze.fft, name)(t(x), **given), reference(x, **wanted))


@pytest.mark.parametrize("norm", NORMS)
def test_hermitian_signals_of_several_dimensions(tier, norm):
    """`fftn` of the whole signal, of which the half is given; and back."""
    whole = np.fft.ifftn(numbers(3, 4, 5, real=True))
    half = whole[..., :3]
    wanted = np.fft.fftn(whole, norm=norm).real
    close(braze.fft.hfftn(t(half), (3, 4, 5), norm=norm), wanted)
    close(braze.fft.ihfftn(t(wanted), norm=norm), half)
    wanted = np.fft.fftn(np.fft.ifftn(whole.real, axes=(1, 2)), axes=(1, 2), norm=norm).real
    half = np.fft.ifftn(whole.real, axes=(1, 2))[..., :3]
    close(braze.fft.hfft2(t(half), (4, 5), norm=norm), wanted)
    close(braze.fft.ihfft2(t(wanted), norm=norm), half)


def test_promotion(tier):
    whole = np.arange(6).reshape(2, 3)
    wide = np.fft.fft(whole)
    for x, wanted in (
        (whole, wide.astype(np.complex64)),
        (whole > 2, np.fft.fft(whole > 2).astype(np.complex64)),
        (whole.astype(np.float32), wide.astype(np.complex64)),
        (whole.astype(np.float64), wide),
        (whole.astype(np.complex64), wide.astype(np.complex64)),
    ):
        found = braze.fft.fft(t(x))
        assert found.numpy().dtype == wanted.dtype
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    assert braze.fft.rfft(t(whole)).dtype is braze.complex64
    assert braze.fft.irfft(t(whole)).dtype is braze.float32
    assert braze.fft.hfft(t(whole.astype(float))).dtype is braze.float64


def test_no_dimension_and_empty_batches(tier):
    x = numbers(2, 3)
    close(braze.fft.fftn(t(x), dim=()), x)
    close(braze.fft.fftn(t(np.array(2.0))), np.array(2 + 0j))
    for name in ("fft", "rfft", "irfft"):
        real = is_real(name)
        empty = numbers(0, 4, real=real)
        close(getattr(braze.fft, name)(t(empty)), getattr(np.fft, name)(empty))


def test_frequencies_and_shifts(tier):
    for n in (1, 4, 5):
        for d in (1.0, 0.25):
            close(braze.fft.fftfreq(n, d, dtype=braze.float64), np.fft.fftfreq(n, d))
            close(braze.fft.rfftfreq(n, d, dtype=braze.float64), np.fft.rfftfreq(n, d))
    assert braze.fft.fftfreq(4).dtype is braze.float32
    assert braze.fft.fftfreq(0).shape == (0,)
    assert braze.fft.fftfreq(3, requires_grad=True).requires_grad
    x = np.arange(40).reshape(5, 8)
    for dim in (None, 0, (1,), (0, -1)):
        close(braze.fft.fftshift(t(x), dim), np.fft.fftshift(x, dim))
        close(braze.fft.ifftshift(t(x), dim), np.fft.ifftshift(x, dim))


def test_out():
    x = t(numbers(4))
    out = braze.empty(4, dtype=braze.complex128)
    assert braze.fft.fft(x, out=out) is out
    close(out, np.fft.fft(x.numpy()))
    freq = braze.empty(4, dtype=braze.float64)
    close(braze.fft.fftfreq(4, out=freq), np.fft.fftfreq(4))
    with pytest.raises(RuntimeError, match="can't be cast"):
        braze.fft.fft(x, out=braze.empty(4))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fft", {}), ("fft", {"n": 3, "norm": "ortho"}), ("fft", {"n": 6, "dim": 0}),
        ("ifft", {}), ("fftn", {}), ("ifftn", {"s": (2, 5)}), ("fft2", {"norm": "forward"}),
        ("rfft", {}), ("rfft", {"n": 5}), ("rfft", {"dim": 0}), ("rfftn", {"norm": "ortho"}),
        ("irfft", {}), ("irfft", {"n": 5}), ("irfft", {"n": 7, "dim": 0}), ("irfftn", {}),
        ("hfft", {}), ("hfftn", {"s": (3, 5)}), ("ihfft", {"n": 5}), ("ihfft2", {}),
    ],
)  # fmt: skip
def test_gradients(name, settings):
    x = t(numbers(3, 4, real=is_real(name))).requires_grad_()

    def function(z):
        return getattr(braze.fft, name)(z, **settings)

    assert gradcheck(function, [x])
    assert gradgradcheck(function, [x], fast_mode=True)


def test_gradients_of_real_inputs_are_real(tier):
    x = t(numbers(5, real=True)).requires_grad_()
    (braze.fft.fft(x).abs() ** 2).sum().backward()
    close(x.grad, 2 * 5 * x.detach().numpy())


def test_the_module_is_the_old_function_too():
    z = numbers(3, 4)
    pairs = t(np.stack([z.real, z.imag], -1))
    found = braze.fft(pairs, 2, True)
    wanted = np.fft.fftn(z, norm="ortho")
    close(found, np.stack([wanted.real, wanted.imag], -1))
    assert braze.fft.fft is not braze.fft and "fft" in dir(braze)


def test_errors():
    x, z = t(numbers(4, 5, real=True)), t(numbers(4, 5))
    f = braze.fft
    for call, error, message in (
        (lambda: f.fft(x, 0), RuntimeError, r"\[fft\] Invalid number of data points \(0\)"),
        (lambda: f.fft(x, -1), RuntimeError, r"Invalid number of data points"),
        (lambda: f.fftn(x, (0, 3)), RuntimeError, r"Invalid number of data points \(0\)"),
        (lambda: f.irfft(z[:, :1]), RuntimeError, r"\[irfft\] Invalid number of data points"),
        (lambda: f.fft(x, dim=2), IndexError, r"\[fft\] dimension out of range"),
        (lambda: f.fft(x[0, 0]), IndexError, "the tensor|tensor has no dimensions"),
        (lambda: f.fft2(x[0]), IndexError, "out of range"),
        (lambda: f.fft(x, norm="no"), RuntimeError, 'Invalid normalization mode: "no"'),
        (lambda: f.rfft(z), RuntimeError, r"\[rfft\] expects a real input tensor, but got c128"),
        (lambda: f.ihfft(z), RuntimeError, r"\[ihfft\] expects a real input tensor"),
        (lambda: f.fftn(x, (1, 2, 3)), RuntimeError, "Got shape with 3 values"),
        (lambda: f.fftn(x, (1, 2), 0), RuntimeError, "must have the same length"),
        (lambda: f.fftn(x, dim=(0, -2)), RuntimeError, "FFT dims must be unique"),
        (lambda: f.rfftn(x, dim=()), RuntimeError, "must transform at least one axis"),
        (lambda: f.irfftn(z[0, 0]), RuntimeError, "must transform at least one axis"),
        (lambda: f.fft(x.half()), RuntimeError, r"\[fft\] Unsupported dtype"),
        (lambda: f.fft([1.0]), TypeError, "must be Tensor"),
        (lambda: f.fftfreq(-1), RuntimeError, "negative dimension"),
        (lambda: f.fftfreq(4, dtype=braze.int64), RuntimeError, "floating point or complex"),
        (lambda: f.fftshift(x, 5), IndexError, "dimension out of range"),
    ):
        with pytest.raises(error, match=message):
            call()
