"""Cases of attention and of the transformer."""

import numpy as np
from compare_cases import case
from compare_modules import module


def keys_hidden(c, *rows):
    return c.exactly(np.array([[n == "1" for n in row] for row in rows]))


def causal(c, size):
    return c.exactly(np.triu(np.full((size, size), -np.inf), 1)).constant()


@case("torch.nn.functional.scaled_dot_product_attention")
def attention(c):
    def call(m, q, k, v, *more, **options):
        return m.nn.functional.scaled_dot_product_attention(q, k, v, *more, **options)

    q, k, v = c.f64(2, 3, 4), c.f64(2, 5, 4), c.f64(2, 5, 6)
    c(call, q, k, v, gradients=2)
    c(call, q, k, v, c.f64(3, 5), gradients=2)
    c(call, q, k, v, keys_hidden(c, "11010", "11111", "00001"))
    c(call, q, k, v, keys_hidden(c, "11010", "00000", "00001"))
    c(call, q, k, v, c.exactly(np.full((3, 5), -np.inf)).constant())
    c(call, q, k, v, c.mask(2, 1, 5))
    c(lambda m, q, k, v: call(m, q, k, v, is_causal=True), q, k, v)
    c(lambda m, q, k, v: call(m, q, k, v, None, 0.0, True, scale=0.25), v, v, v)
    c(lambda m, q, k, v: call(m, q, k, v, scale=0.0), q, k, v)
    c(lambda m, q, k, v: call(m, q, k, v, dropout_p=1.0), q, k, v)
    c(call, c.f64(3, 4), c.f64(5, 4), c.f64(5, 4))
    c(call, c.f64(2, 3, 3, 4), c.f64(3, 5, 4), c.f64(5, 4))
    c(call, q, c.f64(2, 0, 4), c.f64(2, 0, 4))
    c(call, c.f32(2, 3, 4), c.f32(2, 5, 4), c.f32(2, 5, 4), c.f32(3, 5))
    half = [c.of("float16", 2, 3, 4) for _ in range(3)]
    c(call, *half, c.f32(3, 3))
    heads = [c.f64(2, n, 3, 4) for n in (6, 2, 2)]
    four = [c.f64(2, 4, 3, 4)] * 2
    c(lambda m, q, k, v: call(m, q, k, v, enable_gqa=True), *heads)
    c(lambda m, q, k, v: call(m, q, k, v, enable_gqa=True), q, k, k)
    c.error(lambda m, q, k, v: call(m, q, k, v, enable_gqa=True), heads[0], *four)
    c.error(lambda m, q, k, v: call(m, q, k, v, enable_gqa=True), *[c.f64(3, 4)] * 3)
    c.error(call, *heads)
    c.error(lambda m, q, k, v, x: call(m, q, k, v, x, is_causal=True), q, k, v, c.f64(3, 5))
    c.error(call, c.f32(2, 3, 4), k, v)
    c.error(call, c.f32(2, 3, 4), c.f32(2, 5, 4), c.f32(2, 5, 4), c.f64(3, 5))
    c.error(call, q, k, v, c.i64(3, 5))
    c.error(call, q, k, v, c.f64(3, 4))
    c.error(call, c.f64(4), c.f64(4), c.f64(4))
    c.error(call, q, c.f64(2, 5, 3), v)
    c.error(call, q, k, c.f64(2, 6, 4))
    c.error(call, *[c.i64(2, 3, 4)] * 3)
    c.error(lambda m, q, k, v: call(m, q, k, v, dropout_p=1.5), q, k, v)
    c.error(lambda m, q, k, v: call(m, q, k, v, None, 0.0, True, 2.0), q, k, v)
    c.error(lambda m, q: call(m, q, 2, q), q)
    c.random(lambda m, q: call(m, q, q, m.ones(2, 4096, 1), dropout_p=0.5), c.f32(2, 4096, 2))


