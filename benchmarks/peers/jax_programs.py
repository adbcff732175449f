"""JAX programs with Python between their compiled parts.

PROGRAMS: name -> a function of "random?" that gives the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cartpole import CartPole
from benchmarks.overheads import OPERATIONS
from benchmarks.peers import jax_layers as layers
from benchmarks.programs import normal
from benchmarks.training import EPISODE

Step = Callable[[], Any]


def _policy(p: layers.Parameters, x: Any) -> Any:
    x = jax.nn.relu(layers.linear(p, "affine1", x))
    probabilities = jax.nn.softmax(layers.linear(p, "action_head", x), -1)
    return probabilities, layers.linear(p, "value_head", x)


def _loss(p: layers.Parameters, states: Any, actions: Any, returns: Any) -> Any:
    """Of a whole episode at once: the policy is asked again for all of its states."""
    probabilities, values = _policy(p, states)
    values = values[:, 0]
    chosen = jnp.log(jnp.take_along_axis(probabilities, actions[:, None], 1)[:, 0])
    actor = -chosen * (returns - jax.lax.stop_gradient(values))
    gap = jnp.abs(values - returns)
    return (actor + jnp.where(gap < 1, 0.5 * gap * gap, gap - 0.5)).sum()


def _actor_critic(random: bool) -> Step:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, inside, outside in (
        ("affine1", 4, 128), ("action_head", 128, 2), ("value_head", 128, 1)
    ):  # fmt: skip
        shapes |= layers.linear_shapes(name, inside, outside)
    p = layers.parameters(shapes)
    start, change = layers.adam(3e-3)
    policy, draws = jax.jit(_policy), np.random.default_rng(0)

    def update(state: Any, *episode: Any) -> Any:
        p, rest = state
        value, gradients = jax.value_and_grad(_loss)(p, *episode)
        return change(p, gradients, rest), value

    compiled = jax.jit(update, donate_argnums=0)
    box = [(p, start(p))]

    def step() -> Any:
        game, states, actions, rewards = CartPole(), [], [], []
        for _ in range(EPISODE):
            states.append(np.array(game.state, np.float32))
            probabilities = np.asarray(policy(box[0][0], states[-1])[0])
            action = int(draws.random() > probabilities[0] if random else probabilities.argmax())
            actions.append(action)
            rewards.append(game.step(action))
        returns: list[float] = []
        for reward in reversed(rewards):
            returns.insert(0, reward + 0.99 * (returns[0] if returns else 0.0))
        scaled = np.array(returns, np.float32)
        scaled = (scaled - scaled.mean()) / (scaled.std(ddof=1) + 1e-6)
        box[0], loss = compiled(box[0], np.stack(states), np.array(actions, np.int32), scaled)
        jax.block_until_ready(box[0])
        return loss

    return step


def _operations(random: bool) -> Step:
    """Not jitted: JAX's own eager mode."""
    x, y = (jnp.asarray(normal(8, seed=i) * 0.1) for i in range(2))

    def step() -> Any:
        z = x
        for _ in range(OPERATIONS // 2):
            z = z * y
            z = z + y
        return jax.block_until_ready(z)

    return step


def _cached_call(random: bool) -> Step:
    scales = [jnp.asarray(normal(8, seed=i)) for i in range(100)]
    x = jnp.asarray(normal(8))

    @jax.jit
    def run(scales: Any, x: Any) -> Any:
        for scale in scales:
            x = x + scale
        return x

    return lambda: jax.block_until_ready(run(scales, x))


PROGRAMS: dict[str, Callable[[bool], Step]] = {
    "train.actor_critic": _actor_critic,
    "overhead.captured_op": _operations,
    "overhead.cached_call": _cached_call,
}
