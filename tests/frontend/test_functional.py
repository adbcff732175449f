"""nn.functional: values and gradients against NumPy and PyTorch, if installed; argument errors."""

import math

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.ir import DTypeError, ShapeError

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).standard_normal(shape) * scale


# Against PyTorch ----------------------------------------------------------------------------------


def against_torch(name, arrays, *args, rtol=1e-9, call=None, **kwargs):
    """Value and gradients of F.<name> equal PyTorch's, in f64."""
    torch = pytest.importorskip("torch")
    ours, theirs = [], []
    for array in arrays:
        floating = array.dtype.kind == "f"
        ours.append(braze.tensor(array, requires_grad=floating))
        theirs.append(torch.tensor(array, requires_grad=floating))
    function = call or (lambda f, *xs: getattr(f, name)(*xs, *args, **kwargs))
    mine, other = function(F, *ours), function(torch.nn.functional, *theirs)
    assert tuple(mine.shape) == tuple(other.shape)
    np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=rtol, atol=1e-10)
    weights = draw(*mine.shape, seed=9)
    (mine * braze.tensor(weights)).sum().backward()
    (other * torch.tensor(weights)).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        if y.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=rtol, atol=1e-10)


ACTIVATIONS = [
    ("relu", {}),
    ("leaky_relu", {"negative_slope": 0.2}),
    ("elu", {"alpha": 1.5}),
    ("selu", {}),
    ("hardtanh", {"min_val": -0.5, "max_val": 0.7}),
    ("relu6", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {"beta": 2.0, "threshold": 3.0}),
    ("logsigmoid", {}),
    ("softsign", {}),
    ("tanhshrink", {}),
    ("hardsigmoid", {}),
    ("hardswish", {}),
    ("mish", {}),
    ("glu", {"dim": 1}),
    ("softmax", {"dim": 1}),
    ("log_softmax", {"dim": 0}),
    ("softmin", {"dim": -1}),
    ("normalize", {"dim": 1}),
]


@pytest.mark.parametrize(("name", "settings"), ACTIVATIONS, ids=[a for a, _ in ACTIVATIONS])
def test_activations(name, settings):
    against_torch(name, [draw(5, 8, scale=3)], rtol=1e-7, **settings)


def test_prelu_bilinear_cosine_and_attention():
    against_torch("prelu", [draw(2, 3, 4), draw(3, seed=1)])
    against_torch(
        "bilinear", [draw(5, 2), draw(5, 3, seed=1), draw(4, 2, 3, seed=2), draw(4, seed=3)]
    )
    against_torch("cosine_similarity", [draw(4, 5), draw(4, 5, seed=1)], dim=1)
    q, k, v = draw(2, 3, 4, 5), draw(2, 3, 6, 5, seed=1), draw(2, 3, 6, 7, seed=2)
    against_torch("scaled_dot_product_attention", [q, k, v])
    against_torch("scaled_dot_product_attention", [q, k, v], is_causal=True, scale=0.3)


