"""More optimizer steps: one operation updates one parameter and its state.

As in `braze.ir.ops.optimizers`, formulas are PyTorch's, and numbers are 0-d operands of the
parameter's dtype or f64. Those that change with the number of the step are computed on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from braze.ir.op import Op, declare
from braze.ir.ops.composite import as_dtype
from braze.ir.ops.optimizers import check_scalars, check_tensors
from braze.ir.types import TensorType

# rule(b, n, param, grad, *states, ...flags) -> new_param, *new_states; n holds the numbers.
Rule = Callable[..., tuple[Any, ...]]


def _declare_update(
    name: str,
    states: str,
    numbers: str,
    rule: Rule,
    doc: str,
    flags: str = "",
    domain: tuple[float, float] = (0.1, 0.9),
) -> Op:
    """A step from its rule, and the names of its states and numbers."""
    kept, scalars = states.split(), numbers.split()

    def infer(param: TensorType, grad: TensorType, *rest: TensorType, **_: Any) -> Any:
        given = dict(zip(kept, rest, strict=False))
        check_tensors(name, param, gradient=grad, **given)
        check_scalars(name, param, *rest[len(kept) :])
        return (param,) * (1 + len(kept))

    def decompose(b: Any, param: Any, grad: Any, *rest: Any, **chosen: bool) -> Any:
        dtype = param.type.dtype
        own = [as_dtype(b, number, dtype) for number in rest[len(kept) :]]
        n = SimpleNamespace(**dict(zip(scalars, own, strict=True)))
        return rule(b, n, param, grad, *rest[: len(kept)], **chosen)

    return declare(
        name,
        "composite",
        f"param grad {states} {numbers}",
        infer=infer,
        decompose=decompose,
        attributes=dict.fromkeys(flags.split(), bool),
        results=" ".join(["new_param", *(f"new_{state}" for state in kept)]),
        differentiable=False,
        domain=domain,
        doc=doc,
    )


def _towards(b: Any, average: Any, value: Any, share: Any) -> Any:
    return b.add(average, b.mul(b.sub(value, average), share))


def _squared(b: Any, average: Any, value: Any, keep: Any, share: Any) -> Any:
    return b.add(b.mul(average, keep), b.mul(b.mul(value, value), share))


def _decayed(b: Any, n: Any, param: Any, grad: Any) -> Any:
    return b.add(grad, b.mul(n.decay, param))


def _down(b: Any, param: Any, rate: Any, move: Any) -> Any:
    return b.sub(param, b.mul(rate, move))


def _adagrad(b: Any, n: Any, param: Any, grad: Any, total: Any) -> tuple[Any, ...]:
    grad = _decayed(b, n, param, grad)
    total = b.add(total, b.mul(grad, grad))
    return _down(b, param, n.rate, b.div(grad, b.add(b.sqrt(total), n.eps))), total


adagrad_step = _declare_update(
    "adagrad_step",
    "sum",
    "rate eps decay",
    _adagrad,
    """g = grad + decay * param; sum = sum + g ** 2; then param - rate * g / (sqrt(sum) + eps).
Duchi, Hazan, Singer, JMLR 12 (2011).""",
)


def _adadelta(b: Any, n: Any, param: Any, grad: Any, v: Any, u: Any) -> tuple[Any, ...]:
    grad = _decayed(b, n, param, grad)
    v = _squared(b, v, grad, n.rho, n.fresh)
    roots = b.div(b.sqrt(b.add(u, n.eps)), b.sqrt(b.add(v, n.eps)))
    delta = b.mul(roots, grad)
    return _down(b, param, n.lr, delta), v, _squared(b, u, delta, n.rho, n.fresh)


adadelta_step = _declare_update(
    "adadelta_step",
    "square_avg acc_delta",
    "lr rho fresh eps decay",
    _adadelta,
    """g = grad + decay * param; v = rho v + fresh g ** 2; d = sqrt(u + eps) / sqrt(v + eps) * g;
u = rho u + fresh d ** 2; then param - lr * d, with v and u the two states and fresh = 1 - rho.
Zeiler, arXiv 1212.5701.""",
)


def _adamax(b: Any, n: Any, param: Any, grad: Any, m: Any, u: Any) -> tuple[Any, ...]:
    grad = _decayed(b, n, param, grad)
    m = _towards(b, m, grad, n.fresh)
    u = b.maximum(b.mul(u, n.beta2), b.add(b.abs(grad), n.eps))
    return _down(b, param, n.rate, b.div(m, u)), m, u


adamax_step = _declare_update(
    "adamax_step",
    "exp_avg exp_inf",
    "rate fresh beta2 eps decay",
    _adamax,
    """g = grad + decay * param; m = m + fresh * (g - m); u = max(beta2 * u, |g| + eps); then
