"""An instruction sequence for every primitive pointwise operation.

In: the op's operands in register types, and their dtype.  Out: the result in its register type. The
semantics are the ops' NumPy rules: integers wrap, an integer division by zero gives zero, nan wins
in maximum and minimum. Additions and multiplications may be contracted to fused ones; nothing else
is relaxed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from braze.codegen.llvm import conversions, ir
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.types import bits_of, constant, intrinsic, lanes_of, zero
from braze.codegen.llvm.vector_math import call_math
from braze.ir.dtypes import DType
from braze.ir.op import Op
from braze.ir.target import Target

CONTRACT = ("contract",)


@dataclass(frozen=True, slots=True)
class Context:
    """What a sequence may ask: where to emit, for which target, the operands' and the result's
    dtype.
    """

    builder: ir.IRBuilder
    target: Target
    dtype: DType
    result: DType

    def refuse(self, op: str) -> CodegenError:
        return CodegenError(f"[{op}] there is no code for {self.dtype.name}")


Sequence = Callable[..., ir.Value]


def apply_operation(
    builder: ir.IRBuilder,
    target: Target,
    op: Op,
    operands: tuple[ir.Value, ...],
    dtypes: tuple[DType, ...],
    result: DType,
) -> ir.Value:
    """Emit a pointwise operation.

    Args:
        operands: in register types, all with the same number of lanes.
        dtypes: the operands'.
        result: the result's dtype (what a cast casts to).

    Raises:
        CodegenError: the operation has no meaning for these dtypes.
    """
    sequence = SEQUENCES.get(op.name)
    if sequence is None:
        raise CodegenError(f"[{op.name}] there is no code for this pointwise operation")
    # `where` computes in the dtype of its branches, every other operation in that of its operands.
    return sequence(Context(builder, target, dtypes[-1], result), *operands)


# Arithmetic ---------------------------------------------------------------------------------------


def _arithmetic(name: str, on_float: str, on_integer: str, on_bool: str | None) -> Sequence:
    def emit(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
        if c.dtype.is_floating_point:
            return getattr(c.builder, on_float)(x, y, flags=CONTRACT)
        if c.dtype.is_integer:
            return getattr(c.builder, on_integer)(x, y)
        if on_bool is None:
            raise c.refuse(name)
        return getattr(c.builder, on_bool)(x, y)

    return emit


def _div(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
    return c.builder.fdiv(x, y)


def _neg(c: Context, x: ir.Value) -> ir.Value:
    if c.dtype.is_floating_point:
        return c.builder.fneg(x)
    if c.dtype.is_integer:
        return c.builder.sub(zero(x.type), x)
    raise c.refuse("neg")


def _abs(c: Context, x: ir.Value) -> ir.Value:
    if c.dtype.is_floating_point:
        return intrinsic(c.builder, "fabs", x.type, [x])
    if c.dtype.kind != "int":
        return x
    negative = c.builder.icmp_signed("<", x, zero(x.type))
    return c.builder.select(negative, c.builder.sub(zero(x.type), x), x)


def _sign(c: Context, x: ir.Value) -> ir.Value:
    b, null = c.builder, zero(x.type)
    if c.dtype.is_floating_point:
        one = constant(x.type, 1.0)
        signed = intrinsic(b, "copysign", x.type, [one, x])
        return b.select(b.fcmp_unordered("ueq", x, null), null, signed)  # nans have none either
    if c.dtype.kind == "int":
        positive = b.zext(b.icmp_signed(">", x, null), x.type)
        return b.add(positive, b.sext(b.icmp_signed("<", x, null), x.type))
    if c.dtype.kind == "uint":
        return b.zext(b.icmp_unsigned("!=", x, null), x.type)
    raise c.refuse("sign")


def _sqrt(c: Context, x: ir.Value) -> ir.Value:
    return intrinsic(c.builder, "sqrt", x.type, [x])


def _rounding(name: str) -> Sequence:
    def emit(c: Context, x: ir.Value) -> ir.Value:
        return intrinsic(c.builder, name, x.type, [x])

    return emit


def _math(name: str) -> Sequence:
    def emit(c: Context, *operands: ir.Value) -> ir.Value:
        return call_math(c.builder, c.target, name, *operands)

    return emit


# Division of integers -----------------------------------------------------------------------------


def _integer_division(
    c: Context, x: ir.Value, y: ir.Value, signed: bool
) -> tuple[ir.Value, ir.Value]:
    """Quotient rounded down and remainder; both zero where y is zero. Never traps."""
    b, t = c.builder, x.type
    null = b.icmp_unsigned("==", y, zero(t))
    safe = b.select(null, constant(t, 1), y)
    if signed:
        # The one quotient that overflows (and traps) is that of the smallest number by -1: it wraps
        # to itself.
        smallest = b.icmp_signed("==", x, constant(t, -(1 << (bits_of(t) - 1))))
        overflow = b.and_(smallest, b.icmp_signed("==", safe, constant(t, -1)))
        safe = b.select(overflow, constant(t, 1), safe)
    if lanes_of(t) > 1 and bits_of(t) <= 32:
        quotient = _divide_as_floats(c, x, safe, signed)
    else:
        quotient = b.sdiv(x, safe) if signed else b.udiv(x, safe)
    rest = b.sub(x, b.mul(quotient, safe))
    if signed:
        opposite = b.icmp_signed("<", b.xor(rest, safe), zero(t))
        lower = b.and_(b.icmp_unsigned("!=", rest, zero(t)), opposite)
        quotient = b.add(quotient, b.sext(lower, t))
        rest = b.select(lower, b.add(rest, safe), rest)
    return b.select(null, zero(t), quotient), b.select(null, zero(t), rest)


def _divide_as_floats(c: Context, x: ir.Value, y: ir.Value, signed: bool) -> ir.Value:
    """Processors have no integer vector division, but the f64 quotient of 32-bit numbers truncates
    exactly.
    """
    b, lanes = c.builder, lanes_of(x.type)
    wide = bits_of(x.type) > 16
    number = ir.VectorType(ir.DoubleType() if wide else ir.FloatType(), lanes)
    through = ir.VectorType(ir.IntType(32), lanes)
    convert = b.sitofp if signed else b.uitofp
    quotient = b.fdiv(convert(x, number), convert(y, number))
    whole = b.fptosi(quotient, through) if signed else b.fptoui(quotient, through)
    return whole if through == x.type else b.trunc(whole, x.type)


def _floor_divide(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
    if c.dtype.is_floating_point:
        return intrinsic(c.builder, "floor", x.type, [c.builder.fdiv(x, y)])
    if c.dtype.is_integer:
        return _integer_division(c, x, y, c.dtype.kind == "int")[0]
    raise c.refuse("floor_divide")


def _remainder(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
    if c.dtype.is_floating_point:
        return call_math(c.builder, c.target, "remainder", x, y)
    if c.dtype.is_integer:
        return _integer_division(c, x, y, c.dtype.kind == "int")[1]
    raise c.refuse("remainder")


def _gcd(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
    """A call of Euclid's algorithm, which runs until every lane is done."""
    b, t = c.builder, x.type
    symbol = f"braze_gcd_{c.dtype.name}x{lanes_of(t)}"
    function = b.module.globals.get(symbol)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(t, [t, t]), symbol)
        function.linkage = "internal"
        function.attributes.add("nounwind")
        function.attributes.add("noinline")
        _write_gcd(c, function)
    return b.call(function, [x, y])


