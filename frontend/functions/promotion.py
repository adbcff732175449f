"""Type promotion between tensors and Python numbers, by PyTorch's rules.

Operands fall into three classes: tensors with dimensions, 0-d tensors, Python numbers. A lower
class changes the result's dtype only if its category (bool < integer < float < complex) is higher;
within a class dtypes promote by table. A complex number beside floats takes their precision.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.handle import number
from braze.ir.dtypes import DType, bool_, f32, i64, promote
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.tensors import Tensor, apply, wrap

Number = float | int | bool | complex

_CAST, _COMPLEX = op_named("cast"), op_named("complex")
_CATEGORY = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
# The classes of numbers that do not change a tensor's dtype, by its kind.
_PLAIN: dict[str, set[type]] = {
    **dict.fromkeys(("uint", "int"), {int}),
    **dict.fromkeys(("float", "complex"), {int, float}),
    "bool": set(),
}


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
    if isinstance(value, (complex, np.complexfloating)):
        return _Default.dtype.to_complex()
    if not isinstance(value, (float, np.floating)):
        raise TypeError(f"expected a tensor or a number, given {type(value).__name__}")
    return _Default.dtype


def _higher(current: DType | None, candidate: DType) -> DType:
    if current is None:
        return candidate
    if _CATEGORY[candidate.kind] <= _CATEGORY[current.kind]:
        return current
    if candidate.is_complex and current.is_floating_point:
        return current.to_complex()
    return candidate


def result_type(*operands: Tensor | DType | Number) -> DType:
    """The dtype of an operation on these operands. A dtype stands for a tensor with dimensions.

    Example:
        >>> import braze
        >>> braze.result_type(braze.ones(2, dtype=braze.int32), 1.5)
        braze.float32
    """
    classes: list[DType | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, Tensor):
            level, dtype = (0 if operand._handle.type.shape else 1), operand._handle.type.dtype
        elif isinstance(operand, DType):
            level, dtype = 0, operand
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


def keeps(dtype: DType, others: Sequence[Any]) -> bool:
    """Whether the other operands are numbers that leave a tensor's dtype as it is."""
    return _PLAIN[dtype.kind].issuperset(map(type, others))


def cast(tensor: Tensor, dtype: DType) -> Tensor:
    """The tensor in another dtype (itself if it has it already)."""
    own = tensor._handle.type.dtype
    if own is dtype:
        return tensor
    if own.is_complex and not (dtype.is_complex or dtype is bool_):
        warnings.warn(
            "Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3
        )
    return apply(call_of(_CAST, dtype=dtype), tensor)  # type: ignore[no-any-return]


def scalar(value: Number, dtype: DType) -> Tensor:
    """A Python number as a 0-d operand; it may differ in every call without a recompile."""
    kind = value.__class__
    if (kind is not float and kind is not int) or dtype.kind == "complex":
        if isinstance(value, np.generic):
            value = value.item()
        if dtype.is_complex:
            return _complex_scalar(value, dtype)
        if isinstance(value, complex):
            value = _real_number(value)
    return wrap(number(tensor_type(dtype), value), None, 0)  # type: ignore[arg-type]


def check_fits(name: str, bounds: Sequence[float], dtype: DType) -> None:
    """Raise RuntimeError for numbers beyond an integer dtype (negative ints wrap around in uint8).

    Args:
        bounds: the numbers, all ints or all floats.
    """
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        wraps = dtype.kind == "uint" and not isinstance(bounds[0], float)
        lowest = -int(limits.max) - 1 if wraps else int(limits.min)
        if min(bounds) < lowest or max(bounds) > int(limits.max):
            raise RuntimeError(
                f"{name}(): value cannot be converted to type {dtype.public_name} without overflow"
            )


def single(name: str, value: Any, dtype: DType) -> Tensor:
    """The one value that a function writes everywhere, a number or a tensor, as a 0-d operand.

    Raises:
        RuntimeError: a tensor that has dimensions, or a number beyond the dtype. TypeError: neither
            a tensor nor a number.
    """
    if not isinstance(value, Tensor):
        if not number_dtype(value).is_complex:
            check_fits(name, (value,), dtype)
        return scalar(value, dtype)
    if value.ndim:
        raise RuntimeError(
            f"{name} only supports a 0-dimensional value tensor, but got tensor with {value.ndim} "
            "dimension(s)."
        )
    return cast(value, dtype)


def _complex_scalar(value: Number, dtype: DType) -> Tensor:
    part = dtype.to_real()
    if not isinstance(value, complex):  # a product with it needs no cross terms
        return cast(scalar(value, part), dtype)
    return apply(call_of(_COMPLEX), scalar(value.real, part), scalar(value.imag, part))  # type: ignore[no-any-return]


def _real_number(value: complex) -> float:
    """A complex number where a real one is stored.

    Raises:
        RuntimeError: its imaginary part is not zero.
    """
    if value.imag:
        raise RuntimeError(f"value cannot be converted to a real number without loss: {value}")
    return value.real


def as_operands(name: str, *operands: Any, floating: bool = False) -> list[Tensor]:
    """Bring operands to their common dtype.

    Args:
        name: the operation, for errors.
        floating: integers and bools become the default floating-point dtype.

    Raises:
        TypeError: an operand is neither a tensor nor a number.
    """
    first, *rest = operands
    if isinstance(first, Tensor):  # with numbers that leave its dtype as it is, as mostly
        dtype = first._handle.type.dtype
        if (dtype.is_differentiable or not floating) and keeps(dtype, rest):
            return [first, *[scalar(operand, dtype) for operand in rest]]
    for operand in operands:
        if not isinstance(operand, (Tensor, float, int, complex, np.number, np.bool_)):
            raise TypeError(
                f"[{name}] operands must be tensors or numbers, given {type(operand).__name__}"
            )
    dtype = result_type(*operands)
    if floating and not dtype.is_differentiable:
        dtype = _Default.dtype
    return [
        cast(operand, dtype) if isinstance(operand, Tensor) else scalar(operand, dtype)
        for operand in operands
    ]
