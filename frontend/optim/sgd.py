"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from braze.capture import call_of
from braze.functions.pointwise import neg
from braze.ir.op import op_named
from braze.optim.numbers import (
    Numbers,
    check_kinds,
    check_lr,
    check_not_negative,
    in_memory,
    real,
)
from braze.optim.optimizer import Group, Optimizer
from braze.optim.updates import Row
from braze.tensors import Tensor


class SGD(Optimizer):
    """p = p - lr * d with d = grad + weight_decay * p; with momentum, d is replaced by the buffer

    buffer = momentum * buffer + (1 - dampening) * d   (d itself in the first step),

    or, if `nesterov`, by d + momentum * buffer. Sutskever et al., "On the importance of
    initialization and momentum in deep learning", ICML 2013, in PyTorch's form.

    Args:
        maximize: climb instead.
        foreach, fused: accepted; all updates run together anyway.

    Raises:
        ValueError: a negative setting, or Nesterov without momentum or with dampening.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_not_negative("momentum value", momentum)
        check_not_negative("weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_kinds(differentiable, fused, foreach)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _update(self, group: Group, parameters: list[Tensor], numbers: Numbers) -> None:
        if group["momentum"] == 0:
            call = call_of(op_named("sgd_step"))
        else:
            call = call_of(op_named("sgd_momentum_step"), nesterov=group["nesterov"])
        if not parameters:
            return
        place = id(group)
        lr = numbers((place, "lr"), group["lr"])
        decay = numbers((place, "weight_decay"), group["weight_decay"])
        momentum = group["momentum"]
        starting: list[Row] = []  # with momentum: those that have no buffer yet, and the others
        rows: list[Row] = []
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            p = parameter
            complex = parameter._handle.type.dtype.kind == "complex"
            if complex:
                p, gradient = real(parameter), real(gradient)
            if group["maximize"]:
                gradient = neg(gradient)
            if momentum == 0:
                rows.append((p, gradient))
                continue
            state = self.state[parameter]
            buffer: Tensor | None = state.get("momentum_buffer")
            members = rows
            if buffer is None:
                buffer = state["momentum_buffer"] = in_memory(parameter)
                members = starting
            members.append((p, gradient, real(buffer) if complex else buffer))
        if momentum == 0:
            self._run(call, rows, (lr, decay), (0,))
            return
        mass = numbers((place, "momentum"), momentum)
        # From zeros and without dampening, the first buffer is the gradient itself.
        for first, members in ((True, starting), (False, rows)):
            if members:
                damping = numbers(
                    (place, "dampening", first), 0.0 if first else group["dampening"]
                )
                self._run(call, members, (lr, mass, damping, decay), (0, 2))