param - rate * m / u. Kingma and Ba, arXiv 1412.6980.""",
)


def _with_decay(b: Any, n: Any, param: Any, grad: Any, decoupled: bool) -> tuple[Any, Any]:
    if decoupled:
        return b.mul(param, n.decay), grad
    return param, _decayed(b, n, param, grad)


def _nadam(
    b: Any, n: Any, param: Any, grad: Any, m: Any, v: Any, *, decoupled: bool
) -> tuple[Any, ...]:
    param, grad = _with_decay(b, n, param, grad, decoupled)
    m = _towards(b, m, grad, n.fresh1)
    v = _squared(b, v, grad, n.beta2, n.fresh2)
    deviation = b.add(b.sqrt(b.div(v, n.correction2)), n.eps)
    move = b.add(b.mul(n.rate_g, grad), b.mul(n.rate_m, m))
    return b.sub(param, b.div(move, deviation)), m, v


nadam_step = _declare_update(
    "nadam_step",
    "exp_avg exp_avg_sq",
    "rate_g rate_m fresh1 beta2 fresh2 correction2 eps decay",
    _nadam,
    """With g = grad + decay * param (or, if `decoupled`, param = decay * param first), Adam's
averages m and v of it: param - (rate_g * g + rate_m * m) / (sqrt(v / correction2) + eps). Dozat,
ICLR workshop 2016.""",
    "decoupled",
)


def _radam(
    b: Any, n: Any, param: Any, grad: Any, m: Any, v: Any, *, decoupled: bool
) -> tuple[Any, ...]:
    param, grad = _with_decay(b, n, param, grad, decoupled)
    m = _towards(b, m, grad, n.fresh1)
    v = _squared(b, v, grad, n.beta2, n.fresh2)
    move = b.mul(n.rate, m)
    adapted = b.mul(move, b.div(n.rectified, b.add(b.sqrt(v), n.eps)))
    return b.sub(param, b.where(b.gt(n.rectified, 0.0), adapted, move)), m, v


radam_step = _declare_update(
    "radam_step",
    "exp_avg exp_avg_sq",
    "rate rectified fresh1 beta2 fresh2 eps decay",
    _radam,
    """With g, m and v as `nadam_step`: param - rate * m * rectified / (sqrt(v) + eps), or, where
`rectified` is 0, param - rate * m. Liu et al., arXiv 1908.03265.""",
    "decoupled",
)


def _asgd(b: Any, n: Any, param: Any, grad: Any, average: Any) -> tuple[Any, ...]:
    moved = _down(b, b.mul(param, n.shrink), n.eta, _decayed(b, n, param, grad))
    return moved, b.where(b.eq(n.mu, 1.0), moved, _towards(b, average, moved, n.mu))


asgd_step = _declare_update(
    "asgd_step",
    "ax",
    "eta mu shrink decay",
    _asgd,
    """param = shrink * param - eta * (grad + decay * param); ax = ax + mu * (param - ax). Polyak
and Juditsky, 1992.""",
)


def _rprop(b: Any, n: Any, param: Any, grad: Any, before: Any, size: Any) -> tuple[Any, ...]:
    turn = b.mul(grad, before)
    turned = b.lt(turn, 0.0)
    same = b.where(b.gt(turn, 0.0), b.mul(size, n.up), size)
    size = b.where(turned, b.mul(size, n.down), same)
    size = b.minimum(b.maximum(size, n.least), n.most)
    grad = b.where(turned, 0.0, grad)
    return b.sub(param, b.mul(b.sign(grad), size)), grad, size


rprop_step = _declare_update(
    "rprop_step",
    "prev step_size",
    "down up least most",
    _rprop,
    """The size of each element's step is multiplied by `up` where grad has the sign of prev, by
`down` where it has the other one (there grad becomes 0), and limited to [least, most]; then
param - sign(grad) * size, and prev = grad. Riedmiller and Braun, 1993.""",
    domain=(-0.9, 0.9),
)


def _rmsprop(centered: bool, momentum: bool) -> Rule:
    def rule(b: Any, n: Any, param: Any, grad: Any, v: Any, *rest: Any) -> tuple[Any, ...]:
        grad = _decayed(b, n, param, grad)
        v = variance = _squared(b, v, grad, n.alpha, n.fresh)
        states = [v]
        if centered:
            average = _towards(b, rest[0], grad, n.fresh)
            states.append(average)
            variance = b.sub(v, b.mul(average, average))
        move = b.div(grad, b.add(b.sqrt(variance), n.eps))
        if momentum:
            move = b.add(b.mul(rest[-1], n.momentum), move)
            states.append(move)
        return _down(b, param, n.lr, move), *states

    return rule


for _centered in (False, True):
    for _momentum in (False, True):
        _declare_update(
            f"rmsprop{'_centered' * _centered}{'_momentum' * _momentum}_step",
            f"square_avg {'grad_avg ' * _centered}{'momentum_buffer' * _momentum}",
            f"lr alpha fresh eps {'momentum ' * _momentum}decay",
            _rmsprop(_centered, _momentum),
            "g = grad + decay * param; v = alpha v + fresh g ** 2"
            + "; a = a + fresh * (g - a)" * _centered
            + f"; d = g / (sqrt(v{' - a ** 2' * _centered}) + eps)"
            + "; d = buffer = momentum * buffer + d" * _momentum
            + "; then param - lr * d. Tieleman and Hinton, 2012.",
        )
