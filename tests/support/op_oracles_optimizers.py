"""Oracles of optimizer steps, and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_oracles import oracle

from braze.ir.op import all_ops

OPTIMIZER_STEPS = [op.name for op in all_ops() if op.operands[:2] == ("param", "grad")]


@oracle("sgd_step")
def _sgd(param: Any, grad: Any, lr: Any, weight_decay: Any) -> Any:
    return param - lr * (grad + weight_decay * param)


@oracle("sgd_momentum_step")
def _momentum(
    param: Any, grad: Any, buffer: Any, lr: Any, momentum: Any, dampening: Any, weight_decay: Any,
    *, nesterov: bool,
) -> Any:  # fmt: skip
    d = grad + weight_decay * param
    buffer = momentum * buffer + (1 - dampening) * d
    return param - lr * (d + momentum * buffer if nesterov else buffer), buffer


@oracle("adam_step")
def _adam(
    param: Any, grad: Any, m: Any, v: Any, lr: Any, beta1: Any, beta2: Any, eps: Any,
    weight_decay: Any, correction1: Any, correction2: Any, *, decoupled: bool, maximize: bool,
) -> Any:  # fmt: skip
    g = -grad if maximize else grad
    if decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * param
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return param - lr / correction1 * m / (np.sqrt(v / correction2) + eps), m, v


@oracle("adagrad_step")
def _adagrad(param: Any, grad: Any, total: Any, rate: Any, eps: Any, decay: Any) -> Any:
    g = grad + decay * param
    total = total + g * g
    return param - rate * g / (np.sqrt(total) + eps), total


@oracle("adadelta_step")
def _adadelta(
    param: Any, grad: Any, v: Any, u: Any, lr: Any, rho: Any, fresh: Any, eps: Any, decay: Any
) -> Any:
    g = grad + decay * param
    v = rho * v + fresh * g**2
    d = np.sqrt(u + eps) * g / np.sqrt(v + eps)
    return param - lr * d, v, rho * u + fresh * d**2


@oracle("adamax_step")
def _adamax(
    param: Any, grad: Any, m: Any, u: Any, rate: Any, fresh: Any, beta2: Any, eps: Any, decay: Any
) -> Any:
    g = grad + decay * param
    m = (1 - fresh) * m + fresh * g
    u = np.maximum(beta2 * u, np.abs(g) + eps)
    return param - rate * m / u, m, u


def _averages(
    param: Any, grad: Any, m: Any, v: Any, fresh: Any, beta2: Any, fresh2: Any, decay: Any,
    decoupled: bool,
) -> Any:  # fmt: skip
    if decoupled:
        param, g = param * decay, grad
    else:
        g = grad + decay * param
    return param, g, (1 - fresh) * m + fresh * g, beta2 * v + fresh2 * g**2


@oracle("nadam_step")
def _nadam(
    param: Any, grad: Any, m: Any, v: Any, rate_g: Any, rate_m: Any, fresh1: Any, beta2: Any,
    fresh2: Any, correction2: Any, eps: Any, decay: Any, *, decoupled: bool,
) -> Any:  # fmt: skip
    rest = (fresh1, beta2, fresh2, decay, decoupled)
    param, g, m, v = _averages(param, grad, m, v, *rest)
    size = np.sqrt(v / correction2) + eps
    return param - rate_g * g / size - rate_m * m / size, m, v


@oracle("radam_step")
def _radam(
    param: Any, grad: Any, m: Any, v: Any, rate: Any, rectified: Any, fresh1: Any, beta2: Any,
    fresh2: Any, eps: Any, decay: Any, *, decoupled: bool,
) -> Any:  # fmt: skip
    param, _, m, v = _averages(param, grad, m, v, fresh1, beta2, fresh2, decay, decoupled)
    factor = rectified / (np.sqrt(v) + eps) if rectified > 0 else 1.0
    return param - rate * m * factor, m, v


@oracle("asgd_step")
def _asgd(param: Any, grad: Any, ax: Any, eta: Any, mu: Any, shrink: Any, decay: Any) -> Any:
    moved = param * shrink - eta * (grad + decay * param)
    return moved, moved if mu == 1 else (1 - mu) * ax + mu * moved


@oracle("rprop_step")
def _rprop(
    param: Any, grad: Any, prev: Any, size: Any, down: Any, up: Any, least: Any, most: Any
) -> Any:
    turn = np.sign(grad) * np.sign(prev)
    size = size * np.where(turn < 0, down, np.where(turn > 0, up, 1.0))
    size = np.minimum(np.maximum(size, least), most)
    grad = np.where(turn < 0, 0.0, grad)
    return param - np.sign(grad) * size, grad, size


def _rmsprop(centered: bool, momentum: bool) -> Any:
    def step(param: Any, grad: Any, v: Any, *rest: Any) -> Any:
        *states, lr, alpha, fresh, eps = rest[: len(rest) - 1 - momentum]
        decay = rest[-1]
        g = grad + decay * param
        v = variance = alpha * v + fresh * g**2
        new = [v]
        if centered:
            new.append((1 - fresh) * states[0] + fresh * g)
            variance = v - new[-1] ** 2
        d = g / (np.sqrt(variance) + eps)
        if momentum:
            d = rest[-2] * states[-1] + d
            new.append(d)
        return param - lr * d, *new

    return step


for _centered in (False, True):
    for _with_momentum in (False, True):
        _name = f"rmsprop{'_centered' * _centered}{'_momentum' * _with_momentum}_step"
        oracle(_name)(_rmsprop(_centered, _with_momentum))
