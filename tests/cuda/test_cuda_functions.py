"""Functions on a CUDA device give what they give on the CPU, and so do their gradients."""

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze.ir.op import op_named

GPU = "cuda:0"


def data(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.2, 1.8, shape).astype(np.float32)


# What to call, on how many tensors of which shapes.
CASES = {
    "arithmetic": (lambda x, y: (x + y * 2 - 1) / (x * y + 3), (3, 5), (5,)),
    "unary": (lambda x: x.exp() + x.log() + x.tanh() + x.sqrt() + x.erf() + x.sigmoid(), (4, 7)),
    "powers": (lambda x, y: x**y + x**2 + x.rsqrt(), (6,), (6,)),
    "comparisons": (lambda x, y: braze.where(x > y, x, -y).clamp(-1, 1.5), (20,), (20,)),
    "sums": (lambda x: x.sum(0) + x.mean(0) + x.prod(0), (4, 5)),
    "variances": (lambda x: x.var(1) + x.std(1) + x.norm(dim=1), (3, 9)),
    "extrema": (lambda x: x.max(1).values + x.amin(1) + x.logsumexp(1), (3, 8)),
    "medians": (lambda x: x.median(1).values + x.quantile(0.3, dim=1), (3, 9)),
    "sorts": (lambda x: x.sort(1, descending=True).values + x.topk(3, 1).values[:, :1], (3, 8)),
    "scans": (lambda x: x.cumsum(1) + x.cumprod(1) + x.logcumsumexp(1), (3, 6)),
    "matmul": (lambda x, y: x @ y, (5, 7), (7, 4)),
    "batched": (lambda x, y: braze.bmm(x, y).sum(0), (2, 5, 7), (2, 7, 4)),
    "einsum": (lambda x, y: braze.einsum("ij,kj->ik", x, y), (3, 4), (5, 4)),
    "shapes": (lambda x: x.reshape(6, 2).t().flip(0)[:, 1::2].repeat(1, 2), (3, 4)),
    "joins": (
        lambda x, y: braze.cat([x, y], 1).roll(1, 1) + braze.stack([x, x], 1).sum(1)[:, :1],
        (2, 3),
        (2, 4),
    ),  # fmt: skip
    "triangles": (lambda x: x.tril() + x.triu(1) * 2 + braze.diag(x.diag()), (4, 4)),
    "softmax": (lambda x: F.softmax(x, 1) * F.log_softmax(x, 1), (4, 9)),
    "layer norm": (lambda x, w: F.layer_norm(x, (6,), w), (4, 6), (6,)),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), (6, 3, 2, 2)),
    "group norm": (lambda x: F.group_norm(x, 2), (2, 4, 3)),
    "activations": (lambda x: F.gelu(x) + F.silu(x) + F.softplus(x) + F.leaky_relu(x - 1), (12,)),
    "linear": (lambda x, w, b: F.linear(x, w, b), (4, 6), (3, 6), (3,)),
    "conv1d": (lambda x, w: F.conv1d(x, w, padding=1), (2, 3, 8), (4, 3, 3)),
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        (2, 3, 7, 7),
        (4, 3, 3, 3),
        (4,),
    ),  # fmt: skip
    "grouped": (lambda x, w: F.conv2d(x, w, groups=4), (1, 4, 6, 6), (4, 1, 3, 3)),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w, stride=2), (1, 3, 4, 4), (3, 2, 3, 3)),
    "max pool": (lambda x: F.max_pool2d(x, 2), (1, 2, 6, 6)),
    "average pool": (
        lambda x: F.avg_pool2d(x, 3, 2, 1) + F.adaptive_avg_pool2d(x, 3),
        (1, 2, 6, 6),
    ),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (1, 1, 3, 3)),
    "padding": (lambda x: F.pad(x, (1, 2), mode="reflect") + F.pad(x, (1, 2)), (1, 2, 5)),
    "cross entropy": (lambda x: F.cross_entropy(x, like(x, [0, 2, 1, 1])), (4, 3)),
    "losses": (lambda x, y: F.mse_loss(x, y) + F.smooth_l1_loss(x, y) + F.kl_div(x, y), (5,), (5,)),
    "binary": (lambda x: F.binary_cross_entropy_with_logits(x, (x > 1).float()), (9,)),
    "embedding": (lambda w: F.embedding(like(w, [[1, 0], [3, 1]]), w), (4, 3)),
    "gather": (
        lambda x: x.gather(1, like(x, [[0, 2], [1, 1]])) + x.index_select(1, like(x, [2, 0])),
        (2, 3),
    ),  # fmt: skip
    "scatter": (
        lambda x: braze.zeros(2, 4, device=x.device).scatter_add(
            1, like(x, [[0, 1, 0], [3, 3, 2]]), x
        ),
        (2, 3),
    ),  # fmt: skip
    "indexing": (lambda x: x[like(x, [2, 0])] + x[[1, 1]] + x[x[:, 0] > 0][:1], (3, 4)),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (1, 2, 9, 4),
        (1, 2, 9, 4),
        (1, 2, 9, 4),
    ),  # fmt: skip
    "cdist": (lambda x, y: braze.cdist(x, y), (3, 4), (5, 4)),
    "solve": (
        lambda a, b: braze.linalg.solve(a + 4 * braze.eye(3, device=a.device), b),
        (3, 3),
        (3, 2),
    ),  # fmt: skip
    "fourier": (lambda x: braze.fft.rfft(x).abs(), (8,)),
    "complex": (lambda x, y: (braze.complex(x, y) * braze.complex(y, x)).abs(), (5,), (5,)),
    "unfold": (lambda x: F.unfold(x, 2), (1, 2, 4, 4)),
    "meshes": (lambda x: sum(braze.meshgrid(x, x, indexing="ij")), (4,)),
    "one hot": (lambda x: F.one_hot((x * 2).long(), 4) * x[:, None], (6,)),
    "unique": (lambda x: braze.unique((x * 3).round()), (9,)),
    "histograms": (lambda x: braze.bincount((x * 4).long(), minlength=9).float(), (9,)),
    "interp": (lambda x, y: braze.lerp(x, y, 0.3) + braze.addcmul(x, x, y), (5,), (5,)),
    "halves": (
        lambda x, y: (x.half() @ y.half()).float() + (x.bfloat16() @ y.bfloat16()).float(),
        (4, 4),
        (4, 4),
    ),  # fmt: skip
}