CONVOLUTIONS = [
    (1, {"stride": 2, "padding": 1}),
    (1, {"padding": "same", "dilation": 2}),
    (2, {}),
    (2, {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    (2, {"groups": 2, "padding": "valid"}),
    (2, {"padding": "same"}),
    (3, {"padding": 1}),
]


@pytest.mark.parametrize(("spatial", "settings"), CONVOLUTIONS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_convolutions(spatial, settings):
    groups = settings.get("groups", 1)
    x = draw(2, 4, *(7, 6, 5)[:spatial])
    weight = draw(6, 4 // groups, *(4, 3, 2)[:spatial], seed=1)
    against_torch(
        f"conv{spatial}d",
        [x, weight, draw(6, seed=2)],
        rtol=1e-8,
        call=lambda f, *xs: getattr(f, f"conv{spatial}d")(*xs, **settings),
    )
    against_torch(
        f"conv{spatial}d",
        [x[0], weight],
        rtol=1e-8,
        call=lambda f, a, w: getattr(f, f"conv{spatial}d")(a, w, **settings),
    )


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_pooling(spatial):
    x = draw(2, 3, *(8, 7, 6)[:spatial])
    against_torch(f"max_pool{spatial}d", [x], 2)
    against_torch(f"max_pool{spatial}d", [x[0]], 3, stride=2, padding=1, ceil_mode=True)
    against_torch(f"avg_pool{spatial}d", [x], 2)
    against_torch(f"avg_pool{spatial}d", [x], 3, stride=2, padding=1, count_include_pad=False)
    against_torch(f"adaptive_avg_pool{spatial}d", [x], 2)
    against_torch(f"adaptive_avg_pool{spatial}d", [x], (3, None, 4)[:spatial] if spatial > 1 else 3)


def test_max_pool_indices_and_average_divisor():
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 6, 6)
    values, indices = F.max_pool2d(braze.tensor(x), 2, return_indices=True)
    expected, places = torch.nn.functional.max_pool2d(torch.tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), expected.numpy())
    np.testing.assert_array_equal(indices.numpy(), places.numpy())
    against_torch("avg_pool2d", [x], (2, 3), divisor_override=5)


def test_normalisation():
    x, w, b = draw(4, 6, 5), draw(6, seed=1), draw(6, seed=2)
    against_torch("layer_norm", [draw(4, 3, 5)], (3, 5), rtol=1e-7)
    against_torch(
        "layer_norm",
        [x, draw(5, seed=3), draw(5, seed=4)],
        rtol=1e-7,
        call=lambda f, a, s, t: f.layer_norm(a, (5,), s, t),
    )
    against_torch(
        "group_norm", [x, w, b], rtol=1e-7, call=lambda f, a, s, t: f.group_norm(a, 3, s, t)
    )
    against_torch(
        "batch_norm",
        [x, w, b],
        rtol=1e-7,
        call=lambda f, a, s, t: f.batch_norm(a, None, None, s, t, training=True),
    )
    mean, variance = draw(6, seed=5), draw(6, seed=6) ** 2 + 0.5
    against_torch(
        "batch_norm",
        [x, mean, variance, w, b],
        rtol=1e-7,
        call=lambda f, a, m, v, s, t: f.batch_norm(a, m.detach(), v.detach(), s, t),
    )


CLASSES = np.array([1, 0, 3, 3, 2])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_classification_losses(reduction):
    x, weight = draw(5, 4), np.abs(draw(4, seed=1)) + 0.1
    ignored = np.array([1, -100, 3, 3, 2])

    def both(name, target, **settings):
        against_torch(name, [x, target], reduction=reduction, **settings)
        against_torch(
            name,
            [x, target],
            reduction=reduction,
            call=lambda f, a, t: getattr(f, name)(
                a, t, _weight(f, weight), reduction=reduction, **settings
            ),
        )

    both("cross_entropy", CLASSES)
    both("cross_entropy", ignored, label_smoothing=0.2)
    both("nll_loss", CLASSES)
    both("nll_loss", ignored)
    against_torch(
        "cross_entropy", [draw(2, 4, 3), np.array([[0, 1, 2], [3, 3, 1]])], reduction=reduction
    )
    against_torch("cross_entropy", [draw(4), np.array(2)], reduction=reduction)
    soft = np.abs(draw(5, 4, seed=2))
    against_torch("cross_entropy", [x, soft], reduction=reduction, label_smoothing=0.1)


def _weight(functional, array):
    if functional is F:
        return braze.tensor(array)
    import torch

    return torch.tensor(array)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_regression_losses(reduction):
    x, y = draw(5, 4), draw(5, 4, seed=1)
    for name, settings in [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.7}),
        ("huber_loss", {"delta": 0.8}),
    ]:
        against_torch(name, [x, y], reduction=reduction, **settings)
    p, t = 1 / (1 + np.exp(-x)), (y > 0).astype(np.float64)
    against_torch(
        "binary_cross_entropy",
        [p],
        reduction=reduction,
        call=lambda f, a: f.binary_cross_entropy(
            a, _weight(f, t), _weight(f, np.abs(y)), reduction=reduction
        ),
    )
    against_torch(
        "binary_cross_entropy_with_logits",
        [x * 50],
        reduction=reduction,
        call=lambda f, a: f.binary_cross_entropy_with_logits(a, _weight(f, t), reduction=reduction),
    )
    against_torch(
        "binary_cross_entropy_with_logits",
        [x],
        reduction=reduction,
        call=lambda f, a: f.binary_cross_entropy_with_logits(
            a, _weight(f, t), reduction=reduction, pos_weight=_weight(f, np.full(4, 2.5))
        ),
    )


