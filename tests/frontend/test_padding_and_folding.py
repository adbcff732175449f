"""Padding in all modes, blocks as columns and back, transposed convolutions."""

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("interpret")

NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# Padding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_borders_are_those_of_numpy(mode):
    x = draw(2, 3, 4, 5, 6)
    for shape, amounts in (
        ((2, 3, 4), (1, 2)), ((3, 4), (3, 3)), ((2, 3, 4, 5), (2, 0, 1, 3)),
        ((3, 4, 5), (0, 0, 2, 2)), ((2, 3, 4, 5, 6), (1, 2, 3, 0, 2, 1)),
        ((3, 4, 5, 6), (2, 2, 1, 1, 0, 1)),
    ):  # fmt: skip
        array = x.reshape(-1)[: np.prod(shape)].reshape(shape)
        pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)][::-1]
        borders = [(0, 0)] * (len(shape) - len(pairs)) + pairs
        expected = np.pad(array, borders, mode=NUMPY_MODES[mode])
        found = F.pad(braze.tensor(array), amounts, mode)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_what_is_cropped_is_reflected_and_repeated_but_does_not_wrap_around():
    x = braze.arange(5.0).unsqueeze(0)
    for mode, amounts, expected in (
        ("reflect", (-1, 3), [1, 2, 3, 4, 3, 2, 1]), ("reflect", (4, -4), [4, 3, 2, 1, 0]),
        ("replicate", (-4, 3), [4, 4, 4, 4]), ("replicate", (-5, 3), [4, 4, 4]),
        ("circular", (-1, 3), [1, 2, 3, 4, 1, 2, 3]), ("circular", (3, -1), [1, 2, 3, 0, 1, 2, 3]),
        ("constant", (-2, 1), [2, 3, 4, 0]),
    ):  # fmt: skip
        assert F.pad(x, amounts, mode).tolist() == [expected]


def test_gradients_of_padding():
    x = braze.tensor(draw(2, 3, 4), requires_grad=True)
    for mode in ("constant", *NUMPY_MODES):
        for amounts in ((2, 1), (-1, 2), (1, 1, 2, 0)):
            assert gradcheck(lambda x, m=mode, a=amounts: F.pad(x, a, m) ** 2, (x,))
    assert gradgradcheck(lambda x: F.pad(x, (1, 2, 1, 0), "reflect") ** 3, (x,))


def test_padding_errors():
    x = braze.zeros(2, 3, 4)
    for error, text, call in (
        (RuntimeError, "divisible by 2", lambda: F.pad(x, (1,))),
        (RuntimeError, "two times the input dimension", lambda: F.pad(x, (1,) * 8)),
        (RuntimeError, "negative output size", lambda: F.pad(x, (-3, -3))),
        (RuntimeError, "less than the corresponding", lambda: F.pad(x, (4, 0), "reflect")),
        (RuntimeError, "wrapping around more than once", lambda: F.pad(x, (5, 0), "circular")),
        (RuntimeError, "leaves nothing", lambda: F.pad(x, (-2, -2), "replicate")),
        (RuntimeError, "take in value argument", lambda: F.pad(x, (1, 1), "reflect", 2.0)),
        (RuntimeError, "non-zero dimensions", lambda: F.pad(x[:, :0], (1, 1), "replicate")),
        (NotImplementedError, "not supported for 1D", lambda: F.pad(x[0, 0], (1, 1), "reflect")),
        (NotImplementedError, "Unrecognised padding mode", lambda: F.pad(x, (1, 1), "odd")),
        (TypeError, "must be tuple of ints, not int", lambda: F.pad(x, 1)),
        (TypeError, "element of type float at pos 1", lambda: F.pad(x, (1, 0.5))),
        (ValueError, "expected 3D or 4D input", lambda: nn.CircularPad2d(1)(x[0])),
    ):
        with pytest.raises(error, match=text):
            call()


