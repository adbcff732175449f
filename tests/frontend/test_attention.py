"""Attention and the transformer, against formulas written with NumPy."""

import math

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import engine, nn
from braze.autograd import gradcheck, gradgradcheck
from braze.passes import compile_graph
from braze.runtime.cpu import host_target
from braze.tracing import trace

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensors(*arrays):
    return [braze.tensor(array) for array in arrays]


def softmax(scores):
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e300))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total)


def attention(q, k, v, mask=0.0, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return softmax(q @ k.swapaxes(-1, -2) * scale + mask) @ v


def additive(mask):
    return np.where(mask, -np.inf, 0.0)


# Scaled dot products ------------------------------------------------------------------------------


def test_scaled_dot_products():
    q, k, v = draw(2, 3, 4), draw(2, 5, 4, seed=1), draw(2, 5, 6, seed=2)
    seen = np.random.default_rng(3).random((3, 5)) < 0.6
    seen[1] = False  # which sees nothing
    shift = draw(2, 3, 5, seed=4)
    causal = np.tril(np.ones((3, 5), bool))
    function = F.scaled_dot_product_attention
    x = tensors(q, k, v)
    pairs = [
        (function(*x), attention(q, k, v)),
        (function(*x, braze.tensor(seen)), attention(q, k, v, additive(~seen))),
        (function(*x, braze.tensor(shift)), attention(q, k, v, shift)),
        (function(*x, braze.tensor(additive(~seen))), attention(q, k, v, additive(~seen))),
        (function(*x, is_causal=True), attention(q, k, v, additive(~causal))),
        (function(*x, scale=0.3), attention(q, k, v, scale=0.3)),
        (function(*x, dropout_p=1.0), np.zeros((2, 3, 6))),
    ]
    for ours, expected in pairs:
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12, atol=1e-14)
    assert pairs[1][0].numpy()[:, 1].tolist() == np.zeros((2, 6)).tolist()


def test_heads_that_share_keys():
    q, k, v = draw(2, 6, 3, 4), draw(2, 2, 5, 4, seed=1), draw(2, 2, 5, 4, seed=2)
    ours = F.scaled_dot_product_attention(*tensors(q, k, v), enable_gqa=True)
    expected = attention(q, np.repeat(k, 3, 1), np.repeat(v, 3, 1))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    mask = draw(6, 3, 5, seed=3)
    for given in (mask, mask[:1], mask[0], draw(2, 1, 1, 5, seed=4)):
        ours = F.scaled_dot_product_attention(
            *tensors(q, k, v), braze.tensor(given), enable_gqa=True
        )
        expected = attention(q, np.repeat(k, 3, 1), np.repeat(v, 3, 1), given)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    with pytest.raises(RuntimeError, match="must divide the number of heads in query, but got 4"):
        F.scaled_dot_product_attention(*tensors(q, draw(2, 4, 5, 4), v), enable_gqa=True)


def test_dropout_keeps_the_mean():
    braze.manual_seed(0)
    q, k, v = braze.zeros(1, 4, 2), braze.zeros(1, 4000, 2), braze.ones(1, 4000, 1)
    dropped = F.scaled_dot_product_attention(q, k, v, None, 0.4)
    assert abs(dropped.mean().item() - 1) < 0.05 and dropped.std().item() > 0


def test_gradients_with_rows_that_see_nothing():
    q, k, v = (braze.tensor(draw(2, 3, 2, seed=i), requires_grad=True) for i in range(3))
    seen = braze.tensor([[True, False, True], [False, False, False], [True, True, True]])
    assert gradcheck(lambda *x: F.scaled_dot_product_attention(*x, seen), (q, k, v))
    assert gradcheck(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), (q, k, v))


