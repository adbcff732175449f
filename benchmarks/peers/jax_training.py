"""Training steps and forward passes in JAX.

TRAINING: name -> a function of "random?" that gives ``update(state, *inputs) -> (state, results)``
and the first state; results of None stand for the state's first part, the parameters.
INFERENCE: name -> a function that gives ``run(parameters, *inputs)`` and the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import training
from benchmarks.peers import jax_layers as layers
from benchmarks.peers import jax_models as models
from benchmarks.peers.jax_layers import Optimizer, Parameters

Made = tuple[Callable[..., Any], Any]
Loss = Callable[..., Any]


def _nhwc(x: Any) -> Any:
    return x.transpose(0, 2, 3, 1)


def _supervised(shapes: models.Shapes, loss: Loss, optimizer: Optimizer) -> Callable[[bool], Made]:
    """loss: of (parameters, key, inputs...); the key is None where nothing is random."""

    def make(random: bool) -> Made:
        p = layers.parameters(shapes)
        start, change = optimizer

        def update(state: Any, *inputs: Any) -> Any:
            p, rest, key = state
            key, own = (None, None) if key is None else jax.random.split(key)
            value, gradients = jax.value_and_grad(loss)(p, own, *inputs)
            p, rest = change(p, gradients, rest)
            return (p, rest, key), value

        return update, (p, start(p), jax.random.key(0) if random else None)

    return make


def _mnist(p: Parameters, key: Any, x: Any, y: Any) -> Any:
    return layers.cross_entropy(models.mnist(p, _nhwc(x), key), y)


def _mlp(p: Parameters, key: Any, x: Any, y: Any) -> Any:
    return layers.cross_entropy(models.mlp(p, x), y)


def _gpt(p: Parameters, key: Any, words: Any, targets: Any) -> Any:
    logits = models.gpt(p, words, training.GPT_HEADS, training.GPT_LAYERS)
    return layers.cross_entropy(logits.reshape(-1, training.TOKENS), targets.reshape(-1))


def _upscale(p: Parameters, key: Any, x: Any, y: Any) -> Any:
    x = _nhwc(x)
    for name, padding in (("conv1", 2), ("conv2", 1), ("conv3", 1)):
        x = jax.nn.relu(layers.conv(p, name, x, 1, padding))
    x = layers.conv(p, "conv4", x, 1, 1)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 3, 3).transpose(0, 1, 3, 2, 4).reshape(b, 1, 3 * h, 3 * w)
    return ((x - y) ** 2).mean()


def _vae(p: Parameters, key: Any, x: Any) -> Any:
    x = x.reshape(-1, 784)
    h = jax.nn.relu(layers.linear(p, "fc1", x))
    mean, variance = layers.linear(p, "fc21", h), layers.linear(p, "fc22", h)
    noise = jnp.zeros_like(mean) if key is None else jax.random.normal(key, mean.shape)
    z = mean + noise * jnp.exp(0.5 * variance)
    made = layers.linear(p, "fc4", jax.nn.relu(layers.linear(p, "fc3", z)))
    likeness = (jax.nn.softplus(made) - x * made).sum()
    return likeness - 0.5 * (1 + variance - mean**2 - jnp.exp(variance)).sum()


def _upscale_shapes() -> models.Shapes:
    shapes: models.Shapes = {}
    for name, outside, inside, size in (
        ("conv1", 64, 1, 5), ("conv2", 64, 64, 3), ("conv3", 32, 64, 3), ("conv4", 9, 32, 3)
    ):  # fmt: skip
        shapes[f"{name}.weight"] = (outside, inside, size, size)
        shapes[f"{name}.bias"] = (outside,)
    return shapes


def _vae_shapes() -> models.Shapes:
    shapes: models.Shapes = {}
    for name, inside, outside in (
        ("fc1", 784, 400), ("fc21", 400, 20), ("fc22", 400, 20), ("fc3", 20, 400),
        ("fc4", 400, 784),
    ):  # fmt: skip
        shapes |= layers.linear_shapes(name, inside, outside)
    return shapes


def _resnet18(random: bool) -> Made:
    depths = (2, 2, 2, 2)
    p = layers.parameters(models.resnet_shapes(depths, False))
    start, change = layers.sgd(0.01, 0.9, 1e-4)

    def loss(p: Parameters, running: Parameters, x: Any, y: Any) -> Any:
        running = dict(running)
        logits = models.resnet(p, _nhwc(x), depths, False, running)
        return layers.cross_entropy(logits, y), running

    def update(state: Any, x: Any, y: Any) -> Any:
        p, velocity, running = state
        (value, running), gradients = jax.value_and_grad(loss, has_aux=True)(p, running, x, y)
        p, velocity = change(p, gradients, velocity)
        return (p, velocity, running), value

    return update, (p, start(p), models.running_statistics(p))


def _words(random: bool) -> Made:
    size, vocabulary = training.UNITS, training.VOCABULARY
    shapes = {"encoder.weight": (vocabulary, size), **models.lstm_shapes(size, 2)}
    p = layers.parameters(shapes | layers.linear_shapes("decoder", size, vocabulary))

    def loss(p: Parameters, key: Any, h: Any, c: Any, words: Any, targets: Any) -> Any:
        keys = [None] * 3 if key is None else list(jax.random.split(key, 3))

        def drop(i: int, x: Any) -> Any:
            return layers.dropout(keys[i], x, 0.2)

        y, h, c = models.lstm(p, p["encoder.weight"][words], h, c, drop)
        logits = layers.linear(p, "decoder", drop(2, y).reshape(-1, size))
        return layers.cross_entropy(logits, targets), (h, c)

    def update(state: Any, words: Any, targets: Any) -> Any:
        p, h, c, key = state
        key, own = (None, None) if key is None else jax.random.split(key)
        found = jax.value_and_grad(loss, has_aux=True)(p, own, h, c, words, targets)
        (value, (h, c)), gradients = found
        norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(gradients)))
        scale = 2.0 * jnp.minimum(1.0, 0.25 / (norm + 1e-6))
        p = jax.tree.map(lambda p, g: p - scale * g, p, gradients)
        return (p, h, c, key), (value, h, c)

    zeros = jnp.zeros((2, training.STREAMS, size))
    return update, (p, zeros, jnp.copy(zeros), jax.random.key(0) if random else None)


def _generate(p: Parameters, x: Any) -> Any:
    for i in range(0, 13, 3):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        x = layers.conv_transposed(p, str(i), x, stride, padding)
        if i < 12:
            x = jax.nn.relu(layers.batch_norm(p, str(i + 1), x, _Batch()))
    return jnp.tanh(x)


def _judge(p: Parameters, x: Any) -> Any:
    """Logits: the program's sigmoid is part of its loss here."""
    x = jax.nn.leaky_relu(layers.conv(p, "0", x, 2, 1), 0.2)
    for i in (2, 5, 8):
        x = layers.batch_norm(p, str(i + 1), layers.conv(p, str(i), x, 2, 1), _Batch())
        x = jax.nn.leaky_relu(x, 0.2)
    return layers.conv(p, "11", x, 1, 0).reshape(-1)


