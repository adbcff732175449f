"""Elementwise functions: arithmetic, comparison, logic and every one-operand function of the op
table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.capture import Call, call_of
from braze.functions.arguments import require_tensors
from braze.functions.promotion import (
    as_operands,
    cast,
    get_default_dtype,
    result_type,
    scalar,
    single,
)
from braze.ir.dtypes import DType, bool_, i64, u8
from braze.ir.errors import ZERO_DIVISION, DTypeError, ShapeError, failed_check
from braze.ir.op import Op, all_ops, op_named
from braze.ir.types import tensor_type
from braze.tensors import Tensor, apply

Operand = Tensor | float | int | bool | complex


def _call(name: str) -> Call:
    return call_of(op_named(name))


_ADD, _SUB, _MUL, _DIV, _POW, _NEG = map(_call, ("add", "sub", "mul", "div", "pow", "neg"))
_WHERE = _call("where")
_CHECK = op_named("check_range")


def _stays(dtype: DType, number: type, floating: bool) -> bool:
    """Whether a result has a tensor's dtype beside a number of this class."""
    if number is float or number is int:
        return dtype.is_floating_point or (number is int and dtype.is_integer and not floating)
    return False


def _pair(call: Call, floating: bool = False) -> Callable[[Any, Any], Tensor]:
    name = call.op.name

    def function(input: Any, other: Any) -> Tensor:
        if isinstance(input, Tensor):
            dtype = input._handle.type.dtype
            if isinstance(other, Tensor):
                if dtype is other._handle.type.dtype and (dtype.is_differentiable or not floating):
                    return apply(call, input, other)  # type: ignore[no-any-return]
            elif _stays(dtype, other.__class__, floating):
                return apply(call, input, scalar(other, dtype))  # type: ignore[no-any-return]
        elif isinstance(other, Tensor):
            dtype = other._handle.type.dtype
            if _stays(dtype, input.__class__, floating):
                return apply(call, scalar(input, dtype), other)  # type: ignore[no-any-return]
        return apply(call, *as_operands(name, input, other, floating=floating))  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = f"{call.op.doc} Operands are promoted and broadcast."
    return function


_add, _sub, mul = _pair(_ADD), _pair(_SUB), _pair(_MUL)
_div = _pair(_DIV, floating=True)


def _division(name: str, call: Call) -> Callable[[Any, Any], Tensor]:
    """A `_pair` that checks the divisors of integers."""
    plain = _pair(call)

    def function(input: Any, other: Any) -> Tensor:
        result = plain(input, other)
        if result._handle.type.dtype.kind != "float":
            _check_divisor(other)
        return result

    function.__name__ = name
    function.__doc__ = (
        f"{plain.__doc__}\n\nRaises:\n"
        "    RuntimeError: an integer divisor is 0 (a tensor's: at the next sync)."
    )
    return function


def _check_divisor(divisor: Any) -> None:
    """Have the program raise at this line if an element is 0."""
    if isinstance(divisor, Tensor):
        zero = cast(eq(divisor, 0), i64)
        apply(call_of(_CHECK, low=0, high=1, message=ZERO_DIVISION), zero)
    elif not divisor:
        raise failed_check(ZERO_DIVISION, 1, 0, 1)


