"""Training steps: programs as PyTorch's examples have them, with the optimizer's step.

Each step returns its losses, which it does not read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.cartpole import CartPole
from benchmarks.programs import Array, Library, Loop, integers, normal
from benchmarks.suite import Workload

Make = Callable[[Library], Loop]


def _classifier(
    network: Callable[[Library], Any],
    inputs: Callable[[], list[Array]],
    loss: str,
    optimizer: Callable[[Any, Any], Any],
    autocast: str = "",
) -> Make:
    """The usual step: forward pass, loss of the targets, gradients, optimizer.

    Args:
        autocast: the dtype in which the model's products are computed, where that is another.
    """

    def make(library: Library) -> Loop:
        T = library.T
        model = library.model(network(library))
        update = optimizer(T, model.parameters())
        function = getattr(T.nn.functional, loss)
        x, y = (library.tensor(array) for array in inputs())

        def forward(x: Any, y: Any) -> Any:
            if not autocast:
                return function(model(x), y)
            with T.autocast(x.device.type, dtype=getattr(T, autocast)):
                return function(model(x), y)

        compiled = library.compile(forward)

        def step() -> Any:
            update.zero_grad()
            loss = compiled(x, y)
            loss.backward()
            update.step()
            return loss.detach()

        return Loop(step)

    return make


def mnist_inputs() -> list[Array]:
    """64 pictures and their digits."""
    return [normal(64, 1, 28, 28), integers(10, 64)]


def mlp_inputs(batch: int) -> list[Array]:
    """Pictures as rows, and their digits."""
    return [normal(batch, 784), integers(10, batch)]


def resnet_inputs() -> list[Array]:
    """16 pictures of 64 x 64 and their classes."""
    return [normal(16, 3, 64, 64), integers(1000, 16)]


def photos_inputs() -> list[Array]:
    """64 pictures of 224 x 224 and their classes."""
    return [normal(64, 3, 224, 224), integers(1000, 64)]


def upscaling_inputs() -> list[Array]:
    """4 pictures of 85 x 85 and the same three times as large."""
    return [normal(4, 1, 85, 85), normal(4, 1, 255, 255, seed=1)]


def _adam(T: Any, parameters: Any) -> Any:
    return T.optim.Adam(parameters, lr=1e-3)


def _momentum(T: Any, parameters: Any) -> Any:
    return T.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)


def _mnist(library: Library) -> Any:
    return models.mnist_network(library.T, library.dropout(0.25), library.dropout(0.5))


VOCABULARY, WORDS, STREAMS, UNITS = 33_278, 35, 20, 200


def words_inputs() -> list[Array]:
    """35 words of 20 streams, and the words that follow them."""
    return [integers(VOCABULARY, WORDS, STREAMS), integers(VOCABULARY, WORDS * STREAMS, seed=1)]


def _words(library: Library) -> Loop:
    T = library.T
    dropout = library.dropout(0.2)
    model = library.model(models.language_model(T, VOCABULARY, UNITS, 2, dropout))
    parameters = list(model.parameters())
    words, targets = (library.tensor(array) for array in words_inputs())
    compiled = library.compile(model)
    state = [tuple(T.zeros(2, STREAMS, UNITS) for _ in range(2))]

    def step() -> Any:
        model.zero_grad()
        hidden = tuple(h.detach() for h in state[0])
        output, state[0] = compiled(words, hidden)
        loss = T.nn.functional.nll_loss(output, targets)
        loss.backward()
        T.nn.utils.clip_grad_norm_(parameters, 0.25)
        with T.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=-2.0)
        return [loss.detach(), *(h.detach() for h in state[0])]

    return Loop(step)


def pictures_inputs() -> list[Array]:
    """16 pictures of 64 x 64, and noise for as many."""
    return [np.tanh(normal(16, 3, 64, 64)), normal(16, 100, 1, 1, seed=1)]


def _dcgan(library: Library) -> Loop:
    T = library.T
    makes, judges = (library.model(m(T)) for m in (models.generator, models.discriminator))
    pictures, noise = (library.tensor(array) for array in pictures_inputs())
    optimizers = [
        T.optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999)) for model in (judges, makes)
    ]
    real, fake = T.ones(16), T.zeros(16)
    judge, make = library.compile(judges), library.compile(makes)
    loss = T.nn.functional.binary_cross_entropy

    def step() -> Any:
        judges.zero_grad()
        on_real = loss(judge(pictures).view(-1), real)
        on_real.backward()
        made = make(noise)
        on_fake = loss(judge(made.detach()).view(-1), fake)
        on_fake.backward()
        optimizers[0].step()
        makes.zero_grad()
        fooled = loss(judge(made).view(-1), real)
        fooled.backward()
        optimizers[1].step()
        return [on_real.detach(), on_fake.detach(), fooled.detach()]

    return Loop(step)


def digits_inputs() -> list[Array]:
    """128 pictures with values from 0 to 1."""
    return [1 / (1 + np.exp(-normal(128, 1, 28, 28)))]


def _vae(library: Library) -> Loop:
    T = library.T
    model = library.model(models.autoencoder(T))
    optimizer = _adam(T, model.parameters())
    (pictures,) = (library.tensor(array) for array in digits_inputs())

    def forward(x: Any, noise: Any) -> Any:
        made, mean, variance = model(x, noise)
        likeness = T.nn.functional.binary_cross_entropy(made, x.view(-1, 784), reduction="sum")
        return likeness - 0.5 * T.sum(1 + variance - mean.pow(2) - variance.exp())

    compiled = library.compile(forward)

    def step() -> Any:
        optimizer.zero_grad()
        noise = T.randn(128, 20) if library.random else T.zeros(128, 20)
        loss = compiled(pictures, noise)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Loop(step)


EPISODE = 16


def _actor_critic(library: Library) -> Loop:
    """One episode of 16 states, one at a time, and the update after it."""
    T = library.T
    model = library.model(models.policy(T))
    optimizer = T.optim.Adam(model.parameters(), lr=3e-3)
    compiled = library.compile(model)
    functional, Categorical = T.nn.functional, T.distributions.Categorical

    def step() -> Any:
        game, rewards, saved = CartPole(), [], []
        for _ in range(EPISODE):
            probabilities, value = compiled(T.tensor(game.state))
            choice = Categorical(probabilities)
            action = choice.sample() if library.random else probabilities.argmax()
            saved.append((choice.log_prob(action), value))
            rewards.append(game.step(action.item()))
        returns: list[float] = []
        for reward in reversed(rewards):
            returns.insert(0, reward + 0.99 * (returns[0] if returns else 0.0))
        scaled = T.tensor(returns)
        scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-6)
        actor, critic = [], []
        for (log_probability, value), wanted in zip(saved, scaled, strict=True):
            actor.append(-log_probability * (wanted - value.detach()))
            critic.append(functional.smooth_l1_loss(value, wanted.reshape(1)))
        optimizer.zero_grad()
        loss = T.stack(actor).sum() + T.stack(critic).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Loop(step)


TOKENS, LENGTH, GPT_BATCH, GPT_SIZE, GPT_HEADS, GPT_LAYERS = 1024, 128, 8, 256, 8, 4


def gpt_inputs() -> list[Array]:
    """8 rows of 128 tokens, and the tokens that follow them."""
    return [integers(TOKENS, GPT_BATCH, LENGTH), integers(TOKENS, GPT_BATCH, LENGTH, seed=1)]


def _gpt(library: Library) -> Loop:
    T = library.T
    network = models.blocks(T, GPT_SIZE, GPT_HEADS, GPT_LAYERS, TOKENS, LENGTH)
    model = library.model(network)
    optimizer = T.optim.AdamW(model.parameters(), lr=3e-4)
    words, targets = (library.tensor(array) for array in gpt_inputs())

    def forward(words: Any, targets: Any) -> Any:
        return T.nn.functional.cross_entropy(model(words).view(-1, TOKENS), targets.view(-1))

    compiled = library.compile(forward)

    def step() -> Any:
        optimizer.zero_grad()
        loss = compiled(words, targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Loop(step)


_STEP = ("training", "memory_peak")
_SMALL = ("training_small", "memory_peak")


def _workload(
    name: str,
    about: str,
    make: Make,
    inputs: Callable[[], list[Array]] | None,
    bars: tuple[str, ...] = _STEP,
    images: bool = False,
    on_gpus: bool = False,
) -> Workload:
    return Workload(
        f"train.{name}", "training", about, make, inputs, bars=bars, images=images, on_gpus=on_gpus
    )


def _dense(library: Library) -> Any:
    return models.mlp(library.T, 784, 512, 512, 10)


WORKLOADS = [
    _workload(
        "mnist_cnn",
        "MNIST's two convolutions, batch 64, Adam",
        _classifier(_mnist, mnist_inputs, "nll_loss", _adam),
        mnist_inputs,
        images=True,
    ),
    _workload(
        "mlp",
        "784-512-512-10, batch 64, Adam",
        _classifier(_dense, functools.partial(mlp_inputs, 64), "cross_entropy", _adam),
        functools.partial(mlp_inputs, 64),
    ),
    _workload(
        "mlp_one",
        "784-512-512-10, batch 1, Adam",
        _classifier(_dense, functools.partial(mlp_inputs, 1), "cross_entropy", _adam),
        functools.partial(mlp_inputs, 1),
        _SMALL,
    ),
    _workload("lstm", "word-level LSTM 2 x 200, 35 words, batch 20, SGD", _words, words_inputs),
    _workload(
        "resnet18",
        "ResNet-18, 3 x 64 x 64, batch 16, SGD with momentum",
        _classifier(
            lambda library: models.resnet18(library.T), resnet_inputs, "cross_entropy", _momentum
        ),
        resnet_inputs,
        images=True,
    ),
    _workload("dcgan", "DCGAN, 3 x 64 x 64, batch 16", _dcgan, pictures_inputs, images=True),
    _workload("vae", "variational autoencoder, batch 128", _vae, digits_inputs),
    _workload(
        "super_resolution",
        "sub-pixel network, 3 x, 4 pictures of 85 x 85",
        _classifier(
            lambda library: models.super_resolution(library.T), upscaling_inputs, "mse_loss", _adam
        ),
        upscaling_inputs,
        images=True,
    ),
    _workload("actor_critic", "an episode of 16 states, batch 1", _actor_critic, None, _SMALL),
    _workload("gpt", "4 blocks of 256, 8 heads, 8 x 128 tokens, AdamW", _gpt, gpt_inputs),
    _workload(
        "resnet50",
        "ResNet-50, 3 x 224 x 224, batch 64, SGD with momentum; on GPUs",
        _classifier(
            lambda library: models.resnet50(library.T), photos_inputs, "cross_entropy", _momentum
        ),
        photos_inputs,
        ("training_gpu",),
        images=True,
        on_gpus=True,
    ),
    _workload(
        "resnet50_autocast",
        "the same within autocast(dtype=bfloat16); on GPUs",
        _classifier(
            lambda library: models.resnet50(library.T),
            photos_inputs,
            "cross_entropy",
            _momentum,
            "bfloat16",
        ),
        photos_inputs,
        ("training_gpu",),
        images=True,
        on_gpus=True,
    ),
]