def like(x, values):
    return braze.tensor(values, device=x.device)


def on(device, function, arrays):
    operands = [braze.tensor(a, device=device, requires_grad=True) for a in arrays]
    result = function(*operands)
    assert str(result.device) == device
    gradients = []
    if result.requires_grad:
        (
            result.float() * (1 + braze.arange(result.numel(), device=device).reshape(result.shape))
        ).sum().backward()
        gradients = [x.grad for x in operands]
        assert all(g is None or str(g.device) == device for g in gradients)
        gradients = [None if g is None else g.cpu() for g in gradients]
    return result.detach().cpu(), gradients


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_cpu(name):
    function, *shapes = CASES[name]
    arrays = [data(*shape, seed=i) for i, shape in enumerate(shapes)]
    found, gradients = on(GPU, function, arrays)
    wanted, others = on("cpu", function, arrays)
    wide = {"halves": 2e-2}.get(name, 2e-5)
    np.testing.assert_allclose(found, wanted, rtol=wide, atol=wide)
    for one, other in zip(gradients, others, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            scale = max(1.0, float(other.abs().max()))
            np.testing.assert_allclose(one, other, rtol=wide, atol=wide * scale)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x, 0.5),
        lambda x: braze.bernoulli(x / 2),
        lambda x: braze.rand_like(x),
        lambda x: braze.randn_like(x) + braze.normal(x, 1.0),
        lambda x: x.clone().uniform_(2, 3),
        lambda x: braze.multinomial(x, 3),
        lambda x: braze.poisson(x),
        lambda x: braze.randperm(9, device=x.device),
        lambda x: x.clone().exponential_(),
    ],
)
def test_random_numbers_are_those_of_the_cpu(draw):
    array = data(4, 6)
    braze.manual_seed(11)
    found = draw(braze.tensor(array, device=GPU))
    assert found.is_cuda
    braze.manual_seed(11)
    np.testing.assert_allclose(found.cpu(), draw(braze.tensor(array)), rtol=1e-5, atol=1e-6)


def test_an_interrupt_in_what_numpy_computes_says_where(monkeypatch):
    def interrupt(x):
        raise KeyboardInterrupt

    x = braze.eye(2, device=GPU) * 3.0
    with braze.config.using(tier="compile"):
        braze.slogdet(x)[1].cpu().numpy()
        monkeypatch.setattr(op_named("slogdet"), "evaluate", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            braze.slogdet(x)[1].cpu().numpy()
    assert "in host call 0" in caught.value.__notes__[0]


def test_second_derivatives_through_zeros_that_nobody_made():
    """Of a recurrence whose last state is not used: its gradient is zeros, made on the way."""

    braze.manual_seed(3)
    weights = braze.nn.RNN(2, 2).double().state_dict()
    braze.sync()  # compiled code may round a drawn weight once where the interpreter does twice

    def second(place):
        layer = braze.nn.RNN(2, 2).double().to(place)
        layer.load_state_dict(weights)
        x = braze.tensor(data(3, 2, 2)).double().to(place).requires_grad_()
        (first,) = braze.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)
        return braze.autograd.grad(first.sin().sum(), x)[0]

    found = second(GPU)
    assert found.is_cuda
    np.testing.assert_allclose(found.cpu(), second("cpu"), rtol=1e-10)
