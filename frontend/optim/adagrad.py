"""Adagrad."""

from __future__ import annotations

from typing import Any

from braze.capture import Call, call_of
from braze.functions.pointwise import mul, neg, sqrt
from braze.functions.promotion import scalar
from braze.ir.op import op_named
from braze.optim.formula import FormulaOptimizer
from braze.optim.numbers import as_setting, check_kinds, check_lr, check_not_negative, in_memory
from braze.optim.optimizer import Group
from braze.sparse.merging import Merged
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor


class Adagrad(FormulaOptimizer):
    """p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps), where sum grows by g ** 2 and
    g = grad + weight_decay * p.

    Duchi, Hazan, Singer, "Adaptive Subgradient Methods", JMLR 12 (2011). Of a sparse gradient only
    the entries count.

    Args:
        initial_accumulator_value: where the sums start.
        maximize: climb instead.
        foreach, fused: accepted; all updates run together anyway.

    Raises:
        ValueError: a negative setting.
        RuntimeError: in `step`, weight decay with a sparse gradient.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_not_negative("lr_decay value", lr_decay)
        check_not_negative("weight_decay value", weight_decay)
        check_not_negative("initial_accumulator_value value", initial_accumulator_value)
        check_not_negative("epsilon value", eps)
        check_kinds(differentiable, fused, foreach)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                self._state_of(parameter, group)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        value = self.defaults["initial_accumulator_value"]
        is_complex = parameter._handle.type.dtype.is_complex
        return {"sum": in_memory(parameter, complex(value, value) if is_complex else value)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "rate": group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"]),
            "eps": group["eps"],
            "decay": group["weight_decay"],
        }

    def _call(self, group: Group) -> Call:
        return call_of(op_named("adagrad_step"))

    def _update_sparse(self, group: Group, parameter: Tensor, gradient: SparseTensor) -> None:
        """Only the entries move."""
        if group["weight_decay"] != 0:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        state = self._state_of(parameter, group)
        state["step"] += 1
        settings = {**group, "lr": as_setting(group["lr"])}
        rate = self._numbers(settings, state)["rate"]
        entries = Merged(neg(gradient) if group["maximize"] else gradient)  # type: ignore[arg-type]
        values = entries.values
        total = entries.of(state["sum"]) + mul(values, values)
        self._write(state["sum"], entries.put_in(state["sum"], total))
        eps = scalar(group["eps"], parameter.dtype)
        change = values / (sqrt(total) + eps) * (-rate)
        self._write(parameter, entries.put_in(parameter, entries.of(parameter) + change))

    def share_memory(self) -> None:
        """Move the sums to memory that other processes can share."""
        for state in self.state.values():
            state["sum"].share_memory_()
