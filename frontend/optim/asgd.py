"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


def _single(value: float) -> float:
    """Rounded to float32, in which PyTorch keeps the rates."""
    return float(np.float32(value))


class ASGD(FormulaOptimizer):
    """p = p * (1 - lambd * eta) - eta * g with g = grad + weight_decay * p; the state's "ax" is the
    average of p from step t0 on. After step t, eta = lr / (1 + lambd * lr * t) ** alpha.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Args:
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and whether a step averages is
            chosen in the graph.

    Raises:
        ValueError: a setting is out of range.
    """

    _counted = {"step": int, "eta": float, "mu": float}
    _lr_on_host = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("weight_decay value", weight_decay)
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {"eta": _single(float(group["lr"])), "mu": 1.0, "ax": in_memory(parameter)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        eta, mu, step = state["eta"], state["mu"], state["step"]
        lr, lambd = group["lr"], group["lambd"]
        state["eta"] = _single(lr / (1 + lambd * lr * step) ** group["alpha"])
        state["mu"] = _single(1 / max(1, step - group["t0"]))
        return {"eta": eta, "mu": mu, "shrink": 1 - lambd * eta, "decay": group["weight_decay"]}

    def _call(self, group: Group) -> Call:
        return call_of(op_named("asgd_step"))
