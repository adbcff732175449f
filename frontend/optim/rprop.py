"""Rprop."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import check_kinds, check_lr, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor


class Rprop(FormulaOptimizer):
    """p = p - sign(g) * size, where each element's size is multiplied by etas[1] where the gradient
    kept its sign since the last step; where it changed, by etas[0], and the element stays.

    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993.

    Args:
        lr: the first size.
        step_sizes: bounds of the sizes.
        maximize: climb instead.
        foreach, capturable: accepted; all updates run together, and every choice is made in the
            graph.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        check_kinds(differentiable)
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        lr = float(group["lr"])
        size = complex(lr, lr) if parameter._handle.type.dtype.is_complex else lr
        return {"prev": in_memory(parameter), "step_size": in_memory(parameter, size)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        (down, up), (least, most) = group["etas"], group["step_sizes"]
        return {"down": down, "up": up, "least": least, "most": most}

    def _call(self, group: Group) -> Call:
        return call_of(op_named("rprop_step"))
