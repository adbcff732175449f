"""NAdam."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_betas, check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class NAdam(FormulaOptimizer):
    """Adam with Nesterov momentum: with Adam's averages m and v,

    p = p - lr * ((1 - mu) * g / (1 - M) + mu' * m / (1 - M * mu')) / (sqrt(v / (1 - beta2 ** t)) +
    eps), where mu = beta1 * (1 - 0.96 ** (t * momentum_decay) / 2), mu' is that of the next step,
    and M the product of all mu so far.

    Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016. Weight decay as `Adam`.

    Args:
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and step counts are no part of the
            graph's structure.

    Raises:
        ValueError: a setting is out of range.
    """

    _counted = {"step": int, "mu_product": float}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("epsilon value", eps)
        check_betas(betas)
        check_not_negative("weight_decay value", weight_decay)
        check_not_negative("momentum_decay value", momentum_decay)
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {
            "mu_product": 1.0,
            "exp_avg": in_memory(parameter),
            "exp_avg_sq": in_memory(parameter),
        }

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        (beta1, beta2), step, lr = group["betas"], state["step"], group["lr"]
        now, later = (
            beta1 * (1.0 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1)
        )
        # PyTorch keeps the product in float32.
        product = float(np.float32(state["mu_product"]) * np.float32(now))
        state["mu_product"] = product
        decay = group["weight_decay"]
        return {
            "rate_g": lr * (1.0 - now) / (1.0 - product),
            "rate_m": lr * later / (1.0 - product * later),
            "fresh1": 1 - beta1,
            "beta2": beta2,
            "fresh2": 1 - beta2,
            "correction2": 1 - beta2**step,
            "eps": group["eps"],
            "decay": 1 - lr * decay if group["decoupled_weight_decay"] else decay,
        }

    def _call(self, group: Group) -> Call:
        return call_of(op_named("nadam_step"), decoupled=group["decoupled_weight_decay"])
