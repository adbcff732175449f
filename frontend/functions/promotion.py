"""Type promotion between tensors and Python numbers, by PyTorch's rules.

Operands fall into three classes: tensors with dimensions, 0-d tensors, Python numbers. A lower
class changes the result's dtype only if its category (bool < integer < float) is higher; within a
class dtypes promote by table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.capture import call_of
from braze.handle import number
from braze.ir.dtypes import DType, bool_, f32, i64, promote
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.tensors import Tensor, apply, wrap

Number = float | int | bool

_CAST = op_named("cast")
_CATEGORY = {"bool": 0, "uint": 1, "int": 1, "float": 2}


class _Default:
    """The dtype of floating-point results that no tensor decides."""

    dtype: DType = f32


def get_default_dtype() -> DType:
    """The dtype of new floating-point tensors."""
    return _Default.dtype


def set_default_dtype(dtype: DType) -> None:
    """Set the dtype of new floating-point tensors.

    Raises:
        TypeError: it is not a floating-point dtype.
    """
    if not isinstance(dtype, DType) or not dtype.is_floating_point:
        raise TypeError(
            f"only floating-point types are supported as the default type, not {dtype!r}"
        )
    _Default.dtype = dtype


def number_dtype(value: Number) -> DType:
    """The dtype that a Python number has on its own.

    Raises:
        TypeError: it is no number.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return i64
    if not isinstance(value, (float, np.floating)):
        raise TypeError(f"expected a tensor or a number, given {type(value).__name__}")
    return _Default.dtype


def _higher(current: DType | None, candidate: DType) -> DType:
    if current is None or _CATEGORY[candidate.kind] > _CATEGORY[current.kind]:
        return candidate
    return current


def result_type(*operands: Tensor | Number) -> DType:
    """The dtype of an operation on these operands.

    Example:
        >>> import braze
        >>> braze.result_type(braze.ones(2, dtype=braze.int32), 1.5)
        braze.float32
    """
    classes: list[DType | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, Tensor):
            level, dtype = (0 if operand._handle.type.shape else 1), operand._handle.type.dtype
        else:
            level, dtype = 2, number_dtype(operand)
        before = classes[level]
        classes[level] = dtype if before is None else promote(before, dtype)
    result: DType | None = None
    for candidate in classes:
        if candidate is not None:
            result = _higher(result, candidate)
    assert result is not None
    return result


def cast(tensor: Tensor, dtype: DType) -> Tensor:
    """The tensor in another dtype (itself if it has it already)."""
    if tensor._handle.type.dtype is dtype:
        return tensor
    return apply(call_of(_CAST, dtype=dtype), tensor)  # type: ignore[no-any-return]


def scalar(value: Number, dtype: DType) -> Tensor:
    """A Python number as a 0-d operand; it may differ in every call without a recompile."""
    if isinstance(value, np.generic):
        value = value.item()
    return wrap(number(tensor_type(dtype), value), None, 0)


def as_operands(name: str, *operands: Any, floating: bool = False) -> list[Tensor]:
    """Bring operands to their common dtype.

    Args:
        name: the operation, for errors.
        floating: integers and bools become the default floating-point dtype.

    Raises:
        TypeError: an operand is neither a tensor nor a number.
    """
    for operand in operands:
        if not isinstance(operand, (Tensor, float, int, np.number, np.bool_)):
            raise TypeError(
                f"[{name}] operands must be tensors or numbers, given {type(operand).__name__}"
            )
    dtype = result_type(*operands)
    if floating and not dtype.is_floating_point:
        dtype = _Default.dtype
    return [
        cast(operand, dtype) if isinstance(operand, Tensor) else scalar(operand, dtype)
        for operand in operands
    ]
