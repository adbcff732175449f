"""The networks of `benchmarks.models` over dictionaries of parameters: shapes, and forward passes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import MOBILE_STAGES
from benchmarks.peers import jax_layers as layers
from benchmarks.peers.jax_layers import Parameters

Shapes = dict[str, tuple[int, ...]]


def mlp_shapes(*sizes: int) -> Shapes:
    """Layers 0, 2, 4, ... of a `Sequential`."""
    shapes: Shapes = {}
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shapes |= layers.linear_shapes(str(2 * i), before, after)
    return shapes


def mlp(p: Parameters, x: Any) -> Any:
    """Dense layers with ReLU between them."""
    names = sorted({name.split(".")[0] for name in p}, key=int)
    for name in names[:-1]:
        x = jax.nn.relu(layers.linear(p, name, x))
    return layers.linear(p, names[-1], x)


def mnist_shapes() -> Shapes:
    """Of MNIST's network."""
    return {
        "conv1.weight": (32, 1, 3, 3), "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3), "conv2.bias": (64,),
        **layers.linear_shapes("fc1", 9216, 128), **layers.linear_shapes("fc2", 128, 10),
    }  # fmt: skip


def mnist(p: Parameters, x: Any, key: Any) -> Any:
    """Logits; with dropout if there is a key."""
    keys = (None, None) if key is None else jax.random.split(key)
    x = jax.nn.relu(layers.conv(p, "conv1", x))
    x = jax.nn.relu(layers.conv(p, "conv2", x))
    x = layers.dropout(keys[0], layers.max_pool(x, 2, 2), 0.25)
    x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # PyTorch's order of the weights
    x = layers.dropout(keys[1], jax.nn.relu(layers.linear(p, "fc1", x)), 0.5)
    return layers.linear(p, "fc2", x)


def resnet_blocks(depths: tuple[int, ...], bottleneck: bool) -> list[tuple[str, list[Any]]]:
    """Names of blocks, and (name, in, out, kernel, stride) of their convolutions."""
    found: list[tuple[str, list[Any]]] = []
    before = 64
    for i, depth in enumerate(depths):
        width = 64 << i
        outside = width * (4 if bottleneck else 1)
        for j in range(depth):
            stride = 2 if i and not j else 1
            convs: list[Any] = (
                [("conv1", before, width, 1, 1), ("conv2", width, width, 3, stride),
                 ("conv3", width, outside, 1, 1)]
                if bottleneck
                else [("conv1", before, width, 3, stride), ("conv2", width, width, 3, 1)]
            )  # fmt: skip
            if stride != 1 or before != outside:
                convs.append(("downsample.0", before, outside, 1, stride))
            found.append((f"layer{i + 1}.{j}", convs))
            before = outside
    return found


def _norm_of(name: str) -> str:
    return "downsample.1" if name == "downsample.0" else name.replace("conv", "bn")