@case("torch.nn.functional.multi_head_attention_forward")
def forward(c):
    def call(m, q, k, v, heads=2, **options):
        width = q.shape[-1]

        def made(*shape):
            x = m.arange(float(np.prod(shape)), dtype=m.float64).reshape(shape)
            return (x * 0.7).sin()

        given = {
            "in_proj_weight": made(3 * width, width),
            "in_proj_bias": made(3 * width),
            "bias_k": None,
            "bias_v": None,
            "add_zero_attn": False,
            "dropout_p": 0.0,
            "out_proj_weight": made(width, width),
            "out_proj_bias": made(width),
        }
        options = {key: f(made) if callable(f) else f for key, f in options.items()}
        call = m.nn.functional.multi_head_attention_forward
        return call(q, k, v, width, heads, **given | options)

    def check(*inputs, error=False, **options):
        run = c.error if error else c
        run(lambda m, *x: call(m, *x, **options), *inputs, gradients=0 if error else 1)

    q, k = c.f64(3, 2, 4), c.f64(5, 2, 4)
    check(q, k, k)
    check(q, k, c.f64(5, 2, 4), need_weights=False)
    check(q, q, q, average_attn_weights=False)
    check(q, q, q, training=False, dropout_p=0.5)
    check(q, k, k, bias_k=lambda f: f(1, 1, 4), bias_v=lambda f: f(1, 1, 4), add_zero_attn=True)
    check(q, k, k, static_k=lambda f: f(4, 5, 2), static_v=lambda f: f(4, 5, 2))
    apart = {
        f"{n}_proj_weight": (lambda f, size=size: f(4, size))
        for n, size in zip("qkv", (4, 3, 6), strict=True)
    }
    apart |= {"use_separate_proj_weight": True, "in_proj_weight": None}
    check(q, c.f64(5, 2, 3), c.f64(5, 2, 6), **apart)
    check(q, c.f64(5, 2, 3), c.f64(5, 2, 6), in_proj_bias=None, out_proj_bias=None, **apart)
    check(q, k, k, in_proj_weight=None, error=True)
    check(q, k, k, use_separate_proj_weight=True, error=True)
    check(q, c.f64(5, 2, 3), c.f64(4, 2, 6), error=True, **apart)
    check(q, k, k, bias_k=lambda f: f(1, 1, 4), error=True)
    check(q, k, k, is_causal=True, error=True)
    check(q, k, k, heads=3, error=True)
    check(q, k, k, static_k=lambda f: f(3, 5, 2), error=True)
    check(q, c.f64(5, 4), k, error=True)
    check(c.f64(1, 3, 2, 4), k, k, error=True)
    both = {"bias_k": lambda f: f(1, 1, 4), "bias_v": lambda f: f(1, 1, 4)}
    check(q, k, k, static_k=lambda f: f(4, 5, 2), error=True, **both)


@case("torch.nn.MultiheadAttention")
def many_heads(c):
    def check(inputs, *args, masks=(), error=False, evaluate=False, call=None, **options):
        call = call or {}
        masks = dict(masks)

        def run(m, made, *tensors):
            given = dict(zip(masks, tensors[len(inputs) :], strict=True))
            return made(*tensors[: len(inputs)], **given, **call)

        def build(nn):
            return nn.MultiheadAttention(*args, **options)

        tensors = [*inputs, *masks.values()]
        if error:
            c.error(lambda m, *x: run(m, build(m.nn), *x), *tensors)
        else:
            module(c, build, *tensors, call=run, evaluate=evaluate)

    q, k = c.f64(3, 2, 4), c.f64(5, 2, 4)
    hidden = keys_hidden(c, "00011", "01000")
    check([q, k, k], 4, 2)
    check([q, k, c.f64(5, 2, 4)], 4, 2, bias=False, call={"need_weights": False})
    check([q, c.f64(5, 2, 3), c.f64(5, 2, 6)], 4, 2, kdim=3, vdim=6)
    check([q, c.f64(5, 2, 3), c.f64(5, 2, 6)], 4, 2, kdim=3, vdim=6, add_bias_kv=True, bias=False)
    check([c.f64(2, 3, 4), c.f64(2, 5, 4), c.f64(2, 5, 4)], 4, 2, batch_first=True)
    check([c.f64(3, 4), c.f64(5, 4), c.f64(5, 4)], 4, 2, batch_first=True)
    one = {"key_padding_mask": c.exactly(np.array([False, False, True, False, True]))}
    check([c.f64(3, 4), c.f64(5, 4), c.f64(5, 4)], 4, 2, masks=one)
    check([c.f64(3, 4), c.f64(5, 4), c.f64(5, 4)], 4, 2, masks={"attn_mask": c.f64(2, 3, 5)})
    check([q, k, k], 4, 2, masks={"key_padding_mask": hidden})
    check([q, k, k], 4, 2, masks={"key_padding_mask": hidden}, call={"need_weights": False})
    check([q, k, k], 4, 2, masks={"attn_mask": c.f64(3, 5)}, call={"average_attn_weights": False})
    both = {"key_padding_mask": hidden, "attn_mask": keys_hidden(c, "00100", "00000", "00100")}
    check([q, k, k], 4, 2, masks=both)
    check([q, k, k], 4, 2, masks=both, add_bias_kv=True, add_zero_attn=True)
    check([q, k, k], 4, 2, masks={"attn_mask": c.f64(4, 3, 5)}, add_zero_attn=True)
    check([q, k, k], 4, 2, masks=both | {"attn_mask": c.f64(3, 5)}, call={"need_weights": False})
    full = {"key_padding_mask": keys_hidden(c, "11111", "01000")}
    check([q, k, k], 4, 2, masks=full)
    check([q, k, k], 4, 2, masks=full, call={"need_weights": False})
    ordered = {"is_causal": True, "need_weights": False}
    check([q, q, q], 4, 2, masks={"attn_mask": causal(c, 3)}, call=ordered)
    check([q, q, q], 4, 2, masks={"attn_mask": causal(c, 3)}, call={"is_causal": True})
    check([q, q, q], 4, 2, evaluate=True, dropout=0.5, call={"need_weights": False})
    check([q, k, k], 4, 2, call={"is_causal": True}, error=True)
    check([q, k, k], 4, 3, error=True)
    check([q, k, k], 0, 3, error=True)
    check([c.f32(3, 2, 5), c.f32(3, 2, 5), c.f32(3, 2, 5)], 4, 2, error=True)
    f = [c.f32(3, 2, 4), c.f32(5, 2, 4), c.f32(5, 2, 4)]
    check(f, 4, 2, masks={"key_padding_mask": c.i64(2, 5)}, error=True)
    check(f, 4, 2, masks={"key_padding_mask": keys_hidden(c, "0101", "0101")}, error=True)
    check(f, 4, 2, masks={"attn_mask": c.f32(3, 4)}, error=True)
    check(f, 4, 2, masks={"attn_mask": c.f32(3, 3, 5)}, error=True)
    check(f, 4, 2, masks={"attn_mask": c.f32(5)}, error=True)
    check([f[0], f[1], c.f32(4, 2, 4)], 4, 2, error=True)

    def merged(m, q, mask, hidden):
        made = m.nn.MultiheadAttention(4, 2, batch_first=True)
        return [
            made.merge_masks(None, None, q),
            made.merge_masks(None, hidden, q),
            made.merge_masks(mask, None, q),
            made.merge_masks(mask, hidden, q),
        ]

    c(merged, c.f64(2, 3, 4), c.f64(3, 3), c.f64(2, 3), gradients=0)
    c(merged, c.f64(2, 3, 4), c.f64(4, 3, 3), c.f64(2, 3), gradients=0)


