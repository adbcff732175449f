"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from braze.capture import call_of
from braze.functions.pointwise import add, div, maximum, mul, neg, sqrt, sub
from braze.functions.promotion import cast
from braze.ir.op import op_named
from braze.optim.numbers import (
    Numbers,
    check_betas,
    check_kinds,
    check_lr,
    check_not_negative,
    corrections,
    in_memory,
    real,
)
from braze.optim.optimizer import Group, Optimizer
from braze.optim.updates import Row
from braze.tensors import Tensor


class Adam(Optimizer):
    """p = p - lr * mhat / (sqrt(vhat) + eps), with the bias-corrected moving averages

    m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g ** 2,  mhat = m / (1 - beta1
    ** t), vhat = v / (1 - beta2 ** t).

    Kingma and Ba, arXiv 1412.6980. Weight decay is added to the gradient, or, if
    `decoupled_weight_decay`, taken off the parameter (AdamW: Loshchilov and Hutter, arXiv
    1711.05101).

    Args:
        amsgrad: use the largest v so far (Reddi, Kale, Kumar, arXiv 1904.09237).
        maximize: climb instead.
        foreach, fused: accepted; all updates run together anyway.
        capturable: accepted; step counts never are part of the graph's structure.

    Raises:
        ValueError: a setting is out of range.
    """

    _counted = {"step": int}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError(
                "lr as a Tensor is not supported for capturable=False and foreach=True"
            )
        check_lr(lr)
        check_not_negative("epsilon value", eps)
        check_betas(betas)
        check_not_negative("weight_decay value", weight_decay)
        if isinstance(betas[0], Tensor) is not isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        betas = (float(betas[0]), float(betas[1]))
        check_kinds(differentiable, fused, foreach)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _state_of(self, parameter: Tensor, amsgrad: bool) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = in_memory(parameter)
            state["exp_avg_sq"] = in_memory(parameter)
        if amsgrad and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = in_memory(parameter)
        return state

    def _update(self, group: Group, parameters: list[Tensor], numbers: Numbers) -> None:
        betas = group["betas"]
        decay, maximize = group["weight_decay"], group["maximize"]
        # Without decay both kinds are the same, but for what reads the parameter: a gradient that
        # does not lets a kernel update the moments in place.
        none = not isinstance(decay, Tensor) and decay == 0
        decoupled = group["decoupled_weight_decay"] or none
        call = call_of(op_named("adam_step"), decoupled=decoupled, maximize=maximize)
        if not parameters:
            return
        place = id(group)
        fixed = [
            numbers((place, "lr"), group["lr"]),
            numbers((place, "beta1"), betas[0]),
            numbers((place, "beta2"), betas[1]),
            numbers((place, "eps"), group["eps"]),
            numbers((place, "weight_decay"), decay),
        ]
        # By their steps: parameters that joined later have counted fewer.
        alike: dict[int, tuple[list[Tensor], list[Row]]] = {}
        amsgrad = group["amsgrad"]
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            state = self._state_of(parameter, amsgrad)
            step = state["step"] = state["step"] + 1
            found = alike.get(step)
            if found is None:
                first, second = corrections(betas, step)
                operands = [
                    *fixed,
                    numbers((place, "correction1", step), first),
                    numbers((place, "correction2", step), second),
                ]
                found = alike[step] = operands, []
            p, m, v = parameter, state["exp_avg"], state["exp_avg_sq"]
            if parameter._handle.type.dtype.kind == "complex":
                p, gradient, m, v = map(real, (p, gradient, m, v))
            if amsgrad:
                gradient = neg(gradient) if maximize else gradient
                largest = real(state["max_exp_avg_sq"])
                new, *changes = _amsgrad_step(p, gradient, m, v, largest, found[0], decoupled)
                self._write(largest, changes.pop())
                self._write(p, new)
                self._write(m, changes[0])
                self._write(v, changes[1])
            else:
                found[1].append((p, gradient, m, v))
        for operands, rows in alike.values():
            self._run(call, rows, operands, (0, 2, 3))


def _amsgrad_step(
    parameter: Tensor,
    gradient: Tensor,
    m: Tensor,
    v: Tensor,
    largest: Tensor,
    operands: list[Tensor],
    decoupled: bool,
) -> tuple[Tensor, ...]:
    """The same step with the largest second moment so far, from elementwise operations."""
    lr, beta1, beta2, eps, decay, correction1, correction2 = operands
    value: Tensor = parameter

    def own(number: Tensor) -> Tensor:
        return cast(number, parameter.dtype)

    if decoupled:
        value = mul(value, own(sub(1.0, mul(lr, decay))))
    else:
        gradient = add(gradient, mul(own(decay), value))
    m_new = add(m, mul(own(sub(1.0, beta1)), sub(gradient, m)))
    v_new = add(mul(own(beta2), v), mul(own(sub(1.0, beta2)), mul(gradient, gradient)))
    most = maximum(largest, v_new)
    denominator = add(div(sqrt(most), own(sqrt(correction2))), own(eps))
    new = sub(value, mul(own(div(lr, correction1)), div(m_new, denominator)))
    return new, m_new, v_new, most


class AdamW(Adam):
    """`Adam` with decoupled weight decay, 0.01 by default: p loses lr * weight_decay * p.

    Loshchilov and Hutter, arXiv 1711.05101. Args and errors: as `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
