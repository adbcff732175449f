"""Activation layers and functions against NumPy, in place and not; random slopes and choices."""

import math

import numpy as np
import pytest
from scipy import special

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import gradcheck

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 2


def softplus(x):
    return np.logaddexp(x, 0)


# Layer -> (function's name, settings, NumPy).
LAYERS = {
    "ELU": ("elu", (0.7,), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "CELU": ("celu", (0.7,), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7))),
    "SELU": ("selu", (), lambda x: 1.0507009873554805
             * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "GELU": ("gelu", (), lambda x: x * special.ndtr(x)),
    "Hardshrink": ("hardshrink", (0.8,), lambda x: np.where(np.abs(x) > 0.8, x, 0)),
    "Hardsigmoid": ("hardsigmoid", (), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "Hardswish": ("hardswish", (), lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Hardtanh": ("hardtanh", (-0.5, 2.0), lambda x: np.clip(x, -0.5, 2.0)),
    "LeakyReLU": ("leaky_relu", (0.2,), lambda x: np.where(x > 0, x, 0.2 * x)),
    "LogSigmoid": ("logsigmoid", (), lambda x: -softplus(-x)),
    "Mish": ("mish", (), lambda x: x * np.tanh(softplus(x))),
    "ReLU": ("relu", (), lambda x: np.maximum(x, 0)),
    "ReLU6": ("relu6", (), lambda x: np.clip(x, 0, 6)),
    "Sigmoid": ("sigmoid", (), special.expit),
    "SiLU": ("silu", (), lambda x: x * special.expit(x)),
    "Softplus": ("softplus", (2.0,), lambda x: softplus(2 * x) / 2),
    "Softshrink": ("softshrink", (0.8,), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.8, 0)),
    "Softsign": ("softsign", (), lambda x: x / (1 + np.abs(x))),
    "Tanh": ("tanh", (), np.tanh),
    "Tanhshrink": ("tanhshrink", (), lambda x: x - np.tanh(x)),
    "Threshold": ("threshold", (0.3, -5.0), lambda x: np.where(x > 0.3, x, -5.0)),
}  # fmt: skip
IN_PLACE = "ELU CELU SELU Hardsigmoid Hardswish Hardtanh LeakyReLU Mish ReLU ReLU6 SiLU Threshold"


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_and_functions(layer):
    name, settings, expected = LAYERS[layer]
    x = draw(3, 4)
    for call in (getattr(nn, layer)(*settings), lambda x: getattr(F, name)(x, *settings)):
        np.testing.assert_allclose(call(braze.tensor(x)).numpy(), expected(x), rtol=1e-9)
    assert gradcheck(getattr(nn, layer)(*settings), braze.tensor(x, requires_grad=True))


@pytest.mark.parametrize("layer", IN_PLACE.split())
def test_in_place(layer):
    name, settings, expected = LAYERS[layer]
    made = getattr(nn, layer)(*settings, inplace=True)
    x = braze.tensor(draw(3, 4))
    before = x.numpy().copy()
    assert made(x) is x
    np.testing.assert_allclose(x.numpy(), expected(before), rtol=1e-9)
    leaf = braze.tensor(before, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        made(leaf)
    y = leaf * 1
    made(y).sum().backward()
    slopes = leaf.grad.numpy().copy()
    leaf.grad = None
    getattr(F, name)(leaf, *settings).sum().backward()
    np.testing.assert_allclose(slopes, leaf.grad.numpy(), rtol=1e-12)
    if name in ("elu", "leaky_relu", "hardtanh", "relu", "threshold", "celu", "selu"):
        z = braze.tensor(before)
        assert getattr(F, f"{name}_")(z, *settings) is z
        np.testing.assert_allclose(z.numpy(), expected(before), rtol=1e-9)


def test_compiled():
    x = draw(5, 8).astype(np.float32)
    names = [layer for layer in LAYERS if layer != "Softshrink"]
    net = [getattr(nn, layer)(*LAYERS[layer][1]) for layer in names]
    with braze.config.using(tier="compile"):
        t = braze.tensor(x)
        found = [made(t) for made in net]
        found = [y.numpy() for y in found]
    for name, y in zip(names, found, strict=True):
        np.testing.assert_allclose(y, LAYERS[name][2](x), rtol=1e-4, atol=1e-5, err_msg=name)


def test_softmax_2d_is_over_channels():
    x = draw(2, 3, 2, 2)
    expected = special.softmax(x, 1)
    np.testing.assert_allclose(nn.Softmax2d()(braze.tensor(x)).numpy(), expected)
    np.testing.assert_allclose(nn.Softmax2d()(braze.tensor(x[0])).numpy(), expected[0])
    with pytest.raises(ValueError, match="3D or 4D, got 2D"):
        nn.Softmax2d()(braze.zeros(2, 3))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_a_dimension_that_is_not_given_is_the_first_or_second(name):
    for shape, dim in [((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)]:
        x = braze.tensor(draw(*shape))
        with pytest.warns(UserWarning, match=f"Implicit dimension choice for {name}") as found:
            chosen = getattr(F, name)(x)
        with pytest.warns(UserWarning) as of_layer:
            layer = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax, "softmin": nn.Softmin}
            assert layer[name]()(x).tolist() == chosen.tolist()
        assert found[0].filename == of_layer[0].filename == __file__
        assert chosen.tolist() == getattr(F, name)(x, dim).tolist()


def test_random_slopes():
    braze.manual_seed(3)
    x = -braze.ones(4000, requires_grad=True)
    y = nn.RReLU(0.2, 0.6)(x)
    slopes = -y.detach().numpy()
    assert 0.2 <= slopes.min() < 0.21 and 0.59 < slopes.max() <= 0.6
    assert abs(slopes.mean() - 0.4) < 0.01 and abs(slopes.std() - 0.4 / math.sqrt(12)) < 0.005
    gradient = braze.autograd.grad(y.sum(), x)[0]
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=1e-6)
    still = nn.RReLU(0.2, 0.6).eval()
    assert still(braze.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.4, 2.0])
    assert repr(nn.RReLU(0.2, 0.6, inplace=True)) == "RReLU(lower=0.2, upper=0.6, inplace=True)"
    z = braze.tensor([-1.0, 1.0])
    assert F.rrelu_(z, 0.5, 0.5, training=True) is z and z.tolist() == [-0.5, 1.0]