def sizes(made):
    """The names and sizes of parameters."""
    return {name: list(p.shape) for name, p in made.named_parameters()}


@case("torch.nn.TransformerEncoderLayer")
def encoder_layer(c):
    def layer(nn, **options):
        return nn.TransformerEncoderLayer(4, 2, 6, **{"dropout": 0.0} | options)

    x = c.f64(3, 2, 4)
    module(c, layer, x)
    module(c, lambda nn: layer(nn, norm_first=True, activation="gelu"), x)
    module(c, lambda nn: layer(nn, bias=False, layer_norm_eps=0.1), x)
    module(c, lambda nn: layer(nn, batch_first=True), x)
    module(c, lambda nn: layer(nn, activation=nn.functional.silu), c.f64(3, 4))
    module(c, lambda nn: layer(nn, dropout=0.4), x, evaluate=True)
    module(c, lambda nn: layer(nn, activation=nn.GELU()), x)
    module(
        c,
        layer,
        x,
        causal(c, 3),
        call=lambda m, made, x, mask: made(x, src_mask=mask, is_causal=True),
    )
    hidden = keys_hidden(c, "001", "010")
    module(c, layer, x, hidden, call=lambda m, made, x, mask: made(x, src_key_padding_mask=mask))

    def evaluated(m, x, hidden):
        made = layer(m.nn, batch_first=True)
        fill_with_sines(made, m)
        with m.no_grad():
            return made.eval()(x, src_key_padding_mask=hidden)

    c(evaluated, c.f32(2, 3, 4), hidden)
    c.error(lambda m: layer(m.nn, activation="tanh"))
    c.error(lambda m, x: layer(m.nn)(x), c.f32(3, 2, 5))
    c.error(lambda m, x, mask: layer(m.nn)(x, mask), c.f32(3, 2, 4), c.i64(3, 3))
    c(lambda m: sizes(layer(m.nn)))


def fill_with_sines(made, m):
    with m.no_grad():
        for parameter in made.parameters():
            values = m.arange(float(parameter.numel())).reshape(parameter.shape)
            parameter.copy_((values * 0.9).sin())