def test_kl_divergence():
    log_p = np.log(np.abs(draw(3, 4)) + 0.1)
    q = np.abs(draw(3, 4, seed=1))
    q[0, 0] = 0.0
    for reduction in ("batchmean", "sum", "none"):
        against_torch(
            "kl_div",
            [log_p, q],
            reduction=reduction,
            call=lambda f, a, t, r=reduction: f.kl_div(a, t.detach(), reduction=r),
        )
    against_torch("kl_div", [log_p, log_p.copy()], reduction="sum", log_target=True)


@pytest.mark.parametrize("amounts", [(1, 2), (2, 0, 1, 3), (-1, 2, 0, -1)])
def test_padding(amounts):
    x = draw(2, 3, 5, 6)
    against_torch("pad", [x], amounts)
    against_torch("pad", [x], amounts, value=1.5)
    if min(amounts) >= 0:
        for mode in ("reflect", "replicate", "circular"):
            against_torch("pad", [x], [*amounts, 0, 0][:4], mode=mode)


# Against NumPy ------------------------------------------------------------------------------------


def test_linear_and_its_error():
    x, w, b = draw(3, 4), draw(2, 4, seed=1), draw(2, seed=2)
    tensors = [braze.tensor(a) for a in (x, w, b)]
    np.testing.assert_allclose(F.linear(*tensors).numpy(), x @ w.T + b, rtol=1e-12)
    np.testing.assert_allclose(F.linear(*tensors[:2]).numpy(), x @ w.T, rtol=1e-12)
    with pytest.raises(ShapeError, match=r"f64\[3,4\].*f64\[2,3\]"):
        F.linear(tensors[0], braze.tensor(draw(2, 3)))
    with pytest.raises(DTypeError):
        F.linear(tensors[0], tensors[1].float())
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        F.linear([1.0], tensors[1])


def test_softmax_and_cross_entropy_by_hand():
    x = draw(5, 4)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(F.softmax(braze.tensor(x), 1).numpy(), p, rtol=1e-12)
    loss = F.cross_entropy(braze.tensor(x), braze.tensor(CLASSES))
    assert math.isclose(loss.item(), -np.log(p[np.arange(5), CLASSES]).mean(), rel_tol=1e-12)


