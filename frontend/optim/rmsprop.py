"""RMSprop."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class RMSprop(FormulaOptimizer):
    """p = p - lr * d with d = g / (sqrt(v) + eps), where v is a moving average (factor `alpha`) of
    g ** 2 and g = grad + weight_decay * p; with momentum, of d the sum d + momentum * buffer.

    Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012.

    Args:
        centered: v less the square of the moving average of g, an estimate of the variance (Graves,
            arXiv 1308.0850).
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and step counts are no part of the
            graph's structure.

    Raises:
        ValueError: a negative setting.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("epsilon value", eps)
        check_not_negative("momentum value", momentum)
        check_not_negative("weight_decay value", weight_decay)
        check_not_negative("alpha value", alpha)
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        state = {"square_avg": in_memory(parameter)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = in_memory(parameter)
        if group["centered"]:
            state["grad_avg"] = in_memory(parameter)
        return state

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        alpha = group["alpha"]
        return {
            "lr": group["lr"],
            "alpha": alpha,
            "fresh": 1 - alpha,
            "eps": group["eps"],
            "momentum": group["momentum"],
            "decay": group["weight_decay"],
        }

    def _call(self, group: Group) -> Call:
        kind = "_centered" * group["centered"] + "_momentum" * (group["momentum"] > 0)
        return call_of(op_named(f"rmsprop{kind}_step"))