def _write_gcd(c: Context, function: ir.Function) -> None:
    before = ir.IRBuilder(function.append_basic_block("entry"))
    t = function.args[0].type
    x, y = (_abs(replace(c, builder=before), argument) for argument in function.args)
    head, body, done = (function.append_basic_block(n) for n in ("head", "body", "done"))
    before.branch(head)
    b = ir.IRBuilder(head)
    larger, smaller = b.phi(t), b.phi(t)
    larger.add_incoming(x, before.block)
    smaller.add_incoming(y, before.block)
    ended = b.icmp_unsigned("==", smaller, zero(t))
    every = ended
    if lanes_of(t) > 1:
        every = intrinsic(b, "vector.reduce.and", ended.type.element, [ended], [ended.type])
    b.cbranch(every, done, body)
    b = ir.IRBuilder(body)
    # The size of the smallest signed number is a number without sign.
    rest = _integer_division(replace(c, builder=b), larger, smaller, signed=False)[1]
    larger.add_incoming(b.select(ended, larger, smaller), b.block)
    smaller.add_incoming(rest, b.block)
    b.branch(head)
    ir.IRBuilder(done).ret(larger)


# Comparison and choice ----------------------------------------------------------------------------


def _is_plain_number(value: ir.Value) -> bool:
    """True for a constant that is certainly no nan."""
    return isinstance(value, ir.Constant) and "0x7ff8" not in value.ref