def resnet_shapes(depths: tuple[int, ...], bottleneck: bool, classes: int = 1000) -> Shapes:
    """Of ResNet-18's or ResNet-50's kind."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **layers.norm_shapes("bn1", 64)}
    last = 64
    for block, convs in resnet_blocks(depths, bottleneck):
        for name, inside, outside, kernel, _ in convs:
            shapes[f"{block}.{name}.weight"] = (outside, inside, kernel, kernel)
            shapes |= layers.norm_shapes(f"{block}.{_norm_of(name)}", outside)
            last = outside
    return shapes | layers.linear_shapes("fc", last, classes)


def resnet(
    p: Parameters, x: Any, depths: tuple[int, ...], bottleneck: bool, running: Parameters | None
) -> Any:
    """Logits; in training mode with `running` statistics to move."""

    def step(prefix: str, conv: str, norm: str, x: Any, stride: int, padding: int) -> Any:
        y = layers.conv(p, f"{prefix}{conv}", x, stride, padding)
        return layers.batch_norm(p, f"{prefix}{norm}", y, running)

    x = layers.max_pool(jax.nn.relu(step("", "conv1", "bn1", x, 2, 3)), 3, 2, 1)
    for block, convs in resnet_blocks(depths, bottleneck):
        y, skip = x, x
        main = [conv for conv in convs if conv[0] != "downsample.0"]
        for name, _, _, kernel, stride in main:
            y = step(f"{block}.", name, _norm_of(name), y, stride, kernel // 2)
            if name != main[-1][0]:
                y = jax.nn.relu(y)
        if len(convs) > len(main):
            skip = step(f"{block}.", "downsample.0", "downsample.1", x, convs[-1][4], 0)
        x = jax.nn.relu(y + skip)
    return layers.linear(p, "fc", x.mean((1, 2)))


def running_statistics(p: Parameters) -> Parameters:
    """Means of zero and variances of one for every norm."""
    found = {}
    for name, array in p.items():
        if array.ndim == 1 and name.endswith(".weight"):
            found[name.replace(".weight", ".mean")] = jnp.zeros_like(array)
            found[name.replace(".weight", ".var")] = jnp.ones_like(array)
    return found


def mobile_steps() -> list[tuple[str, list[tuple[str, int, int, int, int, int]], bool]]:
    """Names of blocks; (place, in, out, kernel, stride, groups) of their convolutions; residual.

    A block's last convolution has no activation, but in the first and last block.
    """
    found = [("features.", [("0", 3, 32, 3, 2, 1)], False)]
    before, place = 32, 3
    for expansion, after, count, first in MOBILE_STAGES:
        for i in range(count):
            stride, inner = 1 if i else first, before * expansion
            convs = [] if expansion == 1 else [("0", before, inner, 1, 1, 1)]
            convs.append((str(3 * len(convs)), inner, inner, 3, stride, inner))
            convs.append((str(3 * len(convs)), inner, after, 1, 1, 1))
            found.append((f"features.{place}.conv.", convs, stride == 1 and before == after))
            before, place = after, place + 1
    found.append(("features.", [(str(place), before, 1280, 1, 1, 1)], False))
    return found


def mobile_shapes(classes: int = 1000) -> Shapes:
    """Of MobileNetV2."""
    shapes: Shapes = {}
    for prefix, convs, _ in mobile_steps():
        for place, inside, outside, kernel, _, groups in convs:
            shapes[f"{prefix}{place}.weight"] = (outside, inside // groups, kernel, kernel)
            shapes |= layers.norm_shapes(f"{prefix}{int(place) + 1}", outside)
    return shapes | layers.linear_shapes("classifier", 1280, classes)


def mobile(p: Parameters, x: Any) -> Any:
    """Logits in evaluation mode."""
    for prefix, convs, residual in mobile_steps():
        y = x
        for place, _, _, kernel, stride, groups in convs:
            y = layers.conv(p, f"{prefix}{place}", y, stride, kernel // 2, groups)
            y = layers.batch_norm(p, f"{prefix}{int(place) + 1}", y, None)
            if not prefix.endswith("conv.") or place != convs[-1][0]:
                y = jnp.clip(y, 0.0, 6.0)
        x = x + y if residual else y
    return layers.linear(p, "classifier", x.mean((1, 2)))


def lstm_shapes(size: int, count: int) -> Shapes:
    """Of an LSTM's layers."""
    shapes: Shapes = {}
    for i in range(count):
        for kind in ("ih", "hh"):
            shapes[f"rnn.weight_{kind}_l{i}"] = (4 * size, size)
            shapes[f"rnn.bias_{kind}_l{i}"] = (4 * size,)
    return shapes