def test_gumbel_softmax_chooses_by_the_softmax_of_the_logits():
    braze.manual_seed(4)
    logits = np.log([0.1, 0.3, 0.6])
    rows = braze.tensor(logits, requires_grad=True).expand(6000, 3)
    hard = F.gumbel_softmax(rows, hard=True)
    values = hard.detach().numpy()
    assert ((values.round(6) == 0) | (values.round(6) == 1)).all()
    np.testing.assert_allclose(values.mean(0), [0.1, 0.3, 0.6], atol=0.03)
    braze.manual_seed(7)
    soft = F.gumbel_softmax(rows, tau=0.5)
    np.testing.assert_allclose(soft.detach().numpy().sum(-1), 1, rtol=1e-9)
    weights = braze.tensor([1.0, 2.0, 3.0], dtype=braze.float64)
    (one,) = braze.autograd.grad((soft * weights).sum(), rows)
    braze.manual_seed(7)
    hard = F.gumbel_softmax(rows, tau=0.5, hard=True)
    (other,) = braze.autograd.grad((hard * weights).sum(), rows)
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9)
    assert (hard.detach().numpy().argmax(-1) == soft.detach().numpy().argmax(-1)).all()
    columns = F.gumbel_softmax(braze.zeros(3, 5), dim=0)
    np.testing.assert_allclose(columns.numpy().sum(0), 1, rtol=1e-5)


def test_old_names_of_limits():
    with pytest.warns(FutureWarning, match="min_value.*rename to `min_val`"):
        layer = nn.Hardtanh(min_value=-2, max_val=3)
    assert (layer.min_val, layer.max_val) == (-2, 3)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (TypeError, "argument 'weight'", lambda x: F.prelu(x, 0.25)),
        (TypeError, "argument 'input'", lambda x: F.threshold(1.5, 0, 0)),
        (TypeError, "argument 'input'", lambda x: F.hardswish(1.5)),
        (TypeError, "argument 'logits'", lambda x: F.gumbel_softmax(1.5)),
        (TypeError, "positional", lambda x: F.gelu(x, "tanh")),
        (RuntimeError, "scalar or 1D tensor, but got: ndim = 2", lambda x: F.prelu(x, x)),
        (RuntimeError, "parameter numbers = 2 and", lambda x: F.prelu(x, braze.ones(2))),
        (RuntimeError, "does not support scalars", lambda x: F.glu(x[0, 0])),
        (RuntimeError, "unsigned type", lambda x: F.hardtanh(x.to(braze.uint8))),
        (RuntimeError, "Lower bound", lambda x: F.rrelu(x, 0.5, 0.2)),
        (AssertionError, "must be greater than", lambda x: nn.Hardtanh(1.0, 1.0)),
    ],
)
def test_errors(error, text, call):
    with pytest.raises(error, match=text):
        call(braze.ones(2, 3))