def extremum(c: Context, x: ir.Value, y: ir.Value, largest: bool) -> ir.Value:
    """The larger (or smaller) operand; nan if either is nan."""
    b = c.builder
    order = ">" if largest else "<"
    if c.dtype.kind == "bool":
        return b.or_(x, y) if largest else b.and_(x, y)
    if c.dtype.kind == "int":
        return b.select(b.icmp_signed(order, x, y), x, y)
    if c.dtype.kind == "uint":
        return b.select(b.icmp_unsigned(order, x, y), x, y)
    if _is_plain_number(y):
        x, y = y, x
    # This select is one instruction on x86; it gives y where either is nan.
    chosen = b.select(b.fcmp_ordered(order, x, y), x, y)
    if _is_plain_number(x):
        return chosen
    return b.select(b.fcmp_unordered("uno", x, x), x, chosen)


def _extremum(largest: bool) -> Sequence:
    return lambda c, x, y: extremum(c, x, y, largest)


def _compare(order: str) -> Sequence:
    def emit(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
        if c.dtype.is_floating_point:
            compare = c.builder.fcmp_unordered if order == "!=" else c.builder.fcmp_ordered
            return compare(order, x, y)
        if c.dtype.kind == "int":
            return c.builder.icmp_signed(order, x, y)
        return c.builder.icmp_unsigned(order, x, y)

    return emit


def _where(c: Context, condition: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    return c.builder.select(condition, x, y)


# Bits ---------------------------------------------------------------------------------------------


def _bitwise(instruction: str) -> Sequence:
    return lambda c, x, y: getattr(c.builder, instruction)(x, y)


def _not(c: Context, x: ir.Value) -> ir.Value:
    return c.builder.xor(x, constant(x.type, -1))


def _shift(left: bool) -> Sequence:
    def emit(c: Context, x: ir.Value, y: ir.Value) -> ir.Value:
        b = c.builder
        if c.dtype.kind == "bool":
            # NumPy shifts 0 or 1 by 0 or 1 and tests for nonzero.
            return x if left else b.and_(x, b.xor(y, constant(y.type, -1)))
        amount = b.and_(y, constant(y.type, c.dtype.bits - 1))
        if left:
            return b.shl(x, amount)
        return b.ashr(x, amount) if c.dtype.kind == "int" else b.lshr(x, amount)

    return emit


def _cast(c: Context, x: ir.Value) -> ir.Value:
    return conversions.cast(c.builder, x, c.dtype, c.result, c.target)


def _bitcast(c: Context, x: ir.Value) -> ir.Value:
    return conversions.bitcast(c.builder, x, c.dtype, c.result, c.target)


SEQUENCES: Mapping[str, Sequence] = {
    "add": _arithmetic("add", "fadd", "add", "or_"),
    "sub": _arithmetic("sub", "fsub", "sub", "xor"),
    "mul": _arithmetic("mul", "fmul", "mul", "and_"),
    "div": _div,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "gcd": _gcd,
    "maximum": _extremum(True),
    "minimum": _extremum(False),
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "sqrt": _sqrt,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "round": _rounding("rint"),
    **{
        name: _math(name)
        for name in (
            "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "atan", "atan2", "pow",
        )
    },
    "eq": _compare("=="),
    "ne": _compare("!="),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "bitwise_and": _bitwise("and_"),
    "bitwise_or": _bitwise("or_"),
    "bitwise_xor": _bitwise("xor"),
    "bitwise_not": _not,
    "shift_left": _shift(True),
    "shift_right": _shift(False),
    "where": _where,
    "cast": _cast,
    "bitcast": _bitcast,
}  # fmt: skip