def test_embedding_and_one_hot():
    table = braze.tensor(draw(5, 3), requires_grad=True)
    index = braze.tensor([[1, 4], [4, 0]])
    rows = F.embedding(index, table, padding_idx=0)
    np.testing.assert_array_equal(rows.detach().numpy(), table.detach().numpy()[index.numpy()])
    rows.sum().backward()
    np.testing.assert_array_equal(table.grad.numpy()[:, 0], [0, 1, 0, 0, 2])
    with pytest.raises(IndexError):
        F.embedding(braze.tensor([5]), table).tolist()
    table.grad = None
    F.embedding(index, table, sparse=True).sum().backward()
    assert table.grad.is_sparse and table.grad.to_dense()[:, 0].tolist() == [1, 1, 0, 0, 2]
    assert F.one_hot(braze.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(braze.tensor([0, 2]), 4).dtype is braze.int64
    with pytest.raises(RuntimeError, match="LongTensor"):
        F.one_hot(braze.tensor([0.0]))


def test_in_place_activations_write_to_their_input():
    x = braze.tensor([-1.0, 2.0])
    assert F.relu(x, inplace=True) is x and x.tolist() == [0.0, 2.0]
    w = braze.tensor([-1.0, 2.0], requires_grad=True)
    y = w * 2
    nn.LeakyReLU(0.5, inplace=True)(y)
    y.sum().backward()
    assert w.grad.tolist() == [1.0, 2.0]


def test_target_out_of_range_is_an_error_at_the_sync():
    loss = F.cross_entropy(braze.zeros(2, 3), braze.tensor([0, 3]))
    with pytest.raises(IndexError, match="cross_entropy"):
        loss.item()


def test_argument_errors():
    x = braze.zeros(1, 1, 4, 4)
    cases = [
        (
            ValueError,
            "is not a valid value for reduction",
            lambda: F.mse_loss(x, x, reduction="max"),
        ),
        (ValueError, "dropout probability", lambda: F.dropout(x, 1.5)),
        (
            RuntimeError,
            "padding='same' is not supported for strided",
            lambda: F.conv2d(x, braze.zeros(1, 1, 3, 3), stride=2, padding="same"),
        ),
        (
            RuntimeError,
            "Invalid padding string",
            lambda: F.conv2d(x, braze.zeros(1, 1, 3, 3), padding="full"),
        ),
        (
            ShapeError,
            r"expected 3D \(unbatched\) or 4D",
            lambda: F.conv2d(braze.zeros(3), braze.zeros(1, 1, 3, 3)),
        ),
        (ShapeError, "channels differ", lambda: F.conv2d(x, braze.zeros(1, 2, 3, 3))),
        (ShapeError, "stride needs 2 numbers", lambda: F.max_pool2d(x, 2, (1, 2, 3))),
        (RuntimeError, "pad should be at most half", lambda: F.max_pool2d(x, 2, padding=2)),
        (
            ValueError,
            "more than 1 value per channel",
            lambda: F.batch_norm(braze.zeros(1, 3), None, None, training=True),
        ),
        (RuntimeError, "running_mean and running_var", lambda: F.batch_norm(x, None, None)),
        (ShapeError, "normalized_shape", lambda: F.layer_norm(x, (3,))),
        (RuntimeError, "divisible by num_groups", lambda: F.group_norm(x, 2)),
        (ValueError, "Target size", lambda: F.binary_cross_entropy_with_logits(x, braze.zeros(1))),
        (
            RuntimeError,
            "label_smoothing",
            lambda: F.cross_entropy(braze.zeros(1, 2), braze.tensor([0]), label_smoothing=2.0),
        ),
        (NotImplementedError, "padding mode", lambda: F.pad(x, (1, 1), "mirror")),
        (RuntimeError, "Padding length must be divisible", lambda: F.pad(x, (1,))),
        (RuntimeError, "either none or tanh", lambda: F.gelu(x, approximate="fast")),
        (TypeError, "must be Tensor", lambda: F.relu(3)),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()


# Dropout ------------------------------------------------------------------------------------------


def test_dropout_statistics_scale_and_gradient():
    braze.manual_seed(1)
    x = braze.ones(200, 500, requires_grad=True)
    y = F.dropout(x, 0.3)
    values = y.detach().numpy()
    kept = values != 0
    assert abs(kept.mean() - 0.7) < 0.01
    np.testing.assert_allclose(values[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)


def test_dropout_is_reproducible_and_never_repeats():
    x = braze.ones(1000)
    braze.manual_seed(5)
    first, second = F.dropout(x).tolist(), F.dropout(x).tolist()
    assert first != second
    braze.manual_seed(5)
    assert F.dropout(x).tolist() == first
    state = braze.get_rng_state()
    third = F.dropout(x).tolist()
    braze.set_rng_state(state)
    assert F.dropout(x).tolist() == third


def test_dropout_outside_training_and_at_its_ends():
    x = braze.ones(4)
    assert F.dropout(x, 0.5, training=False) is x and F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0.0] * 4
    layer = nn.Dropout(0.5).eval()
    assert layer(x) is x
    assert F.dropout(x, 0.5, inplace=True) is x


def test_channel_dropout_drops_whole_channels():
    braze.manual_seed(2)
    y = nn.Dropout2d(0.5)(braze.ones(8, 64, 3, 3)).numpy().reshape(8 * 64, 9)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1]).all() and 0.4 < (y[:, 0] == 0).mean() < 0.6
    assert nn.Dropout1d(0.5)(braze.ones(6, 4)).shape == (6, 4)
    with pytest.raises(RuntimeError, match="at least 2 dimensions"), pytest.warns(UserWarning):
        F.dropout2d(braze.ones(3))
    with pytest.raises(RuntimeError, match="Expected 2D or 3D input, but received a 4D"):
        F.dropout1d(braze.ones(2, 3, 4, 5))
