"""Muon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from braze.functions.linalg import matmul
from braze.functions.movement import permute
from braze.functions.pointwise import maximum, sqrt
from braze.functions.promotion import cast
from braze.functions.reductions import sum
from braze.ir.dtypes import bf16, f32
from braze.optim.formula import Changes, FormulaOptimizer
from braze.optim.numbers import check_lr, in_memory
from braze.optim.optimizer import Group
from braze.tensors import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def _orthogonal(matrix: Tensor, coefficients: tuple[float, ...], steps: int, eps: float) -> Tensor:
    """About the nearest orthogonal matrix, in bfloat16: x becomes a x + (b z + c z ** 2) x with
    z = x x^T, `steps` times (Newton and Schulz), after x was divided by its norm.

    Raises:
        ValueError: 100 steps or more, or not three coefficients.
    """
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]

    def rounded(value: Tensor) -> Tensor:
        return cast(cast(value, bf16), f32)

    # Every product is of bfloat16 numbers, but summed and combined in float32.
    x = rounded(matrix)
    if tall:
        x = permute(x, (1, 0))
    x = rounded(x / maximum(rounded(sqrt(sum(x * x))), eps))
    for _ in range(steps):
        square = rounded(matmul(x, permute(x, (1, 0))))
        update = rounded(b * square + c * matmul(square, square))
        x = rounded(a * x + matmul(update, x))
    return permute(x, (1, 0)) if tall else x


class Muon(FormulaOptimizer):
    """For matrices: p = p * (1 - lr * weight_decay) - lr' * o, where o is about the orthogonal
    matrix nearest to the moving average of the gradients (with `nesterov`, to that average moved
    towards the gradient once more).

    Jordan et al., "Muon", https://kellerjordan.github.io/posts/muon, 2024.

    Args:
        ns_coefficients, eps, ns_steps: of the iteration that makes a matrix orthogonal.
        adjust_lr_fn: lr' is "original" (or None): lr * sqrt(max(1, rows / columns)), or
            "match_rms_adamw": 0.2 * lr * sqrt(max(rows, columns)) (arXiv 2502.16982).

    Raises:
        ValueError: a setting is out of range, or a parameter is no matrix.
    """

    _counted: Mapping[str, type] = {}
    _takes_complex = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = _COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: ")
        for word, value in (("momentum", momentum), ("weight decay", weight_decay)):
            if not value >= 0.0:
                raise ValueError(f"{word} should be >= 0 but is: {value}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(
                        "Muon only supports 2D parameters whereas we found a parameter with size: "
                        f"{parameter.size()}"
                    )

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        return {"momentum_buffer": in_memory(parameter)}

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        lr, momentum = group["lr"], group["momentum"]
        keep = 1 - lr * group["weight_decay"]
        return {"lr": lr, "momentum": momentum, "fresh": 1 - momentum, "keep": keep}

    def _rule(
        self, group: Group, n: dict[str, Tensor], p: Tensor, g: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, Changes]:
        average = state["momentum_buffer"]
        average = average + (g - average) * n["fresh"]
        wanted = g + (average - g) * n["momentum"] if group["nesterov"] else average
        settings = group["ns_coefficients"], group["ns_steps"], group["eps"]
        update = cast(_orthogonal(wanted, *settings), p.dtype)
        rows, columns = p.shape
        factor = math.sqrt(max(1, rows / columns))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            factor = 0.2 * math.sqrt(max(rows, columns))
        return p * n["keep"] - n["lr"] * factor * update, {"momentum_buffer": average}