class _Batch(dict):  # type: ignore[type-arg]
    """Running statistics that nobody reads: neither does the program."""

    def __missing__(self, name: str) -> float:
        return 0.0


def _dcgan(random: bool) -> Made:
    sizes = (100, 512, 256, 128, 64, 3)
    makes: models.Shapes = {}
    judges: models.Shapes = {}
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        makes[f"{3 * i}.weight"] = (before, after, 4, 4)
        makes |= layers.norm_shapes(str(3 * i + 1), after) if after != 3 else {}
    judged = (("0", 3, 64), ("2", 64, 128), ("5", 128, 256), ("8", 256, 512), ("11", 512, 1))
    for name, before, after in judged:
        judges[f"{name}.weight"] = (after, before, 4, 4)
        judges |= layers.norm_shapes(str(int(name) + 1), after) if 64 < after else {}
    g, d = layers.parameters(makes, transposed=True), layers.parameters(judges)
    start, change = layers.adam(2e-4, 0.5)

    def loss(d: Parameters, x: Any, sign: float) -> Any:
        return jax.nn.softplus(sign * _judge(d, x)).mean()

    def update(state: Any, pictures: Any, noise: Any) -> Any:
        g, g_state, d, d_state = state
        pictures, noise = _nhwc(pictures), _nhwc(noise)
        made, back = jax.vjp(lambda g: _generate(g, noise), g)
        real, of_real = jax.value_and_grad(loss)(d, pictures, -1.0)
        fake, of_fake = jax.value_and_grad(loss)(d, made, 1.0)
        d, d_state = change(d, jax.tree.map(jnp.add, of_real, of_fake), d_state)
        fooled, of_made = jax.value_and_grad(loss, argnums=1)(d, made, -1.0)
        g, g_state = change(g, back(of_made)[0], g_state)
        return (g, g_state, d, d_state), (real, fake, fooled)

    return update, (g, start(g), d, start(d))


