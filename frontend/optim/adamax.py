"""Adamax."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_betas, check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class Adamax(FormulaOptimizer):
    """p = p - lr / (1 - beta1 ** t) * m / u with m = beta1 * m + (1 - beta1) * g,

    u = max(beta2 * u, |g| + eps), g = grad + weight_decay * p. Kingma and Ba, arXiv 1412.6980.

    Args:
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and step counts are no part of the
            graph's structure.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("epsilon value", eps)
        check_betas(betas)
        check_not_negative("weight_decay value", weight_decay)
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {"exp_avg": in_memory(parameter), "exp_inf": in_memory(parameter)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "rate": group["lr"] / (1 - beta1 ** state["step"]),
            "fresh": 1 - beta1,
            "beta2": beta2,
            "eps": group["eps"],
            "decay": group["weight_decay"],
        }

    def _call(self, group: Group) -> Call:
        return call_of(op_named("adamax_step"))