# By its kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_masks_of_all_forms(dtype):
    q, k, v = draw(2, 3, 10, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 6, seed=2)
    rng = np.random.default_rng(3)
    masks = [draw(10, 7, seed=4), draw(7, seed=5), draw(2, 1, 1, 7, seed=6), draw(10, 1, seed=7)]
    masks += [draw(2, 3, 10, 7, seed=8), draw(4, 1, 1, 10, 7, seed=9)]
    seen = [rng.random(shape) < 0.7 for shape in ((10, 7), (2, 1, 10, 7), (1, 7))]
    wide = getattr(braze, dtype)
    x = [braze.tensor(a).to(wide) for a in (q, k, v)]
    exact = [t.double().numpy() for t in x]
    tolerance = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    for mask in [*masks, *seen]:
        given = braze.tensor(mask)
        if mask.dtype != bool:
            given = given.to(wide)
            mask = given.double().numpy()
        else:
            mask = additive(~mask)
        ours = F.scaled_dot_product_attention(*x, given)
        assert ours.dtype is wide
        expected = attention(*exact, mask)
        np.testing.assert_allclose(ours.double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_leading_sizes_broadcast():
    q, k, v = draw(2, 1, 9, 4), draw(3, 5, 4, seed=1), draw(1, 3, 5, 6, seed=2)
    ours = F.scaled_dot_product_attention(*tensors(q, k, v))
    np.testing.assert_allclose(ours.numpy(), attention(q, k, v), rtol=1e-12)
    with pytest.raises(RuntimeError, match="broadcast"):
        F.scaled_dot_product_attention(*tensors(q, k, draw(4, 5, 6)))


def test_gradients_by_the_kernel():
    seen = np.random.default_rng(0).random((9, 5)) < 0.6
    seen[3] = False
    q, k, v = (
        braze.tensor(draw(2, n, 2, seed=n), requires_grad=True) for n in (9, 5, 5)
    )
    shift = braze.tensor(draw(9, 5, seed=4), requires_grad=True)
    function = F.scaled_dot_product_attention
    assert gradcheck(lambda *x: function(*x, braze.tensor(seen)), (q, k, v))
    assert gradcheck(lambda *x: function(*x, is_causal=True), (q, k, v))
    assert gradcheck(function, (q, k, v, shift))

    def dropped(*x):
        braze.manual_seed(3)
        return function(*x, dropout_p=0.3)

    assert gradcheck(dropped, (q, k, v, shift))
    small = [braze.tensor(draw(1, n, 1, seed=n), requires_grad=True) for n in (8, 2, 2)]
    assert gradgradcheck(function, small)


def test_dropout_by_the_kernel():
    q, k, v = braze.zeros(3, 50, 2), braze.zeros(3, 40, 2), braze.eye(40).expand(3, 40, 40)
    braze.manual_seed(1)
    weights = F.scaled_dot_product_attention(q, k, v, None, 0.25)
    again = F.scaled_dot_product_attention(q, k, v, None, 0.25)
    kept = (weights != 0).double().mean().item()
    assert abs(kept - 0.75) < 0.02 and not (weights == again).all().item()
    values = sorted(set(weights.reshape(-1).tolist()))
    assert len(values) == 2 and values[1] == pytest.approx(1 / 40 / 0.75)
    braze.manual_seed(1)
    assert (F.scaled_dot_product_attention(q, k, v, None, 0.25) == weights).all().item()


def test_layers_use_the_kernel():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)

    def gradients(x):
        with braze.enable_grad():
            return braze.autograd.grad(layer(x).sin().sum(), list(layer.parameters()))

    nodes = trace(gradients, [braze.zeros(2, 12, 8)]).graph.nodes
    names = [node.op.name for node in nodes if node.op.is_attention]
    assert names == ["attention_dropout", "attention_dropout_grad"]


