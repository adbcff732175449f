"""One step along the gradient, scaled in one way or another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import braze
from braze.tensors import Tensor

Function = Callable[[Tensor], tuple[Any, Tensor]]
Settings = dict[str, Any]


def state_of(name: str, config: Settings | None, state: Settings | None) -> tuple[Settings, ...]:
    """(config, state): the state is kept in `config` if there is none.

    Raises:
        ValueError: neither is given.
    """
    if config is None and state is None:
        raise ValueError(f"{name} requires a dictionary to retain state between iterations")
    kept = state if state is not None else config
    assert kept is not None
    return config or {}, kept


def _evaluate(opfunc: Function, x: Tensor, config: Settings) -> tuple[Any, Tensor]:
    """The loss, and its gradient with weight decay."""
    loss, gradient = opfunc(x)
    decay = config.get("weightDecay", 0)
    return loss, gradient + x * decay if decay else gradient


def _kept(state: Settings, name: str, like: Tensor) -> Tensor:
    """A vector of the state, zeros at first."""
    if name not in state:
        state[name] = braze.zeros_like(like)
    return state[name]  # type: ignore[no-any-return]


def _annealed(config: Settings, state: Settings) -> float:
    """The learning rate at this step, which it counts."""
    count = state.get("evalCounter", 0)
    state["evalCounter"] = count + 1
    rate = config.get("learningRate", 1e-3)
    return float(rate / (1 + count * config.get("learningRateDecay", 0)))


def sgd(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """x -= rate * gradient, with momentum.

    Settings: learningRate (1e-3), learningRateDecay (0), weightDecay (0), weightDecays (a vector),
    momentum (0), dampening (as momentum), nesterov (False), learningRates (a vector).

    Raises:
        ValueError: both decays are given; Nesterov's momentum with dampening or without momentum.
    """
    config, state = state_of("sgd", config, state)
    momentum: float = config.get("momentum", 0)
    dampening = config.get("dampening", momentum)
    nesterov, decays = config.get("nesterov", False), config.get("weightDecays")
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    if decays is not None and config.get("weightDecay", 0):
        raise ValueError("Only one of weightDecay and weightDecays can be given")
    loss, gradient = _evaluate(opfunc, x, config)
    if decays is not None:
        gradient = gradient + x * decays
    if momentum:
        if "dfdx" not in state:
            state["dfdx"] = gradient.clone()
        else:
            state["dfdx"].mul_(momentum).add_(gradient, alpha=1 - dampening)
        gradient = gradient + state["dfdx"] * momentum if nesterov else state["dfdx"]
    rates = config.get("learningRates")
    x.sub_(gradient if rates is None else gradient * rates, alpha=_annealed(config, state))
    return x, loss


def nag(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """Nesterov's accelerated gradient (Sutskever, Martens, Dahl, Hinton, ICML 2013).

    Settings: learningRate (1e-3), learningRateDecay (0), weightDecay (0), momentum (0.9),
    learningRates (a vector).

    Raises:
        ValueError: no momentum.
    """
    config, state = state_of("nag", config, state)
    momentum = config.get("momentum", 0.9)
    if momentum <= 0:
        raise ValueError("Momentum must be positive for Nesterov Accelerated Gradient")
    speed = _kept(state, "dfdx", x)
    speed.mul_(momentum)
    x.add_(speed)
    loss, gradient = _evaluate(opfunc, x, config)
    rates = config.get("learningRates")
    step = (gradient if rates is None else gradient * rates) * _annealed(config, state)
    x.sub_(step)
    speed.sub_(step)
    return x, loss


def adagrad(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """x -= rate * g / (sqrt(sum of g ** 2) + 1e-10) (Duchi, Hazan, Singer, JMLR 2011).

    Settings: learningRate (1e-3), learningRateDecay (0), weightDecay (0).
    """
    config, state = state_of("adagrad", config, state)
    loss, gradient = _evaluate(opfunc, x, config)
    total = _kept(state, "paramVariance", x)
    total.addcmul_(gradient, gradient)
    x.addcdiv_(gradient, total.sqrt() + 1e-10, value=-_annealed(config, state))
    return x, loss


def adadelta(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """Steps as large as the last ones, by root mean squares (Zeiler, arXiv 1212.5701).

    Settings: rho (0.9), eps (1e-6), weightDecay (0).
    """
    config, state = state_of("adadelta", config, state)
    rho, eps = config.get("rho", 0.9), config.get("eps", 1e-6)
    loss, gradient = _evaluate(opfunc, x, config)
    squares, steps = _kept(state, "paramVariance", x), _kept(state, "accDelta", x)
    squares.mul_(rho).addcmul_(gradient, gradient, value=1 - rho)
    step = ((steps + eps) / (squares + eps)).sqrt() * gradient
    x.sub_(step)
    steps.mul_(rho).addcmul_(step, step, value=1 - rho)
    state["evalCounter"] = state.get("evalCounter", 0) + 1
    return x, loss


def rmsprop(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """x -= rate * g / (root of the moving mean of g ** 2 + epsilon) (Hinton's lectures, 6e).

    Settings: learningRate (1e-2), alpha (0.99), epsilon (1e-8), weightDecay (0).
    """
    config, state = state_of("rmsprop", config, state)
    alpha = config.get("alpha", 0.99)
    loss, gradient = _evaluate(opfunc, x, config)
    mean = _kept(state, "m", x)
    mean.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
    root = mean.sqrt() + config.get("epsilon", 1e-8)
    x.addcdiv_(gradient, root, value=-config.get("learningRate", 1e-2))
    return x, loss


def adam(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """Adam (Kingma and Ba, arXiv 1412.6980); epsilon is added before the bias is corrected.

    Settings: learningRate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8), weightDecay (0).
    """
    config, state = state_of("adam", config, state)
    beta1, beta2 = config.get("beta1", 0.9), config.get("beta2", 0.999)
    loss, gradient = _evaluate(opfunc, x, config)
    m, v = _kept(state, "m", x), _kept(state, "v", x)
    state["t"] = step = state.get("t", 0) + 1
    m.mul_(beta1).add_(gradient, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    corrected = math.sqrt(1 - beta2**step) / (1 - beta1**step)
    root = v.sqrt() + config.get("epsilon", 1e-8)
    x.addcdiv_(m, root, value=-config.get("learningRate", 1e-3) * corrected)
    return x, loss


def adamax(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any]:
    """Adam by the largest gradient instead of the mean square (arXiv 1412.6980, 7.1).

    Settings: learningRate (2e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-38), weightDecay (0).
    """
    config, state = state_of("adamax", config, state)
    beta1, beta2 = config.get("beta1", 0.9), config.get("beta2", 0.999)
    loss, gradient = _evaluate(opfunc, x, config)
    m, u = _kept(state, "m", x), _kept(state, "u", x)
    state["t"] = step = state.get("t", 0) + 1
    m.mul_(beta1).add_(gradient, alpha=1 - beta1)
    u.copy_(braze.maximum(u * beta2, gradient.abs() + config.get("epsilon", 1e-38)))
    x.addcdiv_(m, u, value=-config.get("learningRate", 0.002) / (1 - beta1**step))
    return x, loss


def asgd(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, Any, Tensor]:
    """Averaged stochastic gradient descent (Bottou's sgd 2.0).

    Settings: eta0 (1e-4), lambda (1e-4), alpha (0.75), t0 (1e6, the step that averages from).

    Returns:
        x, the loss before the step, and the average of x.
    """
    config, state = state_of("asgd", config, state)
    eta0, decay = config.setdefault("eta0", 1e-4), config.setdefault("lambda", 1e-4)
    alpha, start = config.setdefault("alpha", 0.75), config.setdefault("t0", 1e6)
    rate, share = state.setdefault("eta_t", eta0), state.setdefault("mu_t", 1)
    loss, gradient = opfunc(x)
    x.mul_(1 - decay * rate).sub_(gradient, alpha=rate)
    average = _kept(state, "ax", x)
    average.add_(x - average, alpha=share)
    state["t"] = step = state.get("t", 0) + 1
    state["eta_t"] = eta0 / math.pow(1 + decay * eta0 * step, alpha)
    state["mu_t"] = 1 / max(1, step - start)
    return x, loss, average


def rprop(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, list[Any]]:
    """Steps by the gradient's sign alone, longer while it stays (Riedmiller and Braun, 1993).

    Settings: stepsize (0.1), etaplus (1.2), etaminus (0.5), stepsizemax (50), stepsizemin (1e-6),
    niter (1 step).

    Returns:
        x, and the list of losses before each step.
    """
    config, state = state_of("rprop", config, state)
    longest, shortest = config.get("stepsizemax", 50.0), config.get("stepsizemin", 1e-6)
    grow, shrink = config.get("etaplus", 1.2), config.get("etaminus", 0.5)
    losses = []
    for _ in range(config.get("niter", 1)):
        loss, gradient = opfunc(x)
        losses.append(loss)
        last = _kept(state, "delta", x)
        if "steps" not in state:
            state["steps"] = braze.full_like(x, config.get("stepsize", 0.1))
        turn = gradient * last
        factor = braze.where(turn > 0, grow, braze.where(turn < 0, shrink, 1.0))
        state["steps"] = (state["steps"] * factor).clamp(shortest, longest)
        gradient = braze.where(turn < 0, 0.0, gradient)
        x.sub_(gradient.sign() * state["steps"])
        last.copy_(gradient)
    return x, losses
