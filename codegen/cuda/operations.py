"""A C expression for every primitive pointwise operation.

In: the operands as C expressions in their register types, and dtypes.  Out: the result as a C
expression, in parentheses where it needs them. The semantics are the ops' NumPy rules: integers
wrap around, an integer division by zero gives zero, nan wins in maximum and minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from braze.codegen.cuda.conversions import bitcast, cast
from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import register_type, unsigned_type
from braze.ir.dtypes import DType, bool_, f64
from braze.ir.op import Op


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation may ask: its operands' and its result's dtype, and the library."""

    dtype: DType
    result: DType
    use: Callable[[str], None]

    def call(self, function: str, *arguments: str) -> str:
        """A call of a function of the library."""
        self.use(function)
        return f"{function}({', '.join(map(bare, arguments))})"

    def refuse(self, op: str) -> CodegenError:
        return CodegenError(f"[{op}] there is no code for {self.dtype.name}")

    @property
    def is_double(self) -> bool:
        return self.dtype is f64


Rule = Callable[..., str]


def apply_operation(
    op: Op,
    operands: tuple[str, ...],
    dtypes: tuple[DType, ...],
    result: DType,
    use: Callable[[str], None],
) -> str:
    """A pointwise operation of operands.

    Args:
        dtypes: the operands'.
        result: the result's dtype (what a cast casts to).
        use: takes note of a function of the library.

    Raises:
        CodegenError: the operation has no meaning for these dtypes.
    """
    rule = RULES.get(op.name)
    if rule is None:
        raise CodegenError(f"[{op.name}] there is no code for this pointwise operation")
    # `where` computes in the dtype of its branches, every other operation in that of its operands.
    return rule(Context(dtypes[-1], result, use), *operands)


def _wrapped(c: Context, text: str) -> str:
    """An integer expression of operands of `unsigned_type`, in the dtype's own type."""
    return f"{_cast(register_type(c.dtype))}({text})"


def _cast(type: str) -> str:
    """A type as it stands before the parenthesis of what is converted."""
    return f"({type})" if " " in type else type


def _arithmetic(name: str, symbol: str, on_bool: str | None) -> Rule:
    def rule(c: Context, x: str, y: str) -> str:
        if c.dtype.is_floating_point:
            return f"({x} {symbol} {y})"
        if c.dtype.is_integer:
            if c.dtype.bits >= 32 and not c.dtype.is_signed:
                return f"({x} {symbol} {y})"
            return _wrapped(c, f"{_as_unsigned(c, x)} {symbol} {_as_unsigned(c, y)}")
        if on_bool is None:
            raise c.refuse(name)
        return f"({x} {on_bool} {y})"

    return rule


def _as_unsigned(c: Context, x: str) -> str:
    """An operand in an unsigned type that is wide enough for C to leave it alone."""
    return f"{_cast(unsigned_type(c.dtype))}({x})"


def _div(c: Context, x: str, y: str) -> str:
    return f"({x} / {y})"


def _neg(c: Context, x: str) -> str:
    if c.dtype.is_floating_point:
        return f"(-{x})"
    if c.dtype.is_integer:
        return _wrapped(c, f"0u - {_as_unsigned(c, x)}")
    raise c.refuse("neg")


def _abs(c: Context, x: str) -> str:
    if c.dtype.is_floating_point:
        return f"{'fabs' if c.is_double else 'fabsf'}({x})"
    if c.dtype.kind != "int":
        return x
    return f"({x} < 0 ? {_neg(c, x)} : {x})"


def _sign(c: Context, x: str) -> str:
    if c.dtype is bool_:
        raise c.refuse("sign")
    return c.call("sign_of", x)


def _math(name: str) -> Rule:
    def rule(c: Context, *operands: str) -> str:
        return f"{name}{'' if c.is_double else 'f'}({', '.join(map(bare, operands))})"

    return rule


def _floor_divide(c: Context, x: str, y: str) -> str:
    if c.dtype.is_floating_point:
        return _math("floor")(c, f"{x} / {y}")
    if c.dtype.is_integer:
        return c.call("floor_divide", x, y)
    raise c.refuse("floor_divide")


def _remainder(c: Context, x: str, y: str) -> str:
    if c.dtype.is_floating_point:
        return c.call("float_remainder", x, y)
    if c.dtype.is_integer:
        return c.call("floor_remainder", x, y)
    raise c.refuse("remainder")


def _gcd(c: Context, x: str, y: str) -> str:
    return c.call("gcd_of", x, y)


def _extremum(function: str, on_bool: str) -> Rule:
    def rule(c: Context, x: str, y: str) -> str:
        if c.dtype is bool_:
            return f"({x} {on_bool} {y})"
        c.use("larger")
        return f"{function}({bare(x)}, {bare(y)})"

    return rule


def _compare(symbol: str) -> Rule:
    return lambda c, x, y: f"({x} {symbol} {y})"


def _where(c: Context, condition: str, x: str, y: str) -> str:
    return f"({condition} ? {x} : {y})"


def _bitwise(symbol: str) -> Rule:
    def rule(c: Context, x: str, y: str) -> str:
        if c.dtype is bool_:
            return f"bool({x} {symbol} {y})"
        return _narrowed(c, f"({x} {symbol} {y})")

    return rule


def _narrowed(c: Context, text: str) -> str:
    """C computes with no less than 32 bits."""
    return text if c.dtype.bits >= 32 else f"{_cast(register_type(c.dtype))}({text})"


def _not(c: Context, x: str) -> str:
    return f"(!{x})" if c.dtype is bool_ else _narrowed(c, f"(~{x})")


def _shift_left(c: Context, x: str, y: str) -> str:
    if c.dtype is bool_:  # 0 or 1 is shifted by 0 or 1, and tested for nonzero
        return x
    return _wrapped(c, f"{_as_unsigned(c, x)} << ({y} & {c.dtype.bits - 1})")


def _shift_right(c: Context, x: str, y: str) -> str:
    if c.dtype is bool_:
        return f"({x} && !{y})"
    return _narrowed(c, f"({x} >> ({y} & {c.dtype.bits - 1}))")


RULES: Mapping[str, Rule] = {
    "add": _arithmetic("add", "+", "||"),
    "sub": _arithmetic("sub", "-", "!="),
    "mul": _arithmetic("mul", "*", "&&"),
    "div": _div,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "gcd": _gcd,
    "maximum": _extremum("larger", "||"),
    "minimum": _extremum("smaller", "&&"),
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    **{
        name: _math({"round": "rint"}.get(name, name))
        for name in (
            "sqrt", "floor", "ceil", "trunc", "round", "exp", "expm1", "log", "log1p", "sin",
            "cos", "tanh", "erf", "atan", "atan2", "pow",
        )
    },
    "eq": _compare("=="),
    "ne": _compare("!="),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "bitwise_and": _bitwise("&"),
    "bitwise_or": _bitwise("|"),
    "bitwise_xor": _bitwise("^"),
    "bitwise_not": _not,
    "shift_left": _shift_left,
    "shift_right": _shift_right,
    "where": _where,
    "cast": lambda c, x: cast(x, c.dtype, c.result, c.use),
    "bitcast": lambda c, x: bitcast(x, c.dtype, c.result, c.use),
}  # fmt: skip
