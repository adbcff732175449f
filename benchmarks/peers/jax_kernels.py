"""The kernels in `jax.numpy` and `lax`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.kernels_convolution import CONVOLUTIONS, Convolution
from benchmarks.suite import workloads

Function = Callable[..., Any]


def gradient(function: Function, places: tuple[int, ...]) -> Function:
    """The function's result and its gradients for some arguments; the last input is the result's
    gradient."""

    def run(*inputs: Any) -> Any:
        *arguments, cotangent = inputs

        def partial(*wanted: Any) -> Any:
            full = list(arguments)
            for place, value in zip(places, wanted, strict=True):
                full[place] = value
            return function(*full)

        result, back = jax.vjp(partial, *(arguments[place] for place in places))
        return result, *back(cotangent)

    return run


def linear_gelu(x: Any, w: Any, b: Any) -> Any:
    return jax.nn.gelu(x @ w.T + b, approximate=False)


def chain(x: Any, y: Any) -> Any:
    z = jnp.tanh(x * 0.5 + y)
    z = z * z + x
    z = jnp.exp(z * -0.25) - y
    z = jax.nn.sigmoid(z) * x
    return jax.nn.relu(z + 0.125) * 1.5


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * w + b


def batch_norm(training: bool) -> Function:
    def run(x: Any, w: Any, b: Any, mean: Any, variance: Any) -> Any:
        if training:
            mean = x.mean((0, 2, 3))
            variance = (x * x).mean((0, 2, 3)) - mean * mean
        scale = w * lax.rsqrt(variance + 1e-5)
        return x * scale[:, None, None] + (b - mean * scale)[:, None, None]

    return run


def max_pool(x: Any) -> Any:
    padding = ((0, 0), (0, 0), (1, 1), (1, 1))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), padding)


def avg_pool(x: Any) -> Any:
    window = (1, 1, 2, 2)
    return lax.reduce_window(x, 0.0, lax.add, window, window, "VALID") * 0.25


def attention(causal: bool) -> Function:
    def run(q: Any, k: Any, v: Any) -> Any:
        # JAX has the heads behind the positions.
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal).transpose(0, 2, 1, 3)

    return run


def sort(x: Any) -> Any:
    places = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    return lax.sort((x, places), dimension=-1, num_keys=1)


def layout(name: str) -> tuple[Iterator[tuple[int, ...]], tuple[int, ...]]:
    """How PyTorch's arrays are transposed into this peer's, and its result back; () if not at all.

    Convolutions have channels last and kernels [height, width, in, out], which XLA wants.
    """
    family, _, direction = name.rpartition(".")
    for c in CONVOLUTIONS:
        if c.name == family:
            kernel = (2, 3, 0, 1) if c.transposed else (2, 3, 1, 0)
            back = (2, 3, 0, 1) if c.transposed else (3, 2, 0, 1)
            images = (0, 2, 3, 1)
            return iter([images, kernel, images]), back if direction == "weights" else (0, 3, 1, 2)
    return itertools.repeat(()), ()


def convolution(c: Convolution) -> Function:
    """Forward pass, in the layouts of `layout`."""
    dimensions = ("NHWC", "HWIO", "NHWC")

    def run(x: Any, w: Any) -> Any:
        if c.transposed:
            # A convolution of the spread-out data with the flipped kernel.
            reach = c.dilation * (w.shape[0] - 1) - c.padding
            return lax.conv_general_dilated(
                x, jnp.flip(w, (0, 1)), (1, 1), [(reach, reach)] * 2, lhs_dilation=(c.stride,) * 2,
                rhs_dilation=(c.dilation,) * 2, dimension_numbers=dimensions,
            )  # fmt: skip
        return lax.conv_general_dilated(
            x, w, (c.stride,) * 2, [(c.padding,) * 2] * 2, rhs_dilation=(c.dilation,) * 2,
            feature_group_count=c.groups, dimension_numbers=dimensions,
        )  # fmt: skip

    return run


def convolution_gradient(c: Convolution, place: int) -> Function:
    """A gradient alone; what nobody uses of the forward pass, XLA removes."""

    def run(x: Any, w: Any, g: Any) -> Any:
        operands = [x, w]

        def partial(wanted: Any) -> Any:
            operands[place] = wanted
            return convolution(c)(*operands)

        return jax.vjp(partial, operands[place])[1](g)[0]

    return run


def _sum(axis: int | None) -> Function:
    return lambda x: x.sum(axis)


KERNELS: dict[str, Function] = {
    **{name: jnp.matmul for name in workloads() if name.startswith(("gemm.", "gemv."))},
    "gemm.bias_gelu": linear_gelu,
    "elementwise.chain": chain,
    "softmax.forward": lambda x: jax.nn.softmax(x, -1),
    "softmax.backward": gradient(lambda x: jax.nn.softmax(x, -1), (0,)),
    "layer_norm.forward": layer_norm,
    "layer_norm.backward": gradient(layer_norm, (0, 1, 2)),
    "batch_norm.inference": batch_norm(False),
    "batch_norm.training": batch_norm(True),
    "batch_norm.backward": gradient(batch_norm(True), (0, 1, 2)),
    "sum.first": _sum(0),
    "sum.middle": _sum(1),
    "sum.last": _sum(2),
    "sum.all": _sum(None),
    "argmax.last": lambda x: x.argmax(-1),
    "max_pool.forward": max_pool,
    "max_pool.backward": gradient(max_pool, (0,)),
    "avg_pool.forward": avg_pool,
    "embedding.forward": lambda table, indices: table[indices],
    "embedding.backward": gradient(lambda table, indices: table[indices], (0,)),
    "attention.forward": attention(False),
    "attention.causal": attention(True),
    "attention.backward": gradient(attention(False), (0, 1, 2)),
    "sort.long": sort,
    "sort.rows": sort,
    "cumsum.long": jnp.cumsum,
    "cumsum.rows": lambda x: jnp.cumsum(x, 1),
    "cumsum.columns": lambda x: jnp.cumsum(x, 0),
    **{f"{c.name}.forward": convolution(c) for c in CONVOLUTIONS},
    **{f"{c.name}.data": convolution_gradient(c, 0) for c in CONVOLUTIONS},
    **{f"{c.name}.weights": convolution_gradient(c, 1) for c in CONVOLUTIONS},
}