def test_padding_layers():
    x = braze.tensor(draw(2, 3, 4, 5))
    for layer, mode, amounts, text in (
        (nn.ReflectionPad2d(2), "reflect", (2, 2, 2, 2), "(2, 2, 2, 2)"),
        (nn.ReplicationPad2d([1, 0, 2, 3]), "replicate", (1, 0, 2, 3), "(1, 0, 2, 3)"),
        (nn.CircularPad2d((1, 2, 0, 1)), "circular", (1, 2, 0, 1), "(1, 2, 0, 1)"),
        (nn.ZeroPad2d((1, -1, 0, 1)), "constant", (1, -1, 0, 1), "(1, -1, 0, 1)"),
        (nn.ConstantPad1d(1, 0.0), "constant", (1, 1), "padding=(1, 1), value=0.0"),
    ):
        np.testing.assert_array_equal(layer(x).numpy(), F.pad(x, amounts, mode).numpy())
        assert repr(layer) == f"{type(layer).__name__}({text})"
    assert nn.ConstantPad3d(1, 2.5)(x)[0, 0, 0, 0].item() == 2.5


# Blocks as columns --------------------------------------------------------------------------------


def columns(x, kernel, dilation, padding, stride):
    """[N, C * taps, blocks], block by block."""
    borders = [(0, 0), (0, 0), *((p, p) for p in padding)]
    padded = np.pad(x, borders)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    blocks = []
    for i in range(0, padded.shape[2] - spans[0] + 1, stride[0]):
        for j in range(0, padded.shape[3] - spans[1] + 1, stride[1]):
            rows = slice(i, i + spans[0], dilation[0])
            block = padded[:, :, rows, j : j + spans[1] : dilation[1]]
            blocks.append(block.reshape(x.shape[0], -1))
    return np.stack(blocks, -1)


GEOMETRIES = (
    ((2, 3), (1, 1), (0, 0), (1, 1)), ((3, 2), (1, 2), (1, 0), (2, 1)),
    ((2, 2), (1, 1), (0, 0), (2, 2)), ((2, 2), (2, 1), (1, 1), (1, 3)),
)  # fmt: skip


def test_unfold_and_fold():
    x = draw(2, 3, 6, 7)
    for geometry in GEOMETRIES:
        expected = columns(x, *geometry)
        found = F.unfold(braze.tensor(x), *geometry)
        np.testing.assert_array_equal(found.numpy(), expected)
        # Folding is the adjoint: <unfold(x), y> = <x, fold(y)>.
        y = draw(*expected.shape, seed=1)
        folded = F.fold(braze.tensor(y), (6, 7), *geometry).numpy()
        np.testing.assert_allclose((expected * y).sum(), (x * folded).sum(), rtol=1e-12)
    one = F.unfold(braze.tensor(x[0]), 2)
    np.testing.assert_array_equal(one.numpy(), columns(x[:1], (2, 2), (1, 1), (0, 0), (1, 1))[0])
    assert F.fold(one, (6, 7), 2).shape == (3, 6, 7)
    assert repr(nn.Fold(4, 2, stride=(1, 2))) == (
        "Fold(output_size=4, kernel_size=2, dilation=1, padding=0, stride=(1, 2))"
    )
    assert nn.Fold((6, 7), 2)(nn.Unfold(2)(braze.tensor(x))).shape == x.shape


def test_gradients_of_folding():
    x = braze.tensor(draw(1, 2, 4, 5), requires_grad=True)
    for geometry in GEOMETRIES[1:]:
        assert gradcheck(lambda x, g=geometry: F.unfold(x, *g) ** 2, (x,))
        y = F.unfold(x, *geometry).detach().requires_grad_()
        assert gradcheck(lambda y, g=geometry: F.fold(y, (4, 5), *g) ** 2, (y,))
    assert gradgradcheck(lambda x: F.unfold(x, 2, padding=1) ** 3, (x,))


def test_folding_errors():
    x = braze.zeros(2, 3, 4, 5)
    for error, text, call in (
        (RuntimeError, "components must be at least one", lambda: F.unfold(x, 6)),
        (RuntimeError, "stride should be greater than zero", lambda: F.unfold(x, 2, stride=0)),
        (RuntimeError, "padding should be non-negative", lambda: F.unfold(x, 2, padding=-1)),
        (RuntimeError, "kernel_size equals to 2, but got size 3", lambda: F.unfold(x, (2, 2, 2))),
        (IndexError, "needs .N, C, H, W.", lambda: F.unfold(x[0, 0], 2)),
        (RuntimeError, "other non-zero dimensions", lambda: F.unfold(x[:, :0], 2)),
        (RuntimeError, "divisible by the product", lambda: F.fold(x[0, :, :3], (4, 5), 2)),
        (RuntimeError, "number of sliding blocks 3 . 4 = 12", lambda: F.fold(x[:, 0], (4, 5), 2)),
    ):
        with pytest.raises(error, match=text):
            call()


