"""Convolutions against a direct sum and PyTorch; their gradients, which are convolutions too."""

import itertools

import numpy as np
import pytest
from composites import one_op, run_op, to_primitives
from gradients import gradcheck_op

import braze.ir as ir


def sample(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def geometry(stride, padding, dilation, groups=1):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def direct(x, weight, stride, padding, dilation, groups):
    """The defining sum."""
    n, _, *size = x.shape
    out, channels, *kernel = weight.shape
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    places = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, k, t, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    result = np.zeros((n, out, *places))
    for o, *place in itertools.product(range(out), *map(range, places)):
        first = o // (out // groups) * channels
        for tap in itertools.product(*map(range, kernel)):
            at = [q * t + k * d for q, k, t, d in zip(place, tap, stride, dilation, strict=True)]
            patch = padded[(slice(None), slice(first, first + channels), *at)]
            result[(slice(None), o, *place)] += patch @ weight[(o, slice(None), *tap)]
    return result


# x, weight, geometry: strides that leave rows over, dilation, groups, depthwise, large padding.
CASES = [
    ((2, 3, 6), (4, 3, 3), geometry((1,), (0,), (1,))),
    ((2, 2, 8), (2, 2, 3), geometry((3,), (1,), (2,))),
    ((2, 3, 5, 6), (4, 3, 3, 3), geometry((1, 1), (0, 0), (1, 1))),
    ((2, 2, 5, 6), (3, 2, 3, 2), geometry((1, 1), (1, 1), (1, 1))),
    ((1, 2, 6, 7), (3, 2, 3, 3), geometry((2, 2), (1, 0), (1, 1))),
    ((1, 2, 8, 7), (2, 2, 3, 2), geometry((2, 3), (0, 1), (1, 2))),
    ((1, 2, 7, 5), (3, 2, 1, 1), geometry((2, 2), (0, 0), (1, 1))),
    ((1, 2, 3, 3), (2, 2, 1, 2), geometry((1, 2), (2, 3), (1, 1))),
    ((2, 4, 5, 5), (6, 2, 3, 3), geometry((1, 1), (1, 1), (1, 1), 2)),
    ((1, 3, 6, 5), (3, 1, 3, 3), geometry((2, 1), (1, 1), (1, 1), 3)),
    ((1, 2, 5, 5), (4, 1, 2, 2), geometry((1, 2), (0, 0), (2, 1), 2)),
    ((1, 2, 3, 4, 5), (2, 2, 2, 2, 2), geometry((1, 2, 1), (0, 0, 1), (1, 1, 2))),
    ((1, 2, 3, 3, 3), (2, 1, 2, 1, 2), geometry((1, 1, 2), (1, 0, 0), (1, 1, 1), 2)),
]


@pytest.mark.parametrize(("x", "weight", "attributes"), CASES)
def test_conv_is_its_defining_sum(x, weight, attributes):
    x, weight = sample(*x), sample(*weight, seed=1)
    expected = direct(x, weight, **attributes)
    np.testing.assert_allclose(run_op("conv_no_bias", x, weight, **attributes), expected, rtol=1e-9)
    bias = sample(weight.shape[0], seed=2)
    expected += bias.reshape(-1, *[1] * (x.ndim - 2))
    np.testing.assert_allclose(run_op("conv", x, weight, bias, **attributes), expected, rtol=1e-9)


@pytest.mark.parametrize(("x", "weight", "attributes"), CASES)
def test_the_three_bilinear_operations_are_adjoint(x, weight, attributes):
    """<conv(x, w), y> == <x, input_grad(y, w)> == <w, weight_grad(x, y)>."""
    x, weight = sample(*x), sample(*weight, seed=1)
    out = run_op("conv_no_bias", x, weight, **attributes)
    y = sample(*out.shape, seed=2)
    inner = (out * y).sum()
    back = run_op("conv_input_grad", y, weight, input_size=x.shape[2:], **attributes)
    np.testing.assert_allclose((x * back).sum(), inner, rtol=1e-10)
    back = run_op("conv_weight_grad", x, y, kernel=weight.shape[2:], **attributes)
    np.testing.assert_allclose((weight * back).sum(), inner, rtol=1e-10)


@pytest.mark.parametrize("case", [0, 1, 5, 7, 10])
def test_gradients_of_any_order(case):
    x, weight, attributes = CASES[case]
    x, weight = sample(*x), sample(*weight, seed=1)
    bias = sample(weight.shape[0], seed=2)
    out = run_op("conv_no_bias", x, weight, **attributes)
    gradcheck_op("conv", [x, weight, bias], attributes, second=True, tolerance=1e-7)
    extra = {"input_size": x.shape[2:], **attributes}
    gradcheck_op("conv_input_grad", [out, weight], extra, second=True, tolerance=1e-7)
    extra = {"kernel": weight.shape[2:], **attributes}
    gradcheck_op("conv_weight_grad", [x, out], extra, second=True, tolerance=1e-7)


def test_the_decomposition_keeps_channels_innermost():
    x, weight, attributes = CASES[3]
    graph = to_primitives(one_op("conv_no_bias", [sample(*x), sample(*weight)], attributes))
    names = [node.op.name for node in graph.nodes]
    assert names == ["permute", "pad", "window", "permute", "contract", "permute"]
    assert graph.nodes[2].result.shape == (2, 5, 7, 2, 3, 2)
    assert graph.nodes[4].attributes["equation"] == "nhwcij,ijco->nhwo"


def test_an_empty_batch():
    out = run_op("conv_no_bias", sample(0, 2, 5), sample(3, 2, 2), **geometry((1,), (0,), (1,)))
    assert out.shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("x", "weight", "attributes", "text"),
    [
        ((1, 4, 8, 8), (8, 3, 3, 3), geometry((1, 1), (0, 0), (1, 1)),
         r"\[conv\] input channels differ: input f64\[1,4,8,8\], weight f64\[8,3,3,3\], "
         r"groups=1 \(4 != 3\)"),
        ((1, 3, 4, 4), (8, 3, 5, 5), geometry((1, 1), (0, 0), (1, 1)),
         r"\[conv\] kernel \(5, 5\) with dilation \(1, 1\) does not fit .* \(5 > 4\)"),
        ((1, 4, 4), (3, 2, 1), geometry((1,), (0,), (1,), 2),
         r"\[conv\] groups=2 does not divide the 3 output channels"),
        ((1, 4), (3, 4), geometry((), (), ()), r"\[conv\] needs \[N, C\] and 1 to 3 spatial"),
        ((1, 4, 4, 4), (3, 4, 1), geometry((1, 1), (0, 0), (1, 1)), "weight of 4 dimensions"),
        ((1, 4, 4), (3, 4, 1), geometry((1, 1), (0,), (1,)), r"\[conv\] stride needs 1 numbers"),
        ((1, 4, 4), (3, 4, 1), geometry((0,), (0,), (1,)), "stride and dilation must be positive"),
    ],
)  # fmt: skip
def test_errors(x, weight, attributes, text):
    with pytest.raises(ir.ShapeError, match=text):
        run_op("conv_no_bias", sample(*x), sample(*weight), **attributes)


