"""Functions of layers against PyTorch, where it is installed: values and gradients, with the
signatures of the top level."""

import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape)


X, Y, V, W3 = numbers(3, 4), numbers(3, 4), numbers(4), numbers(2, 4, 6)
SIGNS = np.array([1.0, -1.0, 1.0])
IMAGE, WEIGHT, BIAS = numbers(2, 4, 5, 6), numbers(6, 2, 3, 2), numbers(6)
POSITIVE = np.abs(numbers(4)) + 0.5
INDEX = np.array([[0, 2, 2], [1, 0, 4]])
EDGES = np.array([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 2.0, np.nan])

# What to call with the library, its functional module and the operands; then the operands.
CASES = {
    "hardshrink": (lambda m, f, x: m.hardshrink(x, 0.25), EDGES),
    "hardshrink method": (lambda m, f, x: x.hardshrink(), EDGES),
    "softshrink": (lambda m, f, x: f.softshrink(x, 0.25), EDGES),
    "threshold": (lambda m, f, x: m.threshold(x, 0.25, 7.0), EDGES),
    "celu": (lambda m, f, x: m.celu(x, 0.5), EDGES),
    "selu": (lambda m, f, x: m.selu(x), EDGES),
    "rrelu": (lambda m, f, x: m.rrelu(x, 0.1, 0.5, False), EDGES),
    "prelu": (lambda m, f, x, w: m.prelu(x, w), X, V),
    "prelu method": (lambda m, f, x, w: x.prelu(w), X, np.array([0.25])),
    "celu_": (lambda m, f, x: m.celu_(x * 2.0, 0.5), X),
    "selu_": (lambda m, f, x: m.selu_(x * 2.0), X),
    "threshold_": (lambda m, f, x: m.threshold_(x * 2.0, 0.1, -1.0), X),
    "igamma": (lambda m, f, x: m.igamma(m.ones(()).to(x.dtype) * 2.5, x), POSITIVE),
    "igammac": (lambda m, f, x: m.special.gammaincc(m.ones(()).to(x.dtype) * 2.5, x), POSITIVE),
    "frexp": (lambda m, f, x: m.frexp(x)[0], X),
    "cosine_similarity": (lambda m, f, x, y: m.cosine_similarity(x, y), X, Y),
    "pairwise_distance": (lambda m, f, x, y: m.pairwise_distance(x, y, 3.0), X, Y),
    "pdist 2": (lambda m, f, x: m.pdist(x), np.concatenate([X, X[:1]])),
    "pdist 1": (lambda m, f, x: m.pdist(x, 1.0), X),
    "pdist inf": (lambda m, f, x: f.pdist(x, float("inf")), X),
    "pdist of one": (lambda m, f, x: m.pdist(x), X[:1]),
    "cosine_embedding_loss": (
        lambda m, f, x, y: m.cosine_embedding_loss(x, y, m.tensor(SIGNS), 0.1, 2), X, Y,
    ),
    "cosine_embedding_loss of vectors": (
        lambda m, f, x, y: f.cosine_embedding_loss(x, y, m.tensor(-1.0)), X[0], Y[0],
    ),
    "hinge_embedding_loss": (
        lambda m, f, x: m.hinge_embedding_loss(x, m.tensor(SIGNS)[:, None], 0.7, 0), X,
    ),
    "margin_ranking_loss": (
        lambda m, f, x, y: m.margin_ranking_loss(x, y, m.tensor(SIGNS)[:, None], 0.3), X, Y,
    ),
    "triplet_margin_loss": (
        lambda m, f, x, y: m.triplet_margin_loss(x, y, y * 1.5 - x, 1.0, 2.0, 1e-6, True, 0), X, Y,
    ),
    "kl_div": (lambda m, f, x, y: m.kl_div(x, y.exp(), 1), X, Y),
    "kl_div log": (lambda m, f, x, y: m.kl_div(x, y, 2, log_target=True), X, Y),
    "bce with logits": (
        lambda m, f, x, y, p: m.binary_cross_entropy_with_logits(
            x, y.sigmoid(), None, p.detach(), 2
        ),
        X, Y, POSITIVE,
    ),
    "poisson_nll_loss": (
        lambda m, f, x: m.poisson_nll_loss(x, m.tensor(np.abs(Y) * 3), True, True, 1e-8, 1), X,
    ),
    "poisson_nll_loss of rates": (
        lambda m, f, x: f.poisson_nll_loss(x, m.tensor(np.abs(X)), False, eps=0.1), POSITIVE,
    ),
    "layer_norm": (lambda m, f, x, w, b: m.layer_norm(x, (4,), w, b, 1e-4), X, V, POSITIVE),
    "group_norm": (lambda m, f, x, w, b: m.group_norm(x, 2, w, b), W3, V, POSITIVE),
    "instance_norm": (
        lambda m, f, x, w, b: m.instance_norm(x, w, b, None, None, True, 0.1, 1e-5, False),
        W3, V, POSITIVE,
    ),
    "instance_norm with statistics": (
        lambda m, f, x, w: m.instance_norm(
            x, w, None, m.zeros(4).to(x.dtype), m.ones(4).to(x.dtype), False, 0.1, 1e-5, False
        ),
        W3, V,
    ),
    "batch_norm": (
        lambda m, f, x, w, b: m.batch_norm(x, w, b, None, None, True, 0.1, 1e-5, False),
        W3, V, POSITIVE,
    ),
    "rms_norm": (lambda m, f, x, w: m.rms_norm(x, (4,), w), X, V),
    "rms_norm of two": (lambda m, f, x: f.rms_norm(x, (4, 6), None, 0.1), W3),
    "native_layer_norm": (lambda m, f, x, w, b: m.native_layer_norm(x, (4,), w, b, 1e-5), X, V, V),
    "native_group_norm": (
        lambda m, f, x, w, b: m.native_group_norm(x, w, b, 2, 4, 6, 2, 1e-5), W3, V, POSITIVE,
    ),
    "native_batch_norm": (
        lambda m, f, x, w, b: m.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5),
        W3, V, POSITIVE,
    ),
    "embedding": (lambda m, f, w: m.embedding(w, m.tensor(INDEX), 2), numbers(5, 3)),
    "embedding by frequency": (
        lambda m, f, w: m.embedding(w, m.tensor(INDEX), -1, True), numbers(5, 3),
    ),
    "embedding with max_norm": (
        lambda m, f, w: f.embedding(m.tensor(INDEX), w.detach().clone(), max_norm=1.0),
        numbers(5, 3) * 2,
    ),
    "conv2d": (
        lambda m, f, x, w, b: m.conv2d(x, w, b, 2, (1, 0), 1, 2), IMAGE, WEIGHT, BIAS,
    ),
    "convolution": (
        lambda m, f, x, w, b: m.convolution(x, w, b, [1, 2], [1, 0], [1, 1], False, [0, 0], 2),
        IMAGE, WEIGHT, BIAS,
    ),
    "convolution transposed": (
        lambda m, f, x, w: m.convolution(x, w, None, [2, 2], [1, 0], [1, 2], True, [1, 0], 2),
        numbers(2, 6, 4, 3), WEIGHT,
    ),
    "conv_transpose1d": (
        lambda m, f, x, w, b: m.conv_transpose1d(x, w, b, 2, 1, 1), W3, numbers(4, 3, 3),
        numbers(3),
    ),
    "conv_transpose2d unbatched": (
        lambda m, f, x, w: f.conv_transpose2d(x, w), numbers(6, 4, 3), WEIGHT,
    ),
    "conv_transpose3d": (
        lambda m, f, x, w: m.conv_transpose3d(x, w, stride=2, dilation=2),
        numbers(1, 2, 2, 3, 2), numbers(2, 3, 2, 2, 2),
    ),
    "conv_tbc": (
        lambda m, f, x, w, b: m.conv_tbc(x, w, b, 1), numbers(5, 2, 4), numbers(3, 4, 6), BIAS,
    ),
    "constant_pad_nd": (lambda m, f, x: m.constant_pad_nd(x, (1, 2, -1, 0), 3.0), X),
    "avg_pool1d": (lambda m, f, x: m.avg_pool1d(x, 3, 2, 1), W3),
    "max_pool1d": (lambda m, f, x: m.max_pool1d(x, 3, 2, 1), W3),
    "max_pool1d_with_indices": (lambda m, f, x: m.max_pool1d_with_indices(x, 2), W3),
    "max_pool2d": (lambda m, f, x: m.max_pool2d(x, (2, 3)), IMAGE),
    "max_pool3d": (lambda m, f, x: m.max_pool3d(x, 2, 1), IMAGE),
    "adaptive_avg_pool1d": (lambda m, f, x: m.adaptive_avg_pool1d(x, 4), W3),
    "bilinear": (lambda m, f, x, y, w: m.bilinear(x, y, w), X, Y, numbers(2, 4, 4)),
    "pixel_shuffle": (lambda m, f, x: m.pixel_shuffle(x, 2), IMAGE),
    "pixel_unshuffle": (lambda m, f, x: m.pixel_unshuffle(x, 2), numbers(2, 3, 4, 6)),
    "channel_shuffle": (lambda m, f, x: m.channel_shuffle(x, 2), IMAGE),
}  # fmt: skip


