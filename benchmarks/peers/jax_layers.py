"""Layers and optimizers of the JAX programs, over dictionaries of parameters with PyTorch's names.

Pictures have their channels last and kernels are [height, width, in, out]: what XLA wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.programs import weight

Parameters = dict[str, Any]


def parameters(shapes: dict[str, tuple[int, ...]], transposed: bool = False) -> Parameters:
    """The weights that PyTorch's programs start from, for PyTorch's shapes.

    transposed: kernels are [in, out, height, width], of transposed convolutions.
    """
    found = {}
    for name, shape in shapes.items():
        array = weight(name, shape)
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if transposed else (2, 3, 1, 0))
        found[name] = jnp.asarray(array)
    return found


def linear_shapes(name: str, inside: int, outside: int) -> dict[str, tuple[int, ...]]:
    """Of a dense layer."""
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    """Of a norm's scale and shift."""
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def linear(p: Parameters, name: str, x: Any) -> Any:
    """A dense layer."""
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def conv(
    p: Parameters, name: str, x: Any, stride: int = 1, padding: int = 0, groups: int = 1
) -> Any:
    """A convolution, with its bias if there is one."""
    y = lax.conv_general_dilated(
        x, p[f"{name}.weight"], (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def conv_transposed(p: Parameters, name: str, x: Any, stride: int, padding: int) -> Any:
    """A transposed convolution; its kernel lies as [height, width, in, out]."""
    w = p[f"{name}.weight"]
    reach = w.shape[0] - 1 - padding
    return lax.conv_general_dilated(
        x, jnp.flip(w, (0, 1)), (1, 1), [(reach, reach)] * 2, lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def batch_norm(p: Parameters, name: str, x: Any, running: Parameters | None) -> Any:
    """With the batch's statistics, which move those in `running`; or, without, with fixed ones of
    zero and one."""
    if running is None:
        scale = p[f"{name}.weight"] * (1.0 + 1e-5) ** -0.5
        return x * scale + p[f"{name}.bias"]
    mean = x.mean((0, 1, 2))
    variance = (x * x).mean((0, 1, 2)) - mean * mean
    count = x.size // x.shape[-1]
    for key, new in (("mean", mean), ("var", variance * (count / (count - 1)))):
        running[f"{name}.{key}"] = 0.9 * running[f"{name}.{key}"] + 0.1 * new
    scale = p[f"{name}.weight"] * lax.rsqrt(variance + 1e-5)
    return x * scale + (p[f"{name}.bias"] - mean * scale)


def layer_norm(p: Parameters, name: str, x: Any) -> Any:
    """Over the last dimension."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def max_pool(x: Any, size: int, stride: int, padding: int = 0) -> Any:
    """Channels last."""
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, pads)


def dropout(key: Any, x: Any, probability: float) -> Any:
    """Zeros with this probability, the rest scaled up; nothing without a key."""
    if key is None or not probability:
        return x
    kept = jax.random.bernoulli(key, 1 - probability, x.shape)
    return jnp.where(kept, x / (1 - probability), 0.0)


def nll(log_probabilities: Any, targets: Any) -> Any:
    """The mean of the targets' negative log probabilities."""
    return -jnp.take_along_axis(log_probabilities, targets[:, None], 1).mean()


def cross_entropy(logits: Any, targets: Any) -> Any:
    """PyTorch's, with the mean."""
    return nll(jax.nn.log_softmax(logits), targets)


def attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    """[batch, positions, heads, size]."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal)


Optimizer = tuple[Callable[[Any], Any], Callable[[Any, Any, Any], tuple[Any, Any]]]


def adam(lr: float, beta1: float = 0.9, beta2: float = 0.999, decay: float = 0.0) -> Optimizer:
    """Adam (AdamW with `decay`): the state from parameters, and (parameters, state) from a step."""

    def start(p: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, p)
        return zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(())

    def update(p: Any, g: Any, state: Any) -> tuple[Any, Any]:
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)
        a, b = lr / (1 - beta1**t), 1 / jnp.sqrt(1 - beta2**t)
        p = jax.tree.map(
            lambda p, m, v: p * (1 - lr * decay) - a * m / (jnp.sqrt(v) * b + 1e-8), p, m, v
        )
        return p, (m, v, t)

    return start, update


def sgd(lr: float, momentum: float = 0.0, decay: float = 0.0) -> Optimizer:
    """Gradient descent with momentum and weight decay."""

    def start(p: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, p)

    def update(p: Any, g: Any, velocity: Any) -> tuple[Any, Any]:
        velocity = jax.tree.map(lambda v, g, p: momentum * v + g + decay * p, velocity, g, p)
        return jax.tree.map(lambda p, v: p - lr * v, p, velocity), velocity

    return start, update
