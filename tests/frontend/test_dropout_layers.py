"""Dropout of elements and channels: which are dropped, what is kept, ranks and settings."""

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn

ALPHA = -1.7580993408473766  # the limit of selu


@pytest.fixture(autouse=True)
def seeded(interpret):
    braze.manual_seed(11)


def whole_dimensions(x):
    """Which dimensions are dropped as a whole."""
    x = x.numpy()
    return [bool((x == x.take([0], axis)).all()) for axis in range(x.ndim)]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("dropout1d", (40, 30, 4), [False, False, True]),
        ("dropout1d", (40, 30), [False, True]),
        ("dropout2d", (40, 30, 2, 2), [False, False, True, True]),
        ("dropout2d", (40, 30, 4), [False, False, True]),
        ("dropout3d", (9, 20, 2, 2, 2), [False, False, True, True, True]),
        ("dropout3d", (40, 3, 2, 2), [False, True, True, True]),
        ("feature_alpha_dropout", (40, 30, 2), [False, False, True]),
        ("alpha_dropout", (40, 30), [False, False]),
    ],
)
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_what_is_dropped_together(name, shape, expected):
    found = getattr(F, name)(braze.ones(*shape), 0.4, True)
    assert whole_dimensions(found) == expected


def affine(p):
    """Of alpha dropout: scale and shift (Klambauer et al., section 3)."""
    a = ((1 - p) * (1 + p * ALPHA**2)) ** -0.5
    return a, -a * p * ALPHA


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_sets_to_the_limit_and_keeps_mean_and_variance(name):
    p = 0.3
    a, shift = affine(p)
    x = np.random.default_rng(0).standard_normal((300, 200, 1))
    layer = nn.AlphaDropout(p) if name == "alpha_dropout" else nn.FeatureAlphaDropout(p)
    for call in (lambda x: getattr(F, name)(x, p, True), layer):
        y = call(braze.tensor(x)).numpy()
        dropped = np.isclose(y, a * ALPHA + shift)
        assert abs(dropped.mean() - p) < 0.01
        np.testing.assert_allclose(y[~dropped], (a * x + shift)[~dropped])
        assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    assert layer.eval()(braze.tensor(x)).tolist() == x.tolist()


def test_gradients_follow_what_was_kept():
    x = braze.ones(50, 40, 1, requires_grad=True)
    for call in (nn.AlphaDropout(0.4), nn.Dropout1d(0.4), nn.Dropout(0.4, inplace=True)):
        y = call(x * 1)
        (slopes,) = braze.autograd.grad(y.sum(), x)
        y, slopes = y.detach().numpy(), slopes.numpy()
        kept = slopes != 0
        assert len(np.unique(slopes)) == 2 and 0.3 < (~kept).mean() < 0.5
        assert len(np.unique(y[kept])) == len(np.unique(y[~kept])) == 1


def test_compiled():
    x = np.random.default_rng(1).standard_normal((64, 32, 3)).astype(np.float32)
    layers = [nn.Dropout(0.25), nn.Dropout1d(0.25), nn.AlphaDropout(0.25)]

    def run():
        braze.manual_seed(5)
        t = braze.tensor(x)
        return [layer(t) for layer in layers]

    interpreted = [y.numpy() for y in run()]
    with braze.config.using(tier="compile"):
        compiled = [y.numpy() for y in run()]
    for a, b in zip(interpreted, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert set(np.unique((compiled[0] / x).round(3))) == {np.float32(0), np.float32(1.333)}


def test_nothing_happens():
    x, nothing = braze.ones(2, 3, 4), braze.ones(2, 0, 4)
    for name in ("dropout", "dropout1d", "alpha_dropout", "feature_alpha_dropout"):
        function = getattr(F, name)
        assert function(x, 0.5, False) is x and function(x, 0.0, True) is x
        assert function(nothing, 0.5, True) is nothing
        assert not function(x, 1.0, True).any()


def test_errors_and_warnings():
    for layer in (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout):
        with pytest.raises(ValueError, match="between 0 and 1, but got 1.5"):
            layer(1.5)
    with pytest.raises(RuntimeError, match="Expected 2D or 3D input, but received a 4D"):
        F.dropout1d(braze.ones(2, 3, 4, 5))
    with pytest.warns(UserWarning, match="interpreted as shape"):
        F.dropout2d(braze.ones(2, 3, 4))
    with pytest.warns(UserWarning, match="Received a 2-D input to dropout3d"):
        F.dropout3d(braze.ones(2, 3))
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        F.feature_alpha_dropout(braze.ones(3), 0.5, True)
    assert repr(nn.AlphaDropout(0.2)) == "AlphaDropout(p=0.2, inplace=False)"
