"""The array API standard's extension `fft` against NumPy's, by the standard's keywords."""

import inspect

import numpy as np
import pytest

import braze
from braze import array_api as xp

X = np.random.default_rng(0).standard_normal((3, 4, 5))
Z = X + 1j * X[::-1]

CALLS = [
    ("fft", Z, {}), ("fft", Z, {"n": 6, "axis": 1, "norm": "ortho"}), ("ifft", Z, {"n": 3}),
    ("fftn", Z, {}), ("fftn", Z, {"s": (2, 6), "axes": (2, 0)}), ("ifftn", Z, {"axes": (1,)}),
    ("rfft", X, {"axis": 0}), ("irfft", Z, {"n": 7}), ("rfftn", X, {"norm": "forward"}),
    ("irfftn", Z, {"s": (4, 9), "axes": (0, 1)}), ("hfft", Z, {"n": 5}), ("ihfft", X, {"n": 8}),
    ("fftshift", X, {}), ("fftshift", X, {"axes": (0, 2)}), ("ifftshift", X, {"axes": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "array", "options"), CALLS)
def test_transforms(name, array, options):
    found = getattr(xp.fft, name)(braze.from_numpy(array), **options)
    wanted = getattr(np.fft, name)(array, **options)
    assert found.numpy().dtype == wanted.dtype
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
def test_frequencies(name):
    for n in (4, 5):
        found = getattr(xp.fft, name)(n, d=0.5, dtype=xp.float64)
        np.testing.assert_allclose(found.numpy(), getattr(np.fft, name)(n, d=0.5))
    assert getattr(xp.fft, name)(3).dtype is braze.float32


def test_the_names_and_their_signatures():
    assert "fft" in dir(xp) and "fft" not in xp.missing()
    assert xp.fft is braze.ones(1).__array_namespace__().fft
    for name in xp.fft.__all__:
        parameters = list(inspect.signature(getattr(xp.fft, name)).parameters.values())
        assert parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
        assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[1:])
    transforms = {n for n in np.fft.__all__ if not n.endswith("2")}
    assert transforms == set(xp.fft.__all__)