# Transposed convolution ---------------------------------------------------------------------------


def transposed(x, weight, stride, padding, dilation, extra):
    """One dimension, one group, element by element."""
    count, taps = x.shape[2], weight.shape[2]
    full = np.zeros((x.shape[0], weight.shape[1], (count - 1) * stride + dilation * (taps - 1) + 1))
    for i in range(count):
        for k in range(taps):
            full[:, :, i * stride + k * dilation] += x[:, :, i] @ weight[:, :, k]
    cropped = full[:, :, padding:]
    missing = extra - padding
    if missing < 0:
        return cropped[:, :, :missing]
    return np.pad(cropped, [(0, 0), (0, 0), (0, missing)])


def test_transposed_convolution():
    x = draw(2, 4, 5)
    for stride, padding, extra, dilation in (
        (1, 0, 0, 1), (2, 1, 1, 1), (3, 0, 2, 2), (2, 1, 2, 3), (1, 3, 2, 3),
    ):  # fmt: skip
        layer = nn.ConvTranspose1d(4, 6, 3, stride, padding, extra, dilation=dilation).double()
        values = (x, layer.weight.detach().numpy(), stride, padding, dilation, extra)
        expected = transposed(*values) + layer.bias.detach().numpy()[:, None]
        np.testing.assert_allclose(layer(braze.tensor(x)).detach().numpy(), expected, atol=1e-12)
    wide = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    image = braze.zeros(1, 4, 5, 5)
    assert wide(image).shape == (1, 2, 9, 9)
    assert wide(image, output_size=(10, 9)).shape == (1, 2, 10, 9)
    assert wide(image[0], output_size=[2, 9, 10]).shape == (2, 9, 10)
    assert repr(wide) == (
        "ConvTranspose2d(4, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))"
    )


def test_gradients_of_transposed_convolution():
    x = braze.tensor(draw(1, 2, 3), requires_grad=True)
    weight = braze.tensor(draw(2, 2, 3, seed=1), requires_grad=True)
    for settings in ({"stride": 2, "output_padding": 1}, {"output_padding": 2, "dilation": 3}):
        assert gradcheck(lambda x, w, s=settings: F.conv_transpose1d(x, w, **s), (x, weight))
    assert gradgradcheck(lambda x, w: F.conv_transpose1d(x, w, stride=2, padding=1), (x, weight))


def test_errors_of_transposed_convolution():
    x, layer = braze.zeros(1, 4, 5, 5), nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    for error, text, call in (
        (ValueError, "valid sizes range from .9, 9. to .10, 10.", lambda: layer(x, (11, 9))),
        (ValueError, "must have 2 or 4 elements", lambda: layer(x, (9, 9, 9))),
        (ValueError, 'Only "zeros"', lambda: nn.ConvTranspose1d(1, 1, 1, padding_mode="reflect")),
        (
            RuntimeError,
            "smaller than either stride or dilation",
            lambda: nn.ConvTranspose2d(4, 2, 3, output_padding=1)(x),
        ),
        (
            RuntimeError,
            r"bias must be \[2\]",
            lambda: F.conv_transpose2d(x, layer.weight, braze.zeros(3)),
        ),
    ):
        with pytest.raises(error, match=text):
            call()


def test_compiled_as_interpreted():
    x = draw(2, 4, 6, 7)
    layer = nn.ConvTranspose2d(4, 3, 3, 2, 1, 1).double()

    def program():
        t = braze.tensor(x, requires_grad=True)
        padded = [F.pad(t, (1, 2, 2, 1), mode) for mode in NUMPY_MODES]
        blocks = F.fold(F.unfold(t, 3, 1, 1, 2), (6, 7), 3, 1, 1, 2)
        results = [*padded, blocks, layer(t)]
        sum((r.sin().sum() for r in results), start=0.0).backward()
        return [r.detach() for r in results] + [t.grad]

    expected = [r.numpy() for r in program()]
    with braze.config.using(tier="compile"):
        found = [r.numpy() for r in program()]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
