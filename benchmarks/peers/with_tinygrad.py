"""tinygrad: kernels that are a line or two, and the training steps of small networks, in `TinyJit`.

Its compiler is clang; without one on the path, the package `ziglang` serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.kernels_convolution import CONVOLUTIONS, Convolution
from benchmarks.peers import Options, Unsupported, leaves, zig_clang
from benchmarks.programs import weight
from benchmarks.suite import Workload, workloads

Function = Callable[..., Any]
Shapes = dict[str, tuple[int, ...]]


def _chain(x: Any, y: Any) -> Any:
    z = (x * 0.5 + y).tanh()
    z = z * z + x
    z = (z * -0.25).exp() - y
    z = z.sigmoid() * x
    return (z + 0.125).relu() * 1.5


def _linear_gelu(x: Any, w: Any, b: Any) -> Any:
    x = x @ w.T + b
    return 0.5 * x * (1 + (x * math.sqrt(0.5)).erf())


def _layer_norm(x: Any, w: Any, b: Any) -> Any:
    return x.layernorm() * w + b


def _batch_norm(training: bool) -> Function:
    def run(x: Any, w: Any, b: Any, mean: Any, variance: Any) -> Any:
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        return x.batchnorm(w, b, mean, (variance + 1e-5).rsqrt())

    return run


def _convolution(c: Convolution) -> Function:
    def run(x: Any, w: Any) -> Any:
        options = {
            "groups": c.groups, "stride": c.stride, "dilation": c.dilation, "padding": c.padding,
        }  # fmt: skip
        return x.conv_transpose2d(w, **options) if c.transposed else x.conv2d(w, **options)

    return run


def _gradient(function: Function, places: tuple[int, ...], alone: bool = False) -> Function:
    """The result (unless the gradients are wanted alone) and gradients; the last input is the
    result's gradient."""

    def run(*inputs: Any) -> Any:
        *arguments, cotangent = inputs
        result = function(*arguments)
        wanted = [arguments[place] for place in places]
        gradients = result.gradient(*wanted, gradient=cotangent)
        return gradients if alone else (result, *gradients)

    return run


def _softmax(x: Any) -> Any:
    return x.softmax(-1)


def _max_pool(x: Any) -> Any:
    return x.max_pool2d((3, 3), 2, 1, 1)


def _sum(axis: int | None) -> Function:
    return lambda x: x.sum(axis)


def _attention(causal: bool) -> Function:
    return lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=causal)


KERNELS: dict[str, Function] = {
    **{n: (lambda a, b: a @ b) for n in workloads() if n.startswith(("gemm.", "gemv."))},
    "gemm.bias_gelu": _linear_gelu,
    "elementwise.chain": _chain,
    "softmax.forward": _softmax,
    "softmax.backward": _gradient(_softmax, (0,)),
    "layer_norm.forward": _layer_norm,
    "layer_norm.backward": _gradient(_layer_norm, (0, 1, 2)),
    "batch_norm.inference": _batch_norm(False),
    "batch_norm.training": _batch_norm(True),
    "batch_norm.backward": _gradient(_batch_norm(True), (0, 1, 2)),
    "sum.first": _sum(0),
    "sum.middle": _sum(1),
    "sum.last": _sum(2),
    "sum.all": _sum(None),
    "argmax.last": lambda x: x.argmax(-1),
    "max_pool.forward": _max_pool,
    "max_pool.backward": _gradient(_max_pool, (0,)),
    "avg_pool.forward": lambda x: x.avg_pool2d((2, 2)),
    # Not with its gradient: it compares every index with every row, which takes minutes.
    "embedding.forward": lambda table, indices: table[indices],
    "attention.forward": _attention(False),
    "attention.causal": _attention(True),
    "attention.backward": _gradient(_attention(False), (0, 1, 2)),
    "cumsum.long": lambda x: x.cumsum(0),
    "cumsum.rows": lambda x: x.cumsum(1),
    "cumsum.columns": lambda x: x.cumsum(0),
    **{f"{c.name}.forward": _convolution(c) for c in CONVOLUTIONS},
    **{f"{c.name}.data": _gradient(_convolution(c), (0,), True) for c in CONVOLUTIONS},
    **{f"{c.name}.weights": _gradient(_convolution(c), (1,), True) for c in CONVOLUTIONS},
}
DENSE: Shapes = {"0": (512, 784), "2": (512, 512), "4": (10, 512)}
MNIST: Shapes = {
    "conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "fc1": (128, 9216), "fc2": (10, 128),
}  # fmt: skip