@pytest.mark.parametrize(("x", "weight", "attributes"), CASES)
def test_as_pytorch(x, weight, attributes):
    torch = pytest.importorskip("torch")
    spatial = len(x) - 2
    x, weight, bias = sample(*x), sample(*weight, seed=1), sample(weight[0], seed=2)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    expected = getattr(torch.nn.functional, f"conv{spatial}d")(*tensors, **attributes)
    out = run_op("conv", x, weight, bias, **attributes)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    y = sample(*out.shape, seed=3)
    expected.backward(torch.tensor(y))
    back = run_op("conv_input_grad", y, weight, input_size=x.shape[2:], **attributes)
    np.testing.assert_allclose(back, tensors[0].grad.numpy(), rtol=1e-9, atol=1e-12)
    back = run_op("conv_weight_grad", x, y, kernel=weight.shape[2:], **attributes)
    np.testing.assert_allclose(back, tensors[1].grad.numpy(), rtol=1e-9, atol=1e-12)


TRANSPOSED = [
    ((2, 3, 4), (3, 2, 3), geometry((1,), (0,), (1,)), (0,)),
    ((1, 4, 3, 4), (4, 3, 3, 2), geometry((2, 3), (1, 0), (1, 2), 2), (1, 2)),
    ((1, 2, 3, 2, 2), (2, 2, 2, 3, 1), geometry((2, 1, 2), (0, 1, 0), (1, 1, 1)), (1, 0, 1)),
]


@pytest.mark.parametrize(("x", "weight", "attributes", "extra"), TRANSPOSED)
def test_conv_transpose(x, weight, attributes, extra):
    x, weight = sample(*x), sample(*weight, seed=1)
    attributes = {**attributes, "output_padding": extra}
    gradcheck_op("conv_transpose", [x, weight], attributes, second=True, tolerance=1e-7)
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"conv_transpose{x.ndim - 2}d")
    expected = function(torch.tensor(x), torch.tensor(weight), **attributes).numpy()
    out = run_op("conv_transpose", x, weight, **attributes)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)


def test_conv_transpose_refuses_output_padding_beyond_the_stride():
    x, weight, attributes, _ = TRANSPOSED[0]
    with pytest.raises(ir.ShapeError, match="output_padding must be less than the stride"):
        run_op("conv_transpose", sample(*x), sample(*weight), output_padding=(1,), **attributes)