def test_a_layer_needs_memory_for_its_length_only():
    length, heads = 512, 8
    layer = nn.MultiheadAttention(32, heads, dropout=0.1, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(length)

    def gradients(x):
        with braze.enable_grad():
            result, _ = layer(x, x, x, need_weights=False, attn_mask=mask)
            return braze.autograd.grad(result.sin().sum(), list(layer.parameters()))

    graph = trace(gradients, [braze.zeros(1, length, 32)]).graph
    program, _ = compile_graph(graph, host_target())
    assert program.arena_bytes < length * length * heads * 4 / 8


def test_errors_of_scaled_dot_products():
    q = braze.zeros(2, 3, 4)
    function = F.scaled_dot_product_attention
    with pytest.raises(RuntimeError, match="Explicit attn_mask should not be set"):
        function(q, q, q, braze.zeros(3, 3), is_causal=True)
    with pytest.raises(RuntimeError, match="same dtype, but got query.dtype: braze.float32, key"):
        function(q, q.double(), q)
    with pytest.raises(RuntimeError, match="attn_mask dtype to be bool or float or to match"):
        function(q, q, q, braze.zeros(3, 3, dtype=braze.int64))
    with pytest.raises(RuntimeError, match="at least 2 dimensional"):
        function(q[0, 0], q[0, 0], q[0, 0])
    with pytest.raises(RuntimeError, match="between 0 and 1, but got 2"):
        function(q, q, q, dropout_p=2)
    with pytest.raises(RuntimeError, match="inner sizes differ"):
        function(q, braze.zeros(2, 3, 5), q)


# Many heads ---------------------------------------------------------------------------------------


def many_heads(layer, q, k, v, mask=0.0):
    """Result and weights of each head: q, k and v are [L, N, E]."""
    state = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    size, heads = layer.embed_dim, layer.num_heads
    if "in_proj_weight" in state:
        weights = np.split(state["in_proj_weight"], 3)
    else:
        weights = [state[f"{name}_proj_weight"] for name in "qkv"]
    biases = np.split(state.get("in_proj_bias", np.zeros(3 * size)), 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weights, biases, strict=True))
    if "bias_k" in state:
        repeated = [np.repeat(state[name], q.shape[1], 1) for name in ("bias_k", "bias_v")]
        k, v = np.concatenate([k, repeated[0]]), np.concatenate([v, repeated[1]])
    if layer.add_zero_attn:
        nothing = np.zeros((1, *k.shape[1:]))
        k, v = np.concatenate([k, nothing]), np.concatenate([v, nothing])

    def split(x):
        return x.reshape(*x.shape[:2], heads, size // heads).transpose(1, 2, 0, 3)

    q, k, v = split(q), split(k), split(v)
    weights = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(size // heads) + mask)
    result = (weights @ v).transpose(2, 0, 1, 3).reshape(q.shape[2], q.shape[0], size)
    out = state["out_proj.weight"].T
    return result @ out + state.get("out_proj.bias", 0), weights


def built(**options):
    braze.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, dtype=braze.float64, **options)
    with braze.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(braze.randn(parameter.shape, dtype=braze.float64))
    return layer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"kdim": 3, "vdim": 5},
        {"add_bias_kv": True, "add_zero_attn": True},
    ],
    ids=str,
)
def test_many_heads(options):
    layer = built(**options)
    q, k, v = draw(3, 2, 4), draw(6, 2, layer.kdim, seed=1), draw(6, 2, layer.vdim, seed=2)
    hidden = np.zeros((2, 6), bool)
    hidden[0, 4:] = hidden[1, 0] = True
    shift = draw(3, 6, seed=3)
    extra = ((0, 0), (0, int("add_bias_kv" in options) + int(layer.add_zero_attn)))
    mask = np.pad(shift, extra) + np.pad(additive(hidden), extra)[:, None, None]
    expected, weights = many_heads(layer, q, k, v, mask)
    given = {"key_padding_mask": braze.tensor(hidden), "attn_mask": braze.tensor(shift)}
    with pytest.warns(UserWarning, match="mismatched key_padding_mask and attn_mask"):
        ours, averaged = layer(*tensors(q, k, v), **given)
        apart = layer(*tensors(q, k, v), average_attn_weights=False, **given)[1]
        alone, nothing = layer(*tensors(q, k, v), need_weights=False, **given)
    assert nothing is None
    for found, wanted in (
        (ours, expected),
        (alone, expected),
        (averaged, weights.mean(1)),
        (apart, weights),
    ):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_batch_first_and_no_batch():
    layer = built()
    x = draw(2, 5, 4)
    expected = many_heads(layer, *[x.swapaxes(0, 1)] * 3)[0].swapaxes(0, 1)
    alone = layer(*[braze.tensor(x[1])] * 3)
    np.testing.assert_allclose(alone[0].detach().numpy(), expected[1], rtol=1e-10)
    assert alone[1].shape == (5, 5)
    layer.batch_first = True
    y = braze.tensor(x)
    with braze.config.using(tier="compile"):
        result, weights = layer(y, y, y)
        result.sum().backward()
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-10)
    assert weights.shape == (2, 5, 5) and layer.in_proj_weight.grad.shape == (12, 4)


