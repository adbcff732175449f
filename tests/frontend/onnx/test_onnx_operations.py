"""Functions and layers written as ONNX models: ONNX Runtime gives the same, and so does the model
that is read back."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnx_export as support  # noqa: E402

import braze  # noqa: E402
import braze.onnx  # noqa: E402
from braze import nn  # noqa: E402
from braze.onnx.rules import export_rules  # noqa: E402

F = nn.functional
pytestmark = pytest.mark.usefixtures("interpret")


def real(*shape):
    return braze.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape).astype("f"))


def whole(*shape):
    return braze.from_numpy(np.random.default_rng(1).integers(-6, 6, shape))


SPECIAL = braze.tensor([0.0, -0.0, 1, -1, 2.5, float("inf"), float("-inf")])

LAYERS = {
    "adaptive_average": (nn.AdaptiveAvgPool2d((3, 2)), real(2, 3, 7, 5)),
    "adaptive_max": (nn.AdaptiveMaxPool2d((3, 2)), real(2, 3, 7, 5)),
    "average": (nn.AvgPool2d(3, 2, 1), real(2, 3, 8, 8)),
    "average_ceil": (nn.AvgPool2d(3, 2, ceil_mode=True), real(2, 3, 8, 8)),
    "average_inside": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), real(2, 3, 8, 8)),
    "bilinear": (nn.Bilinear(3, 4, 5), real(2, 3), real(2, 4)),
    "conv1d": (nn.Conv1d(4, 4, 3, padding="same", groups=2), real(2, 4, 9)),
    "conv2d_strided": (nn.Conv2d(3, 4, (3, 2), 2, (1, 0), (1, 2)), real(2, 3, 9, 9)),
    "conv3d": (nn.Conv3d(3, 4, 3, padding=1, bias=False), real(2, 3, 5, 5, 5)),
    "conv_depthwise": (nn.Conv2d(4, 8, 3, groups=4), real(2, 4, 6, 6)),
    "conv_transpose1d": (nn.ConvTranspose1d(3, 4, 3, 2, output_padding=1), real(2, 3, 5)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 4, 3, 2, 1, groups=2), real(2, 4, 5, 5)),
    "embedding": (nn.Embedding(10, 4), braze.tensor([[1, 9], [0, 3]])),
    "fold": (nn.Fold((4, 4), 2, stride=2), real(1, 8, 4)),
    "group_norm": (nn.GroupNorm(2, 4), real(2, 4, 5)),
    "gru_cell": (nn.GRUCell(3, 4), real(2, 3), real(2, 4)),
    "instance_norm": (nn.InstanceNorm2d(3, affine=True), real(2, 3, 4, 4)),
    "layer_norm": (nn.LayerNorm((3, 4)), real(2, 3, 4)),
    "local_response": (nn.LocalResponseNorm(3), real(2, 5, 4, 4)),
    "max_with_places": (nn.MaxPool2d(3, 2, 1, return_indices=True), real(2, 3, 8, 8)),
    "max_dilated": (nn.MaxPool1d(2, 1, 1, 2, ceil_mode=True), real(2, 3, 8)),
    "pad_reflect": (nn.ReflectionPad2d(1), real(1, 2, 4, 4)),
    "pad_replicate": (nn.ReplicationPad1d(2), real(1, 2, 4)),
    "pad_and_cut": (nn.ConstantPad2d((1, -1, 0, 2), 3.0), real(1, 2, 4, 4)),
    "pixel_shuffle": (nn.PixelShuffle(2), real(1, 8, 3, 3)),
    "resize_cubic": (nn.Upsample(scale_factor=2, mode="bicubic"), real(1, 2, 4, 4)),
    "resize_linear": (nn.Upsample((5, 9), mode="bilinear", align_corners=True), real(1, 2, 4, 4)),
    "resize_nearest": (nn.Upsample(scale_factor=2), real(1, 2, 4, 4)),
    "rms_norm": (nn.RMSNorm(4), real(3, 4)),
    "transformer_decoder": (
        nn.TransformerDecoderLayer(8, 2, 16).eval(),
        real(5, 2, 8),
        real(9, 2, 8),
    ),
    "unfold": (nn.Unfold(2), real(1, 2, 4, 4)),
}

ACTIVATIONS = (
    "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU "
    "ReLU ReLU6 SELU Sigmoid SiLU Softplus Softshrink Softsign Tanh Tanhshrink"
).split()

FUNCTIONS = {
    "unary": lambda x: (
        x.abs(), x.neg(), x.exp(), x.expm1(), x.sin(), x.cos(), x.tan(), x.atan(), x.sinh(),
        x.cosh(), x.asinh(), x.tanh(), x.sigmoid(), x.erf(), x.erfc(), x.floor(), x.ceil(),
        x.round(), x.trunc(), x.frac(), x.sign(), x.square(), x.isnan(), x.relu(), x.exp2(),
    ),
    "positive": lambda x: (
        (x.abs() + 1).acosh(), x.abs().log(), x.abs().log2(), x.abs().log10(), x.abs().log1p(),
        x.abs().sqrt(), (x.abs() + 0.1).rsqrt(), x.reciprocal(), x.sigmoid().logit(),
        x.tanh().asin(), x.tanh().acos(), (x.tanh() / 2).atanh(), x.abs().lgamma(),
    ),
    "binary": lambda x: (
        x + x.t(), x - 2, 3 - x, x * x.t(), x / x.t(), x**2, x.abs() ** 1.5, x // 0.3, x % 0.3,
        x % -0.3, x.fmod(0.3), x.maximum(x.t()), x.minimum(x.t()), x.atan2(x.t()),
        x.hypot(x.t()), x.lerp(x.t(), 0.3), x.logaddexp(x.t()),
    ),
    "comparison": lambda x: (
        x == x.t(), x != x.t(), x < x.t(), x <= x.t(), x > x.t(), x >= x.t(), (x > 0) & (x < 1),
        (x > 0) | (x < -1), (x > 0) ^ (x < 1), ~(x > 0), x.logical_and(x.t()), x.isfinite(),
    ),
    "choice": lambda x: (
        x.where(x > 0, x.t()), x.clamp(-1, 1), x.clamp(min=0.5), x.clamp(max=0.5),
        x.masked_fill(x > 0, 7.0), x.nan_to_num(), x.tril(), x.triu(1), x.heaviside(x.t()),
    ),
    "reductions": lambda x: (
        x.sum(), x.sum(0), x.mean((0, 1), keepdim=True), x.prod(1), x.amax(0), x.amin(1),
        x.max(1), x.min(0), x.argmax(), x.argmin(1), x.var(0), x.std(), x.norm(), x.norm(1, 1),
        x.logsumexp(1), (x > 0).any(), (x > 0).all(1), (x > 0).sum(0), x.median(1), x.softmax(0),
        x.log_softmax(1),
    ),
    "scans": lambda x: (x.cumsum(0), x.cumprod(1), x.cumprod(0), x.sort(0), x.topk(2), x.cumsum(1)),
    "movement": lambda x: (
        x.t(), x.reshape(2, -1), x[1:], x[:, ::2], x[1], x[..., -1], x[:, None], x.flip(0, 1),
        x.roll(1, 0), x.repeat(2, 3), x.expand(3, 4, 4), x.unfold(1, 2, 1), x.diagonal(),
        braze.cat([x, x], 1), braze.stack([x, x], -1), x.split(3), x.chunk(2, 1), x.diag_embed(),
        x.unflatten(1, (2, 2)), x.rot90(),
    ),
    "indexing": lambda x: (
        x[:, [0, 2]], x[[0, -1], [1, 2]], x.gather(1, braze.tensor([[0, 1], [1, 1], [2, 0]])),
        x.index_select(0, braze.tensor([2, 0])), x.take(braze.tensor([3, 1])),
        x.index_copy(0, braze.tensor([0, 2]), x[:2]), x.index_add(0, braze.tensor([0, 2]), x[:2]),
        x.scatter(1, braze.tensor([[0], [1]]), 5.0),
        x.scatter_add(1, braze.tensor([[0, 1, 1, 0]]), x[:1]),
        x.scatter_reduce(1, braze.tensor([[0, 1, 1, 0]]), x[:1], "amax"),
        x.index_fill(1, braze.tensor([1]), 9.0), F.one_hot(braze.arange(4), 5),
    ),
    "products": lambda x: (
        x @ x, x.mv(x[0]), x[0].dot(x[1]), x[0].outer(x[1]), braze.addmm(x[0], x, x),
        braze.einsum("ij,kj->ik", x, x), braze.baddbmm(x[None], x[None], x[None]),
        braze.cdist(x, x), x.det(), braze.bmm(x[None], x[None]),
    ),
    "attention": lambda x: (
        F.scaled_dot_product_attention(x.repeat(3, 1)[None], x.repeat(3, 1)[None], x[None]
                                       .repeat(1, 3, 1), is_causal=True),
        F.scaled_dot_product_attention(x[None], x[None], x[None], attn_mask=x > 0.1),
    ),
    "losses": lambda x: (
        F.mse_loss(x, x.t()), F.cross_entropy(x, braze.arange(4)), F.smooth_l1_loss(x, x.t()),
        F.binary_cross_entropy_with_logits(x, (x > 0).float()), F.kl_div(x, x.t().softmax(1)),
    ),
    "sampling": lambda x: F.grid_sample(
        x[None, None], x[:, :2].reshape(1, 2, 2, 2), align_corners=False
    ),
    "types": lambda x: (x.double() * 2, x.half(), x.int(), x.bool(), x.to(braze.uint8) * 0),
}  # fmt: skip


def check(function, args, **options):
    proto = braze.onnx.export(function, args, **options)
    support.check_equal(function, proto, [args])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name):
    layer, *args = LAYERS[name]
    check(layer.eval(), tuple(args))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation(name):
    check(getattr(nn, name)(), (real(3, 4) * 3,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], (real(4, 4),))


@pytest.mark.parametrize("name", ["unary", "binary", "comparison", "choice", "reductions", "scans"])
def test_functions_for_any_size(name):
    function = FUNCTIONS[name]

    def square(x):  # what they need: as many columns as rows
        return function(x @ x.t())

    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    proto = braze.onnx.export(square, real(4, 3), **options)
    support.check_equal(square, proto, [(real(n, 3),) for n in (4, 2, 7)], 1e-4, 1e-4)


def test_whole_numbers():
    def function(x):
        return (
            x // 3, x % 3, x % -3, x + 1, x * 2, -x, x.abs(), x.sum(), x.float().mean(), x == 2,
            x >> 1, x << 1, x & 3, x | 1, x ^ 2, ~x, x.clamp(0, 2), x.bool(), x.sign(),
            x.cumsum(0), x.sort(1), x.amax(0), x.prod(1), x.div(3, rounding_mode="trunc"),
        )  # fmt: skip

    check(function, (whole(3, 4),))
    check(lambda x: (x >> 1, x << 1, x & 3), (whole(3, 4).abs().to(braze.uint8),))


def test_special_numbers():
    def function(x):
        pairs = x[:, None], x[None]
        return braze.atan2(*pairs), x.log1p(), x.expm1(), x.sign(), x.trunc(), x.isinf()

    check(function, (SPECIAL,))


def test_doubles():
    check(
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh()).double(), (real(2, 3).double(),)
    )


def test_queries_that_see_no_key():
    def function(x):
        mask = braze.ones(9, 9).tril(-1).bool()  # the first sees none
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    check(function, (real(2, 9, 4),))


def test_a_recurrence_without_its_product():
    """Where no linear layer makes the products, the weights are a unit matrix."""
    from braze.capture import call_of
    from braze.ir.op import op_named
    from braze.tensors import apply

    def function(x, w, h, c):
        call = call_of(op_named("lstm_sequence"), reverse=True)
        return apply(call, x.sin(), w, h, c)[0]

    check(function, (real(5, 2, 12), real(3, 12), real(2, 3), real(2, 3)))


def test_cells_of_all_steps_are_refused():
    from braze.capture import call_of
    from braze.ir.op import op_named
    from braze.tensors import apply

    def function(x, w, h, c):
        return apply(call_of(op_named("lstm_sequence"), reverse=False), x, w, h, c)[1]

    with pytest.raises(NotImplementedError, match="only the last cells"):
        braze.onnx.export(function, (real(5, 2, 12), real(3, 12), real(2, 3), real(2, 3)))


def test_every_rule_is_of_an_operation():
    from braze.ir.op import all_ops

    assert set(export_rules()) <= {op.name for op in all_ops()}
