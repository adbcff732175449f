"""Adadelta."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class Adadelta(FormulaOptimizer):
    """p = p - lr * d with d = sqrt(u + eps) / sqrt(v + eps) * g, where v and u are moving averages
    (factor `rho`) of g ** 2 and, one step behind, of d ** 2; g = grad + weight_decay * p.

    Zeiler, "ADADELTA", arXiv 1212.5701.

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
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_not_negative("epsilon value", eps)
        check_not_negative("weight_decay value", weight_decay)
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {"square_avg": in_memory(parameter), "acc_delta": in_memory(parameter)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        rho = group["rho"]
        return {
            "lr": group["lr"],
            "rho": rho,
            "fresh": 1 - rho,
            "eps": group["eps"],
            "decay": group["weight_decay"],
        }

    def _call(self, group: Group) -> Call:
        return call_of(op_named("adadelta_step"))