def _adam_kernel(random: bool) -> Made:
    """The optimizer alone: the gradients are the second half of the workload's inputs."""
    from benchmarks.kernels import adam_inputs

    arrays = adam_inputs()
    p = [jnp.asarray(array) for array in arrays[: len(arrays) // 2]]
    start, change = layers.adam(1e-3)

    def update(state: Any, *inputs: Any) -> Any:
        p, rest = state
        p, rest = change(p, list(inputs[len(p) :]), rest)
        return (p, rest), None  # the new parameters, which the state holds

    return update, (p, start(p))


_ADAM = layers.adam(1e-3)
_MLP = models.mlp_shapes(784, 512, 512, 10)
TRAINING: dict[str, Callable[[bool], Made]] = {
    "train.mnist_cnn": _supervised(models.mnist_shapes(), _mnist, _ADAM),
    "train.mlp": _supervised(_MLP, _mlp, _ADAM),
    "train.mlp_one": _supervised(_MLP, _mlp, _ADAM),
    "train.lstm": _words,
    "train.resnet18": _resnet18,
    "train.dcgan": _dcgan,
    "train.vae": _supervised(_vae_shapes(), _vae, _ADAM),
    "train.super_resolution": _supervised(_upscale_shapes(), _upscale, _ADAM),
    "train.gpt": _supervised(
        models.gpt_shapes(training.GPT_SIZE, training.GPT_LAYERS, training.TOKENS, training.LENGTH),
        _gpt,
        layers.adam(3e-4, decay=0.01),
    ),
    "optimizer.adam": _adam_kernel,
}


def _forward(shapes: models.Shapes, run: Callable[..., Any]) -> Callable[[], Made]:
    return lambda: (run, layers.parameters(shapes))


def _resnet50(p: Parameters, x: Any) -> Any:
    return models.resnet(p, _nhwc(x), (3, 4, 6, 3), True, None)


INFERENCE: dict[str, Callable[[], Made]] = {
    "infer.resnet50": _forward(models.resnet_shapes((3, 4, 6, 3), True), _resnet50),
    "infer.resnet50_8": _forward(models.resnet_shapes((3, 4, 6, 3), True), _resnet50),
    "infer.mobile": _forward(models.mobile_shapes(), lambda p, x: models.mobile(p, _nhwc(x))),
    "infer.lstm_step": _forward(models.lstm_shapes(200, 2), models.lstm),
    "infer.encoder": _forward(
        models.encoder_shapes(256, 1024, 4), lambda p, x: models.encoder(p, x, 8, 4)
    ),
    "infer.mlp_one": _forward(_MLP, models.mlp),
}