def test_names_and_errors_of_many_heads():
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    names = "in_proj_weight in_proj_bias bias_k bias_v out_proj.weight out_proj.bias"
    assert list(layer.state_dict()) == names.split()
    names = "q_proj_weight k_proj_weight v_proj_weight in_proj_bias out_proj.weight out_proj.bias"
    assert list(nn.MultiheadAttention(4, 2, kdim=3).state_dict()) == names.split()
    assert layer.in_proj_bias.tolist() == [0.0] * 12
    bound = math.sqrt(6 / 16)
    assert 0.5 * bound < layer.in_proj_weight.abs().max().item() <= bound
    q = braze.zeros(3, 2, 4)
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        nn.MultiheadAttention(4, 3)
    with pytest.raises(ValueError, match="got embed_dim=0 and num_heads=1"):
        nn.MultiheadAttention(0, 1)
    with pytest.raises(AssertionError, match="was expecting embedding dimension of 4, but got 5"):
        layer(*[braze.zeros(3, 2, 5)] * 3)
    with pytest.raises(RuntimeError, match=r"2D attn_mask is .* but should be \(3, 3\)"):
        layer(q, q, q, attn_mask=braze.zeros(3, 4))
    with pytest.raises(RuntimeError, match="Need attn_mask if specifying the is_causal hint"):
        layer(q, q, q, is_causal=True)
    with pytest.raises(AssertionError, match="`key_padding_mask` to be `None` or 2-D but found 1"):
        layer(q, q, q, key_padding_mask=braze.zeros(3))
    with pytest.raises(AssertionError, match="only bool and floating types of attn_mask"):
        layer(q, q, q, attn_mask=braze.zeros(3, 3, dtype=braze.int64))


# Transformers -------------------------------------------------------------------------------------


def norm(x, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


@pytest.mark.parametrize("first", [False, True])
def test_layers_of_encoder_and_decoder(first):
    braze.manual_seed(1)
    options = {"dropout": 0.0, "norm_first": first, "dtype": braze.float64}
    encoder = nn.TransformerEncoderLayer(4, 2, 6, **options)
    decoder = nn.TransformerDecoderLayer(4, 2, 6, **options)
    x, memory = draw(5, 2, 4), draw(3, 2, 4, seed=1)
    causal = additive(np.triu(np.ones((5, 5), bool), 1))

    def step(y, part):
        return y + part(norm(y)) if first else norm(y + part(y))

    def forward(layer, y):
        return linear(layer.linear2, np.maximum(linear(layer.linear1, y), 0))

    y = step(x, lambda z: many_heads(encoder.self_attn, z, z, z, causal)[0])
    expected = step(y, lambda z: forward(encoder, z))
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=braze.float64)
    ours = encoder(braze.tensor(x), mask, is_causal=True)
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    y = step(x, lambda z: many_heads(decoder.self_attn, z, z, z)[0])
    y = step(y, lambda z: many_heads(decoder.multihead_attn, z, memory, memory)[0])
    expected = step(y, lambda z: forward(decoder, z))
    ours = decoder(*tensors(x, memory))
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_padding_at_the_end_gives_zeros_in_evaluation():
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x = braze.tensor(draw(2, 3, 4)).float()
    at_end = braze.tensor([[False, False, True], [False, False, False]])
    between = braze.tensor([[False, True, False], [False, False, False]])
    with braze.no_grad():
        cut = encoder(x, src_key_padding_mask=at_end)
        whole = encoder(x, src_key_padding_mask=between)
        encoder.enable_nested_tensor = encoder.use_nested_tensor = False
        plain = encoder(x, src_key_padding_mask=at_end)
    assert cut[0, 2].tolist() == [0.0] * 4 and whole.ne(0).all()
    kept = at_end.logical_not()
    assert plain[0, 2].ne(0).all() and braze.equal(plain[kept], cut[kept])


def test_a_transformer_trains_as_one_graph():
    braze.manual_seed(0)
    net = nn.Transformer(8, 2, 1, 1, 16, dropout=0.1, batch_first=True)
    copies = nn.TransformerEncoder(net.encoder.layers[0], 2).layers
    assert copies[0] is not copies[1] and copies[0].linear1.weight is not copies[1].linear1.weight
    source, target = (braze.tensor(draw(2, n, 8)).float() for n in (4, 3))
    hidden = braze.tensor([[False, False, False, True], [False, False, True, True]])
    mask = net.generate_square_subsequent_mask(3)
    optimizer = braze.optim.Adam(net.parameters(), lr=0.01)
    losses, graphs = [], []
    for _ in range(6):
        optimizer.zero_grad()
        output = net(source, target, tgt_mask=mask, src_key_padding_mask=hidden)
        loss = (output - target).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
        before = engine.stats.interpreted + engine.stats.native_calls
        optimizer.step()
        losses.append(loss)
        graphs.append(engine.stats.interpreted + engine.stats.native_calls - before)
    assert graphs == [1] * 6 and losses[-1].item() < 0.9 * losses[0].item()
    with pytest.raises(RuntimeError, match="feature number of src and tgt must be equal to d_mod"):
        net(source[..., :4], target)
    with pytest.raises(RuntimeError, match="batch number of src and tgt must be equal"):
        net(source[:1], target)
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")
