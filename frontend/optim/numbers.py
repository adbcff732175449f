"""What optimizers share: numbers that may change between steps as operands, states in memory, and
checks of settings.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze.functions.complex_numbers import view_as_real
from braze.functions.promotion import cast, scalar
from braze.handle import BUFFER
from braze.ir.dtypes import DType, f64
from braze.placing import array_beside
from braze.tensors import Tensor


class Numbers:
    """The numbers of one step as operands, each one input of the graph however many parameters
    share it.

    They are told apart by what they are, not by their values: two that happen to be equal in one
    step may differ in the next, which must not be another graph. By default they are f64, so that
    what the update derives from them, such as 1 - beta, is rounded once.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Tensor] = {}

    def __call__(self, role: Any, value: Any, dtype: DType = f64) -> Tensor:
        """The operand for a number (or 0-d tensor) in some role."""
        if isinstance(value, Tensor):
            return cast(value, dtype)
        key = (role, dtype)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = scalar(float(value), dtype)
        return made


def in_memory(like: Tensor, value: float | complex = 0.0) -> Tensor:
    """A state tensor filled with a number that is in memory at once, so that the first step's graph
    is the later ones' graph.
    """
    kind = like._handle.type
    return array_beside(like, np.full(kind.shape, value, kind.dtype.numpy), BUFFER)


def real(tensor: Tensor) -> Tensor:
    """The tensor; a complex one as pairs of real numbers, which optimizers treat as independent."""
    return view_as_real(tensor) if tensor._handle.type.dtype.is_complex else tensor


def as_setting(value: Any) -> Any:
    """A setting to compute with: a tensor as a 0-d f64 one, so that what is derived from it is
    rounded as if it came from a Python number.
    """
    if isinstance(value, Tensor):
        return cast(value.reshape(()) if value.ndim else value, f64)  # type: ignore[attr-defined]
    return value


# Checks of settings -------------------------------------------------------------------------------


def check_betas(betas: tuple[float, float]) -> None:
    """Raises: ValueError unless both are in [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_not_negative(what: str, value: Any) -> None:
    """Raises: ValueError for negative numbers and nan."""
    if not float(value) >= 0.0:
        raise ValueError(f"Invalid {what}: {value}")


def check_lr(lr: Any, text: str = "Invalid learning rate: ") -> None:
    """Raises: ValueError for a negative learning rate, nan, or a tensor of several elements."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not float(lr) >= 0.0:
        raise ValueError(f"{text}{lr}")


def check_kinds(
    differentiable: bool, fused: bool | None = None, foreach: bool | None = None
) -> None:
    """The choices among PyTorch's implementations, which all mean the same here.

    Raises:
        RuntimeError: fused together with another one. ValueError: `differentiable`.
    """
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if differentiable:
        raise ValueError("differentiable=True is not supported")


def corrections(betas: tuple[float, float], step: int) -> tuple[float, float]:
    """Adam's 1 - beta ** step for both betas, in double precision."""
    return 1 - math.pow(betas[0], step), 1 - math.pow(betas[1], step)