floor_divide = _division("floor_divide", _call("div_floor"))
remainder, fmod = _division("remainder", _call("remainder")), _division("fmod", _call("fmod"))
maximum, minimum = _pair(_call("maximum")), _pair(_call("minimum"))
_atan2 = _pair(_call("atan2"), floating=True)
eq, ne, lt = _pair(_call("eq")), _pair(_call("ne")), _pair(_call("lt"))
le, gt, ge = _pair(_call("le")), _pair(_call("gt")), _pair(_call("ge"))
bitwise_and, bitwise_or = _pair(_call("bitwise_and")), _pair(_call("bitwise_or"))
bitwise_xor = _pair(_call("bitwise_xor"))
_div_trunc = _division("div_trunc", _call("div_trunc"))
_integer_pow = _pair(_call("integer_pow"))


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), between -pi and pi. Operands are promoted and
    broadcast."""
    require_tensors("atan2", input=input, other=other)
    return _atan2(input, other)


def _scaled(name: str, input: Any, other: Any, alpha: float) -> list[Any]:
    """Operands of an addition with `other` multiplied by alpha in their common dtype.

    Raises:
        RuntimeError: alpha does not fit the dtype: a float for integers, a bool for anything but
            bools.
    """
    x, y = as_operands(name, input, other)
    if not isinstance(alpha, Tensor):
        if isinstance(alpha, bool) and x.dtype is not bool_:
            raise RuntimeError("Boolean alpha only supported for Boolean results.")
        if isinstance(alpha, float) and not x.dtype.is_differentiable:
            raise RuntimeError(
                "For integral input tensors, argument alpha must not be a floating point number."
            )
        return [x, mul(y, scalar(alpha, x.dtype))]
    return [x, mul(y, alpha)]


def add(input: Operand, other: Operand, last: Any = None, *, alpha: float = 1) -> Tensor:
    """input + alpha * other, promoted and broadcast; also as `add(input, alpha, other)`, PyTorch's
    older order."""
    if last is not None:
        other, alpha = last, other  # type: ignore[assignment]
    if alpha.__class__ is int and alpha == 1:
        return _add(input, other)
    return _add(*_scaled("add", input, other, alpha))


def _is_bool(operand: Any) -> bool:
    if isinstance(operand, Tensor):
        return operand._handle.type.dtype is bool_
    return operand.__class__ is bool


def sub(input: Operand, other: Operand, last: Any = None, *, alpha: float = 1) -> Tensor:
    """input - alpha * other, promoted and broadcast; also as `sub(input, alpha, other)`, PyTorch's
    older order."""
    if last is not None:
        other, alpha = last, other  # type: ignore[assignment]
    if _is_bool(input) or _is_bool(other):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying "
            "to invert a mask, use the `~` or `logical_not()` operator instead."
        )
    if alpha.__class__ is int and alpha == 1:
        return _sub(input, other)
    return _sub(*_scaled("sub", input, other, alpha))


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other.

    Args:
        rounding_mode: None for true division (integers become floating), "trunc" towards zero,
            "floor" down.

    Raises:
        RuntimeError: any other rounding mode.
    """
    if rounding_mode is None:
        return _div(input, other)
    if rounding_mode not in ("trunc", "floor"):
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"{rounding_mode!r}"
        )
    return floor_divide(input, other) if rounding_mode == "floor" else _div_trunc(input, other)


def pow(input: Operand, exponent: Operand) -> Tensor:
    """input ** exponent; small whole exponents become multiplications.

    Raises:
        TypeError: neither is a tensor.
        RuntimeError: integers to a negative power that is a number.
    """
    if not isinstance(input, Tensor) and not isinstance(exponent, Tensor):
        raise TypeError("pow(): one of the operands must be a Tensor")
    if (
        isinstance(input, Tensor)
        and not isinstance(exponent, Tensor)
        and (input.dtype.is_differentiable or isinstance(exponent, int) and exponent >= 0)
        and input.dtype is not bool_
    ):
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
    if dtype.is_differentiable:
        return apply(_POW, x, y)  # type: ignore[no-any-return]
    if isinstance(exponent, (int, float)) and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if dtype is bool_:  # 0 ** 1 is the only power that is False
        return apply(_call("bitwise_or"), x, logical_not(y))  # type: ignore[no-any-return]
    return _integer_pow(x, y)


def neg(input: Tensor) -> Tensor:
    """-input.

    Raises:
        TypeError: no tensor is given.
        RuntimeError: for bool tensors.
    """
    if not isinstance(input, Tensor):
        require_tensors("neg", input=input)
    if input._handle.type.dtype is bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, "
            "use the `~` or `logical_not()` operator instead."
        )
    return apply(_NEG, input)  # type: ignore[no-any-return]


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """Elements of `input` where the condition holds, else of `other`, broadcast together. The
    condition alone: the places where it holds, as `nonzero(as_tuple=True)`.

    Raises:
        TypeError: one of the two is missing. RuntimeError: the condition is not bool (or uint8).
    """
    if input is None and other is None:
        from braze.functions.scattering import nonzero

        return nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor) or other is None:
        raise TypeError(
            f"where(): a condition and two operands are needed, given {type(condition).__name__}, "
            f"{type(input).__name__}, {type(other).__name__}"
        )
    if condition.dtype not in (bool_, u8):
        raise RuntimeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{condition.dtype!r}"
        )
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
    if len({isinstance(b, Tensor) for b in bounds}) == 2:
        raise TypeError("clamp(): min and max must be two tensors or two numbers")
    x, *limits = as_operands("clamp", input, *bounds)
    name = "clamp" if len(bounds) == 2 else "clamp_min" if max is None else "clamp_max"
    return apply(_call(name), x, *limits)  # type: ignore[no-any-return]