def _dense(p: dict[str, Any], x: Any, random: bool) -> Any:
    for name in DENSE:
        x = x.linear(p[f"{name}.weight"].T, p[f"{name}.bias"])
        x = x if name == "4" else x.relu()
    return x


def _mnist(p: dict[str, Any], x: Any, random: bool) -> Any:
    x = x.conv2d(p["conv1.weight"], p["conv1.bias"]).relu()
    x = x.conv2d(p["conv2.weight"], p["conv2.bias"]).relu().max_pool2d((2, 2))
    x = (x.dropout(0.25) if random else x).flatten(1)
    x = x.linear(p["fc1.weight"].T, p["fc1.bias"]).relu()
    return (x.dropout(0.5) if random else x).linear(p["fc2.weight"].T, p["fc2.bias"])


NETWORKS: dict[str, tuple[Shapes, Function]] = {
    "train.mnist_cnn": (MNIST, _mnist),
    "train.mlp": (DENSE, _dense),
    "train.mlp_one": (DENSE, _dense),
}


class Tinygrad:
    """Lazy tensors and `TinyJit`, which replays a captured program."""

    def __init__(self, threads: int) -> None:
        zig_clang.provide()
        import tinygrad
        import tinygrad.helpers
        import tinygrad.nn.optim

        self.tinygrad = tinygrad
        self.device = tinygrad.Device[tinygrad.Device.DEFAULT]

    def prepare(self, workload: Workload, options: Options) -> Callable[[], Any]:
        """A jitted step that waits for the device."""
        if workload.inputs is None:
            raise Unsupported("no tinygrad version")
        arrays = [self.tinygrad.Tensor(array).realize() for array in workload.inputs()]
        if workload.name in KERNELS:
            kernel = KERNELS[workload.name]
            step = self.tinygrad.TinyJit(lambda: self._realised(kernel(*arrays)))
        elif workload.name in NETWORKS:
            step = self._training(workload.name, arrays, options.random)
        else:
            raise Unsupported("no tinygrad version")

        def wait() -> Any:
            result = step()
            self.device.synchronize()
            return result

        return wait

    def _realised(self, result: Any) -> Any:
        tensors = leaves(result)
        self.tinygrad.Tensor.realize(*tensors)
        return tensors

    def _training(self, name: str, arrays: list[Any], random: bool) -> Callable[[], Any]:
        Tensor, Context = self.tinygrad.Tensor, self.tinygrad.helpers.Context
        shapes, network = NETWORKS[name]
        p = {}
        for layer, shape in shapes.items():
            p[f"{layer}.weight"] = Tensor(weight(f"{layer}.weight", shape))
            p[f"{layer}.bias"] = Tensor(weight(f"{layer}.bias", shape[:1]))
        optimizer = self.tinygrad.nn.optim.Adam(list(p.values()), lr=1e-3)
        x, y = arrays

        def step() -> Any:
            with Context(TRAINING=1):
                optimizer.zero_grad()
                loss = network(p, x, random).sparse_categorical_crossentropy(y).backward()
                return loss.realize(*optimizer.schedule_step())

        return self.tinygrad.TinyJit(step)

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays."""
        return [tensor.numpy() for tensor in leaves(result)]
