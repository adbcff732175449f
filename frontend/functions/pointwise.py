"""Elementwise functions: arithmetic, comparison, logic and every one-operand function of the op
table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.capture import Call, call_of
from braze.functions.promotion import as_operands, cast, get_default_dtype, result_type, scalar
from braze.ir.dtypes import bool_, i64
from braze.ir.errors import DTypeError
from braze.ir.op import Op, all_ops, op_named
from braze.ir.types import tensor_type
from braze.tensors import Tensor, apply

Operand = Tensor | float | int | bool


def _call(name: str) -> Call:
    return call_of(op_named(name))


_ADD, _SUB, _MUL, _DIV, _POW, _NEG = map(_call, ("add", "sub", "mul", "div", "pow", "neg"))
_FLOOR, _TRUNC, _WHERE = map(_call, ("floor", "trunc", "where"))


def _pair(call: Call, floating: bool = False) -> Callable[[Any, Any], Tensor]:
    name = call.op.name

    def function(input: Any, other: Any) -> Tensor:
        try:  # by far the most common: two tensors of one floating-point dtype
            dtype = input._handle.type.dtype
            direct = dtype is other._handle.type.dtype and (dtype.kind == "float" or not floating)
        except AttributeError:
            direct = False
        if direct:
            return apply(call, input, other)  # type: ignore[no-any-return]
        return apply(call, *as_operands(name, input, other, floating=floating))  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = f"{call.op.doc} Operands are promoted and broadcast."
    return function


_add, _sub, mul = _pair(_ADD), _pair(_SUB), _pair(_MUL)
floor_divide, remainder = _pair(_call("floor_divide")), _pair(_call("remainder"))
maximum, minimum = _pair(_call("maximum")), _pair(_call("minimum"))
atan2 = _pair(_call("atan2"), floating=True)
eq, ne, lt = _pair(_call("eq")), _pair(_call("ne")), _pair(_call("lt"))
le, gt, ge = _pair(_call("le")), _pair(_call("gt")), _pair(_call("ge"))
bitwise_and, bitwise_or = _pair(_call("bitwise_and")), _pair(_call("bitwise_or"))
bitwise_xor = _pair(_call("bitwise_xor"))


def add(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """input + alpha * other, promoted and broadcast."""
    return _add(input, other if alpha == 1 else mul(other, alpha))


def sub(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """input - alpha * other, promoted and broadcast."""
    for operand in (input, other):
        if isinstance(operand, bool) or isinstance(operand, Tensor) and operand.dtype is bool_:
            raise RuntimeError(
                "Subtraction, the `-` operator, with a bool tensor is not supported. If you are "
                "trying to invert a "
                "mask, use the `~` or `logical_not()` operator instead."
            )
    return _sub(input, other if alpha == 1 else mul(other, alpha))


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other.

    Args:
        rounding_mode: None for true division (integers become floating), "trunc" towards zero,
            "floor" down.

    Raises:
        RuntimeError: any other rounding mode.
    """
    if rounding_mode == "floor":
        return floor_divide(input, other)
    quotient: Tensor = apply(_DIV, *as_operands("div", input, other, floating=True))
    if rounding_mode is None:
        return quotient
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"{rounding_mode!r}"
        )
    return cast(apply(_TRUNC, quotient), result_type(input, other))


def fmod(input: Operand, other: Operand) -> Tensor:
    """The remainder with the sign of the dividend, as C's fmod."""
    x, y = as_operands("fmod", input, other)
    return _sub(x, mul(div(x, y, rounding_mode="trunc"), y))


def pow(input: Operand, exponent: Operand) -> Tensor:
    """input ** exponent; small whole exponents become multiplications."""
    if isinstance(input, Tensor) and not isinstance(exponent, Tensor):
        if exponent == 2:
            return mul(input, input)
        if exponent == 1:
            return input.clone()
        if exponent == 0.5:
            return sqrt(input)
        if exponent == 3:
            return mul(mul(input, input), input)
    x, y = as_operands("pow", input, exponent)
    dtype = x.dtype
    if dtype.is_floating_point:
        return apply(_POW, x, y)  # type: ignore[no-any-return]
    if not isinstance(exponent, Tensor) and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    from braze.ir.dtypes import f64

    return cast(apply(_POW, cast(x, f64), cast(y, f64)), dtype)


def neg(input: Tensor) -> Tensor:
    """-input.

    Raises:
        RuntimeError: for bool tensors.
    """
    if input.dtype is bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, "
            "use the `~` or `logical_not()` operator instead."
        )
    return apply(_NEG, input)  # type: ignore[no-any-return]


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """Elements of `input` where the condition holds, else of `other`, broadcast together. The
    condition alone: the places where it holds, as `nonzero(as_tuple=True)`."""
    if input is None and other is None:
        from braze.functions.scattering import nonzero

        return nonzero(condition, as_tuple=True)
    x, y = as_operands("where", input, other)
    return apply(_WHERE, cast(condition, bool_), x, y)


def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Limit the elements to [min, max]; either bound may be left out.

    Raises:
        RuntimeError: both are.
    """
    if min is None and max is None:
        raise RuntimeError("At least one of 'min' or 'max' must not be None")
    bounds = [b for b in (min, max) if b is not None]
    x, *limits = as_operands("clamp", input, *bounds)
    name = "clamp" if len(bounds) == 2 else "clamp_min" if max is None else "clamp_max"
    return apply(_call(name), x, *limits)  # type: ignore[no-any-return]


def masked_fill(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """`input` with `value` wherever the mask is True.

    Raises:
        RuntimeError: the mask is not bool.
    """
    if mask.dtype is not bool_:
        raise RuntimeError(
            f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype!r}"
        )
    fill = cast(value, input.dtype) if isinstance(value, Tensor) else scalar(value, input.dtype)
    return apply(_WHERE, mask, fill, input)  # type: ignore[no-any-return]


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight * (end - input)."""
    return _add(input, mul(weight, _sub(end, input)))


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return _add(input, mul(mul(tensor1, tensor2), value))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * tensor1 / tensor2."""
    return _add(input, mul(div(tensor1, tensor2), value))


# One operand: one function for each row of the op table
# ---------------------------------------------


def _takes(op: Op, dtype: Any) -> bool:
    try:
        op.infer(tensor_type(dtype, (1,)))
    except DTypeError:
        return False
    return True


def _unary(op: Op) -> Callable[[Tensor], Tensor]:
    call = call_of(op)
    integers = _takes(op, i64)

    def function(input: Tensor) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{op.name}(): argument 'input' must be Tensor, not {type(input).__name__}"
            )
        if not integers and not input._handle.type.dtype.is_floating_point:
            input = cast(input, get_default_dtype())
        result: Tensor = apply(call, input)
        return result

    function.__name__ = op.name
    function.__doc__ = op.doc
    return function


def _is_unary(op: Op) -> bool:
    """Elementwise functions of one operand: result and operand have one shape, no attributes."""
    if op.category not in ("pointwise", "composite") or op.attributes or op.variadic:
        return False
    if len(op.operands) != 1 or op.results != ("out",):
        return False
    for dtype in (get_default_dtype(), i64):
        x = tensor_type(dtype, (2, 3))
        try:
            return op.infer(x)[0].shape == x.shape
        except DTypeError:
            continue
    return False


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    op.name: _unary(op) for op in all_ops() if _is_unary(op) and op.name != "neg"
}
sqrt = UNARY["sqrt"]