def masked_fill(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """`input` with `value` wherever the mask is True.

    Raises:
        RuntimeError: the mask is not bool, or `value` is a tensor that has dimensions.
    """
    if mask.dtype is not bool_:
        raise RuntimeError(
            f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype!r}"
        )
    return apply(_WHERE, mask, single("masked_fill", value, input.dtype), input)  # type: ignore[no-any-return]


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight * (end - input); both ends are met exactly at weights 0 and 1.

    Raises:
        RuntimeError: the dtypes differ or are not floating-point.
    """
    require_tensors("lerp", input=input, end=end)
    for other in (end, weight):
        if isinstance(other, Tensor) and other.dtype is not input.dtype:
            raise RuntimeError(
                f"[lerp] expected dtype {input.dtype!r} for `end` and `weight` but got "
                f"{other.dtype!r}"
            )
    share = weight if isinstance(weight, Tensor) else scalar(weight, input.dtype)
    return apply(_call("lerp"), input, end, share)  # type: ignore[no-any-return]


def _value_for(value: float, *operands: Tensor) -> Tensor:
    dtype = result_type(*operands)
    return scalar(value if dtype.is_differentiable else int(value), dtype)


def addcmul(
    input: Tensor, tensor1: Any, tensor2: Tensor, last: Any = None, *, value: float = 1
) -> Tensor:
    """input + value * tensor1 * tensor2, in the operands' common dtype (for integers the value's
    whole part counts); also as `addcmul(input, value, tensor1, tensor2)`, PyTorch's older order."""
    if last is not None:
        value, tensor1, tensor2 = tensor1, tensor2, last
    require_tensors("addcmul", input=input, tensor1=tensor1, tensor2=tensor2)
    factor = _value_for(value, input, tensor1, tensor2)
    return _add(input, mul(mul(tensor1, tensor2), factor))


def addcdiv(
    input: Tensor, tensor1: Any, tensor2: Tensor, last: Any = None, *, value: float = 1
) -> Tensor:
    """input + value * tensor1 / tensor2; also as `addcdiv(input, value, tensor1, tensor2)`,
    PyTorch's older order.

    Raises:
        RuntimeError: tensor1 and tensor2 are integers.
    """
    if last is not None:
        value, tensor1, tensor2 = tensor1, tensor2, last
    require_tensors("addcdiv", input=input, tensor1=tensor1, tensor2=tensor2)
    if not any(t.dtype.is_differentiable for t in (tensor1, tensor2)):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported; use (input + value * "
            "braze.trunc(tensor1 / tensor2)) or make an operand floating-point."
        )
    return _add(input, mul(div(tensor1, tensor2), value))


# One operand: one function for each row of the op table
# ---------------------------------------------


ROUNDING = frozenset({"floor", "ceil", "trunc", "round"})
# Functions of numbers that bools have an answer of their own to.
TRUTH = frozenset(("sign", "relu"))
# Functions of `braze.special` that the top level does not have.
SPECIAL = frozenset("i0e i1 i1e erfcx ndtr ndtri log_ndtr entr".split())


def _takes(op: Op, dtype: Any) -> bool:
    try:
        op.infer(tensor_type(dtype, (1,)))
    except DTypeError:
        return False
    return True


def _unary(op: Op) -> Callable[[Tensor], Tensor]:
    call = call_of(op)
    integers = _takes(op, i64)
    whole = op.name in ROUNDING  # of which integers are fixed points
    truth = op.name in TRUTH

    def function(input: Tensor) -> Tensor:
        if not isinstance(input, Tensor):
            require_tensors(op.name, input=input)
        if not integers and not input._handle.type.dtype.is_differentiable:
            if whole and input._handle.type.dtype is not bool_:
                return input.clone()  # type: ignore[no-any-return]
            input = cast(input, get_default_dtype())
        if truth and input._handle.type.dtype is bool_:
            if op.name != "sign":
                raise RuntimeError(f"Boolean inputs not supported for {op.name}")
            return input.clone()  # type: ignore[no-any-return]
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
        except (DTypeError, ShapeError):
            continue
    return False


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    op.name: _unary(op)
    for op in all_ops()
    if _is_unary(op) and op.name != "neg" and op.name not in SPECIAL
}


def _abs() -> Callable[[Tensor], Tensor]:
    """The modulus of complex numbers has a dtype of its own."""
    of_real, of_complex = _unary(op_named("abs")), _call("modulus")

    def abs(input: Tensor) -> Tensor:
        if isinstance(input, Tensor) and input._handle.type.dtype.is_complex:
            return apply(of_complex, input)  # type: ignore[no-any-return]
        return of_real(input)

    abs.__doc__ = "|input|; of complex numbers the modulus, a real number."
    return abs


UNARY["abs"] = _abs()
SPECIAL_UNARY = {name: _unary(op_named(name)) for name in sorted(SPECIAL)}
# Functions that the top level has in an in-place form too, as PyTorch does.
IN_PLACE = (
    "abs acos asin atan ceil cos cosh erf erfc exp exp2 expm1 floor frac log log10 log1p log2 neg "
    "relu round rsqrt reciprocal sigmoid sin sinh sqrt square tan tanh trunc"
).split()
sqrt, logical_not = UNARY["sqrt"], UNARY["logical_not"]