@case("torch.nn.TransformerDecoderLayer")
def decoder_layer(c):
    def layer(nn, **options):
        return nn.TransformerDecoderLayer(4, 2, 6, **{"dropout": 0.0} | options)

    x, memory = c.f64(3, 2, 4), c.f64(5, 2, 4)
    module(c, layer, x, memory)
    module(c, lambda nn: layer(nn, norm_first=True, activation="gelu"), x, memory)
    module(c, lambda nn: layer(nn, bias=False), x, memory)
    module(c, lambda nn: layer(nn, batch_first=True), c.f64(2, 3, 4), c.f64(2, 5, 4))
    module(c, layer, c.f64(3, 4), c.f64(5, 4))

    def masked(m, made, x, memory, own, other, hidden):
        return made(x, memory, own, other, memory_key_padding_mask=hidden, tgt_is_causal=True)

    masks = causal(c, 3), c.f64(3, 5), c.f64(2, 5)
    module(c, layer, x, memory, *masks, call=masked)
    c.error(lambda m, x: layer(m.nn)(x), c.f32(3, 2, 4))
    c.error(lambda m, x, y: layer(m.nn)(x, y), c.f32(3, 2, 4), c.f32(3, 2, 5))


@case("torch.nn.TransformerEncoder")
def encoder(c):
    def made(nn, norm=False, layers=2, **options):
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, **options)
        return nn.TransformerEncoder(layer, layers, nn.LayerNorm(4) if norm else None)

    x = c.f64(3, 2, 4)
    module(c, made, x)
    module(c, lambda nn: made(nn, norm=True, norm_first=True), x)
    module(c, made, x, causal(c, 3), call=lambda m, made, x, mask: made(x, mask))
    module(c, made, x, causal(c, 3), call=lambda m, made, x, mask: made(x, mask, is_causal=True))

    for hidden in (("001", "011"), ("001", "100")):
        mask = keys_hidden(c, *hidden)
        module(c, made, x, mask, call=lambda m, made, x, mask: made(x, src_key_padding_mask=mask))
        for norm in (False, True):
            for gradients in (False, True):

                def evaluated(m, x, mask, norm=norm, gradients=gradients):
                    encoder = made(m.nn, norm, batch_first=True).eval()
                    fill_with_sines(encoder, m)
                    encoder.requires_grad_(gradients)
                    return encoder(x, src_key_padding_mask=mask).detach()

                c(evaluated, c.f32(2, 3, 4), mask)

    def copies(m):
        encoder = made(m.nn)
        first, second = (layer.linear1.weight for layer in encoder.layers)
        return first is not second, (first == second).all(), encoder.num_layers

    c(copies)
    c.error(lambda m, x, y: made(m.nn)(x, src_key_padding_mask=y), c.f32(3, 2, 4), c.i64(2, 3))


@case("torch.nn.TransformerDecoder")
def decoder(c):
    def made(nn, norm=False, **options):
        layer = nn.TransformerDecoderLayer(4, 2, 6, dropout=0.0, **options)
        return nn.TransformerDecoder(layer, 2, nn.LayerNorm(4) if norm else None)

    x, memory = c.f64(3, 2, 4), c.f64(5, 2, 4)
    module(c, made, x, memory)
    module(c, lambda nn: made(nn, norm=True, norm_first=True), x, memory)
    module(
        c, made, x, memory, causal(c, 3), call=lambda m, made, x, y, mask: made(x, y, tgt_mask=mask)
    )


@case("torch.nn.Transformer")
def transformer(c):
    def made(nn, **options):
        return nn.Transformer(4, 2, 1, 2, 6, **{"dropout": 0.0} | options)

    x, y = c.f64(3, 2, 4), c.f64(5, 2, 4)
    module(c, made, x, y)
    module(c, lambda nn: made(nn, batch_first=True, bias=False), c.f64(2, 3, 4), c.f64(2, 5, 4))
    module(c, lambda nn: made(nn, norm_first=True, activation="gelu"), x, y)
    module(c, made, c.f64(3, 4), c.f64(5, 4))

    def masked(m, model, x, y, hidden):
        causal = model.generate_square_subsequent_mask(5, dtype=m.float64)
        return model(
            x,
            y,
            tgt_mask=causal,
            src_key_padding_mask=hidden,
            memory_key_padding_mask=hidden,
            tgt_is_causal=True,
        )

    module(c, made, x, y, keys_hidden(c, "001", "011"), call=masked)
    c(lambda m: m.nn.Transformer.generate_square_subsequent_mask(3))
    c(lambda m: m.nn.Transformer.generate_square_subsequent_mask(2, dtype=m.float64))
    c(lambda m, x: made(m.nn, custom_encoder=m.nn.Identity()).encoder(x), x)
    c.error(lambda m, x, y: made(m.nn)(x, y), c.f32(3, 2, 4), c.f32(5, 3, 4))
    c.error(lambda m, x, y: made(m.nn)(x, y), c.f32(3, 2, 5), c.f32(5, 2, 5))
    c(lambda m: sizes(made(m.nn)))