def lstm(p: Parameters, x: Any, h: Any, c: Any, between: Any = lambda i, x: x) -> Any:
    """[time, batch, size] through all layers: output, hidden states, cell states.

    between: what is done to the input of layer i > 0.
    """
    hs, cs = [], []
    for i in range(h.shape[0]):
        x = between(i, x)
        bias = p[f"rnn.bias_ih_l{i}"] + p[f"rnn.bias_hh_l{i}"]
        inputs = x @ p[f"rnn.weight_ih_l{i}"].T + bias
        recurrent = p[f"rnn.weight_hh_l{i}"].T

        def cell(state: Any, row: Any, recurrent: Any = recurrent) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        (last_h, last_c), x = jax.lax.scan(cell, (h[i], c[i]), inputs)
        hs.append(last_h)
        cs.append(last_c)
    return x, jnp.stack(hs), jnp.stack(cs)


def gpt_shapes(size: int, count: int, vocabulary: int, length: int) -> Shapes:
    """Of the GPT."""
    shapes: Shapes = {"wte.weight": (vocabulary, size), "wpe.weight": (length, size)}
    for i in range(count):
        for name in ("ln1", "ln2"):
            shapes |= layers.norm_shapes(f"h.{i}.{name}", size)
        for name, inside, outside in (
            ("qkv", size, 3 * size), ("proj", size, size), ("up", size, 4 * size),
            ("down", 4 * size, size),
        ):  # fmt: skip
            shapes |= layers.linear_shapes(f"h.{i}.{name}", inside, outside)
    return shapes | layers.norm_shapes("ln", size) | {"head.weight": (vocabulary, size)}


def gpt(p: Parameters, words: Any, heads: int, count: int) -> Any:
    """Logits of every position's next token."""
    b, t = words.shape
    x = p["wte.weight"][words] + p["wpe.weight"][:t]
    for i in range(count):
        y = layers.linear(p, f"h.{i}.qkv", layers.layer_norm(p, f"h.{i}.ln1", x))
        q, k, v = (part.reshape(b, t, heads, -1) for part in jnp.split(y, 3, axis=-1))
        y = layers.attention(q, k, v, causal=True).reshape(b, t, -1)
        x = x + layers.linear(p, f"h.{i}.proj", y)
        y = layers.linear(p, f"h.{i}.up", layers.layer_norm(p, f"h.{i}.ln2", x))
        x = x + layers.linear(p, f"h.{i}.down", jax.nn.gelu(y, approximate=False))
    return layers.layer_norm(p, "ln", x) @ p["head.weight"].T


def encoder_shapes(size: int, inner: int, count: int) -> Shapes:
    """Of PyTorch's encoder."""
    shapes: Shapes = {}
    for i in range(count):
        at = f"layers.{i}"
        shapes[f"{at}.self_attn.in_proj_weight"] = (3 * size, size)
        shapes[f"{at}.self_attn.in_proj_bias"] = (3 * size,)
        shapes |= layers.linear_shapes(f"{at}.self_attn.out_proj", size, size)
        shapes |= layers.linear_shapes(f"{at}.linear1", size, inner)
        shapes |= layers.linear_shapes(f"{at}.linear2", inner, size)
        shapes |= layers.norm_shapes(f"{at}.norm1", size) | layers.norm_shapes(f"{at}.norm2", size)
    return shapes


def encoder(p: Parameters, x: Any, heads: int, count: int) -> Any:
    """Post-norm layers, ReLU, evaluation mode."""
    b, t, _ = x.shape
    for i in range(count):
        at = f"layers.{i}"
        y = x @ p[f"{at}.self_attn.in_proj_weight"].T + p[f"{at}.self_attn.in_proj_bias"]
        q, k, v = (part.reshape(b, t, heads, -1) for part in jnp.split(y, 3, axis=-1))
        y = layers.attention(q, k, v, causal=False).reshape(b, t, -1)
        x = layers.layer_norm(p, f"{at}.norm1", x + layers.linear(p, f"{at}.self_attn.out_proj", y))
        y = layers.linear(p, f"{at}.linear2", jax.nn.relu(layers.linear(p, f"{at}.linear1", x)))
        x = layers.layer_norm(p, f"{at}.norm2", x + y)
    return x
