"""Adafactor."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from braze.functions.linalg import matmul
from braze.functions.pointwise import UNARY, div, maximum, minimum, sqrt
from braze.functions.reductions import mean
from braze.handle import BUFFER
from braze.optim.formula import Changes, FormulaOptimizer
from braze.optim.numbers import check_lr, in_memory
from braze.optim.optimizer import Group
from braze.placing import array_beside
from braze.tensors import Tensor

_rsqrt = UNARY["rsqrt"]


def _check(word: str, fits: bool, bound: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"{word} should be {bound} but is: {value}")


def _root_mean_square(x: Tensor) -> Tensor:
    return sqrt(mean(x * x))


class Adafactor(FormulaOptimizer):
    """p = p - a * u / max(1, rms(u) / d) with u = g / sqrt(v): v is a moving average of g ** 2, of
    matrices only as an outer product of a column and a row, and the rate a is relative to the
    parameter: max(eps[1], rms(p)) * min(lr, 1 / sqrt(t)).

    Shazeer and Stern, "Adafactor", arXiv 1804.04235.

    Args:
        beta2_decay: the moving average keeps 1 - t ** beta2_decay of itself.
        eps: bounds, from below, of v's root (None: the dtype's epsilon) and of rms(p).
        d: how large rms(u) may be.
        weight_decay: p loses lr * weight_decay * p first.
        maximize: climb instead.

    Raises:
        ValueError: a setting is out of range.
    """

    _takes_complex = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: ")
        _check("beta2_decay", beta2_decay <= 0.0, "<= 0", beta2_decay)
        _check("epsilon1", eps[0] is None or eps[0] >= 0.0, ">= 0", eps[0])
        _check("epsilon2", eps[1] >= 0.0, ">= 0", eps[1])
        _check("Clipping threshold d", d >= 1.0, ">= 1", d)
        _check("weight_decay", weight_decay >= 0.0, ">= 0", weight_decay)
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        shape = tuple(parameter.shape)
        if len(shape) < 2:
            return {"variance": in_memory(parameter)}
        dtype = parameter._handle.type.dtype.numpy
        rows, columns = (*shape[:-1], 1), (*shape[:-2], 1, shape[-1])
        return {
            "row_var": array_beside(parameter, np.zeros(rows, dtype), BUFFER),
            "col_var": array_beside(parameter, np.zeros(columns, dtype), BUFFER),
        }

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        lr, step = group["lr"], state["step"]
        most = 1 / step**0.5
        return {
            "rate": minimum(lr, most) if isinstance(lr, Tensor) else min(lr, most),
            "fresh": step ** group["beta2_decay"],
            "least": group["eps"][1],
            "d": group["d"],
            "keep": 1 - lr * group["weight_decay"],
        }

    def _rule(
        self, group: Group, n: dict[str, Tensor], p: Tensor, g: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, Changes]:
        eps = group["eps"][0]
        if eps is None:
            eps = float(ml_dtypes.finfo(p._handle.type.dtype.numpy).eps)
        rate = maximum(_root_mean_square(p), n["least"]) * n["rate"]
        squares = g * g
        changes = {
            name: kept + (wanted - kept) * n["fresh"]
            for name, kept, wanted in (
                (name, state[name], mean(squares, dims, True) if dims else squares)
                for name, dims in (("row_var", -1), ("col_var", -2), ("variance", None))
                if name in state
            )
        }
        if "variance" in changes:
            estimate = changes["variance"]
        else:
            rows = changes["row_var"]
            product = matmul(rows, changes["col_var"])
            estimate = div(product, maximum(mean(rows, -2, True), eps))
        update = _rsqrt(maximum(estimate, eps * eps)) * g
        size = maximum(_root_mean_square(update) / n["d"], 1.0)
        return p * n["keep"] - rate / size * update, changes
