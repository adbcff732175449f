"""Training steps of small networks as graphs: forward pass, gradients and optimizer update.

What the front end captures from a training loop, made here with the builder alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gradients import backward

import braze.ir as ir
from braze.ir.graph import Graph, Value


@dataclass
class TrainingStep:
    """Collects parameters and generator draws while a forward pass is written down."""

    name: str
    parameters: list[Value] = field(default_factory=list)
    draws: int = 0

    def __post_init__(self) -> None:
        self.b = ir.Builder(self.name)
        self.seed = self.b.input(ir.tensor_type(ir.i64), role="scalar", name="seed")
        self.offset = self.b.input(ir.tensor_type(ir.i64), role="scalar", name="offset")

    def data(self, name: str, *shape: int, dtype: ir.DType = ir.f32) -> Value:
        return self.b.input(ir.tensor_type(dtype, shape), name=name)

    def parameter(self, name: str, *shape: int) -> Value:
        value = self.b.input(ir.tensor_type(ir.f32, shape), role="param", name=name)
        self.parameters.append(value)
        return value

    def conv(
        self, name: str, x: Value, out: int, kernel: int, stride: int = 1, pad: int = 0
    ) -> Any:
        weight = self.parameter(f"{name}.weight", out, x.shape[1], kernel, kernel)
        bias = self.parameter(f"{name}.bias", out)
        pair = {"stride": (stride,) * 2, "padding": (pad,) * 2, "dilation": (1, 1), "groups": 1}
        return self.b.conv(x, weight, bias, **pair)

    def linear(self, name: str, x: Value, out: int) -> Any:
        weight = self.parameter(f"{name}.weight", out, x.shape[1])
        return self.b.linear(x, weight, self.parameter(f"{name}.bias", out))

    def batch_norm(self, name: str, x: Value) -> Any:
        weight = self.parameter(f"{name}.weight", x.shape[1])
        bias = self.parameter(f"{name}.bias", x.shape[1])
        return self.b.batch_norm_train(x, weight, bias, epsilon=1e-5)[0]

    def pool(self, x: Value, kernel: int = 2, stride: int | None = None, pad: int = 0) -> Any:
        return self.b.max_pool(
            x,
            kernel=(kernel,) * 2,
            stride=(stride or kernel,) * 2,
            padding=(pad,) * 2,
            dilation=(1, 1),
            ceil_mode=False,
        )[0]

    def dropout(self, x: Value, p: float) -> Any:
        step = self.b.constant(value=float(self.draws), dtype=ir.i64)
        self.draws += 1 << 20
        return self.b.dropout(x, self.seed, self.b.add(self.offset, step), p=p)

    def finish(self, loss: Value, optimizer: str = "sgd") -> Graph:
        """Gradients of the loss for every parameter, one optimizer step, and the graph."""
        b = self.b
        gradients = backward(b, {loss: b.constant(value=1.0, dtype=ir.f32)}, self.parameters)
        lr = b.input(ir.tensor_type(ir.f32), role="scalar", name="lr")
        outputs, aliases = [loss], {}

        def overwrite(value: Value, source: Value) -> None:
            aliases[len(outputs)] = b.graph.inputs.index(source)
            outputs.append(value)

        scalars = [
            b.input(ir.tensor_type(ir.f32), role="scalar", name=name)
            for name in ("beta1", "beta2", "eps", "weight_decay", "correction1", "correction2")
        ]
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            assert gradient is not None
            if optimizer == "sgd":
                overwrite(b.sgd_step(parameter, gradient, lr, scalars[3]), parameter)
                continue
            m = b.input(parameter.type, role="buffer", name=f"{parameter.name}.m")
            v = b.input(parameter.type, role="buffer", name=f"{parameter.name}.v")
            made = b.adam_step(
                parameter, gradient, m, v, lr, *scalars, decoupled=True, maximize=False
            )
            for value, source in zip(made, (parameter, m, v), strict=True):
                overwrite(value, source)
        return b.finish(outputs, aliases)


def mnist_step(batch: int = 64, optimizer: str = "adam") -> Graph:
    """The usual MNIST network: two convolutions, a pool, two dropouts, two dense layers."""
    step = TrainingStep("mnist_step")
    b = step.b
    x = step.data("x", batch, 1, 28, 28)
    target = step.data("target", batch, dtype=ir.i64)
    y = b.relu(step.conv("conv1", x, 32, 3))
    y = b.relu(step.conv("conv2", y, 64, 3))
    y = step.dropout(step.pool(y), 0.25)
    y = b.reshape(y, shape=(batch, y.type.numel // batch))
    y = step.dropout(b.relu(step.linear("fc1", y, 128)), 0.5)
    logits = step.linear("fc2", y, 10)
    loss = b.cross_entropy(logits, target, reduction="mean", ignore_index=-100, label_smoothing=0.0)
    return step.finish(loss, optimizer)


def residual_step(batch: int = 2, channels: int = 8, size: int = 8, blocks: int = 2) -> Graph:
    """Padded convolutions, batch norms, skips, a strided convolution, an overlapping pool."""
    step = TrainingStep("residual_step")
    b = step.b
    y = step.data("x", batch, 3, 2 * size, 2 * size)
    target = step.data("target", batch, dtype=ir.i64)
    y = b.relu(step.batch_norm("norm", step.conv("stem", y, channels, 3, 2, 1)))
    y = step.pool(y, 3, 1, 1)
    for i in range(blocks):
        z = b.relu(step.batch_norm(f"bn{i}a", step.conv(f"conv{i}a", y, channels, 3, 1, 1)))
        z = step.batch_norm(f"bn{i}b", step.conv(f"conv{i}b", z, channels, 3, 1, 1))
        y = b.relu(b.add(y, z))
    y = b.mean(y, dims=(2, 3), keepdim=False)
    loss = b.cross_entropy(
        step.linear("head", y, 10),
        target,
        reduction="mean",
        ignore_index=-100,
        label_smoothing=0.1,
    )
    return step.finish(loss)


def dense_step(batch: int = 16, width: int = 32) -> Graph:
    """Dense layers with layer norm, GELU and dropout."""
    step = TrainingStep("dense_step")
    b = step.b
    y = step.data("x", batch, width)
    target = step.data("target", batch, dtype=ir.i64)
    for i in range(2):
        weight = step.parameter(f"norm{i}.weight", width)
        bias = step.parameter(f"norm{i}.bias", width)
        z = b.layer_norm(y, weight, bias, dims=1, epsilon=1e-5)
        z = b.gelu(step.linear(f"up{i}", z, 2 * width), approximate="none")
        y = b.add(y, step.dropout(step.linear(f"down{i}", z, width), 0.1))
    loss = b.cross_entropy(
        step.linear("head", y, 7),
        target,
        reduction="mean",
        ignore_index=-100,
        label_smoothing=0.0,
    )
    return step.finish(loss, "adam")


def network_inputs(graph: Graph, seed: int = 0) -> list[Any]:
    """Plausible inputs: small weights, valid targets, an optimizer's numbers."""
    rng = np.random.default_rng(seed)
    numbers = {
        "seed": 1234, "offset": 64, "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
        "weight_decay": 0.01, "correction1": 0.1, "correction2": 0.001,
    }  # fmt: skip
    inputs: list[Any] = []
    for value in graph.inputs:
        if value.name in numbers:
            inputs.append(np.asarray(numbers[value.name], dtype=value.dtype.numpy))
        elif value.dtype is ir.i64:
            inputs.append(rng.integers(0, 7, value.shape))
        else:
            scale = 1.0 if value.name == "x" else 0.1
            array = (rng.standard_normal(value.shape) * scale).astype(value.dtype.numpy)
            inputs.append(np.abs(array) if str(value.name).endswith(".v") else array)
    return inputs
