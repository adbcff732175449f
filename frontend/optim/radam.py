"""RAdam."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_betas, check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class RAdam(FormulaOptimizer):
    """Adam whose adaptive rate is rectified while the variance of the second moment is large: with
    Adam's averages m and v, r = 2 / (1 - beta2) - 1 and s = r - 2 t beta2 ** t / (1 - beta2 ** t),

    p = p - lr * m / (1 - beta1 ** t) * rect * sqrt(1 - beta2 ** t) / (sqrt(v) + eps) where s > 5,
    rect = sqrt((s - 4) (s - 2) r / ((r - 4) (r - 2) s)), and without the last two factors before.

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", arXiv 1908.03265. Weight
    decay as `Adam`.

    Args:
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and which of the two forms a step
            takes is chosen in the graph.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
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
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {"exp_avg": in_memory(parameter), "exp_avg_sq": in_memory(parameter)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        (beta1, beta2), step, lr = group["betas"], state["step"], group["lr"]
        decay = group["weight_decay"]
        correction = 1 - beta2**step
        most = 2 / (1 - beta2) - 1
        length = most - 2 * step * beta2**step / correction
        rectified = 0.0  # none
        if length > 5.0:
            share = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
            rectified = (share * correction) ** 0.5
        return {
            "rate": lr / (1 - beta1**step),
            "rectified": rectified,
            "fresh1": 1 - beta1,
            "beta2": beta2,
            "fresh2": 1 - beta2,
            "eps": group["eps"],
            "decay": 1 - lr * decay if group["decoupled_weight_decay"] else decay,
        }

    def _call(self, group: Group) -> Call:
        return call_of(op_named("radam_step"), decoupled=group["decoupled_weight_decay"])