def parts(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", CASES)
def test_layer(name):
    function, *arrays = CASES[name]
    ours = [braze.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    found = parts(function(braze, braze.nn.functional, *ours))
    wanted = parts(function(torch, torch.nn.functional, *theirs))
    assert len(found) == len(wanted)
    for mine, their in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            mine.numpy(force=True), their.detach().numpy(), rtol=1e-9, atol=1e-12
        )
    mine, their = found[0], wanted[0]
    if not their.requires_grad:
        return
    weights = np.linspace(0.5, 1.5, their.numel()).reshape(tuple(their.shape))
    (mine * braze.tensor(weights)).sum().backward()
    (their * torch.tensor(weights)).sum().backward()
    for a, t in zip(ours, theirs, strict=True):
        expected = np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy()
        given = np.zeros(tuple(t.shape)) if a.grad is None else a.grad.numpy()
        np.testing.assert_allclose(given, expected, rtol=1e-8, atol=1e-11)


def test_statistics_of_instances():
    """The running statistics move towards the batch's averages."""
    ours = [braze.tensor(a) for a in (W3, np.zeros(4), np.ones(4))]
    theirs = [torch.tensor(a) for a in (W3, np.zeros(4), np.ones(4))]
    braze.nn.functional.instance_norm(*ours, momentum=0.3)
    torch.nn.functional.instance_norm(*theirs, momentum=0.3)
    for a, t in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_allclose(a.numpy(), t.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("name", ["gcd", "lcm"])
def test_divisors(name, dtype):
    x = np.array([0, 1, 12, 100, 120, -12 if dtype != "uint8" else 12]).astype(dtype)
    y = np.array([[4], [18], [0], [7], [127]]).astype(dtype)
    mine = getattr(braze, name)(braze.tensor(x), braze.tensor(y))
    their = getattr(torch, name)(torch.tensor(x), torch.tensor(y))
    np.testing.assert_array_equal(mine.numpy(), their.numpy())
    assert mine.dtype.public_name == str(their.dtype).split(".")[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.igamma(m.tensor([1]), m.tensor([2])),
        lambda m: m.gcd(m.tensor([1]), m.tensor([2.0])),
        lambda m: m.lcm(m.tensor([True]), m.tensor([True])),
        lambda m: m.frexp(m.tensor([1])),
        lambda m: m.hardshrink(m.tensor([1])),
        lambda m: m.binomial(m.tensor([1.0]), m.tensor([1.0]).double()),
        lambda m: m.binomial(m.tensor([1]), m.tensor([1])),
        lambda m: m.prelu(m.zeros(2, 3), m.zeros(2)),
        lambda m: m.prelu(m.zeros(2, 3), m.zeros(2).double()),
        lambda m: m.celu(m.zeros(2), 0.0),
        lambda m: m.rrelu(m.zeros(2), 2, 1),
        lambda m: m.nn.functional.softshrink(m.zeros(2), -1.0),
        lambda m: m.dropout(m.zeros(2), 1.5, True),
        lambda m: m.dropout(m.tensor([1]), 0.5, True),
        lambda m: m.pdist(m.zeros(2)),
        lambda m: m.pixel_shuffle(m.zeros(1, 3, 2, 2), 2),
        lambda m: m.pixel_unshuffle(m.zeros(1, 3, 3, 2), 2),
        lambda m: m.channel_shuffle(m.zeros(1, 3, 2, 2), 2),
        lambda m: m.embedding(m.zeros(3, 2), m.zeros(2)),
        lambda m: m.nn.functional.triplet_margin_loss(*[m.zeros(2, 3)] * 3, margin=-1.0),
        lambda m: m.nn.functional.margin_ranking_loss(m.zeros(2, 1), m.zeros(2), m.zeros(2)),
        lambda m: m.cosine_embedding_loss(m.zeros(2, 3), m.zeros(2, 3), m.zeros(2, 3)),
    ],
)
def test_errors(call):
    with pytest.raises(Exception) as theirs:
        call(torch)
    wanted = theirs.type if theirs.type is not NotImplementedError else RuntimeError
    with pytest.raises(wanted):
        call(braze)
