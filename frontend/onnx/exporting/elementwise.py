"""How elementwise operations, reductions and scans are written in ONNX."""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import DType, bool_, i32, i64
from braze.ir.symint import is_symbolic
from braze.onnx.exporting.writer import END, Operand, Writer
from braze.onnx.protos import ELEMENT_TYPES
from braze.onnx.rules import exports

# Operations that ONNX has under another name.
SAME = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "det": "Det",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "isinf": "IsInf",
    "isnan": "IsNaN",
    "le": "LessOrEqual",
    "log": "Log",
    "lt": "Less",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "pow": "Pow",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
    "where": "Where",
}
# On truth values they are logical operations.
LOGICAL = {"add": "Or", "mul": "And", "maximum": "Or", "minimum": "And", "ne": "Xor"}
BITS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor"}
TRUTHS = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}


def _same(op: str) -> Any:
    def rule(w: Writer, *xs: Operand) -> str:
        if op in LOGICAL and xs[0].dtype is bool_:
            return w.node(LOGICAL[op], *xs)
        return w.node(SAME[op], *xs)

    return rule


for _op in SAME:
    exports(_op)(_same(_op))


def _truth(w: Writer, x: Operand) -> Operand | str:
    return x if x.dtype is bool_ else w.cast(x, bool_)


def _logical(op: str) -> Any:
    def rule(w: Writer, x: Operand, y: Operand) -> str:
        return w.node(TRUTHS[op], _truth(w, x), _truth(w, y))

    return rule


def _bits(op: str) -> Any:
    def rule(w: Writer, x: Operand, y: Operand) -> str:
        return w.node(BITS[op] if x.dtype is bool_ else f"Bitwise{BITS[op]}", x, y)

    return rule


for _op in TRUTHS:
    exports(_op)(_logical(_op))
for _op in BITS:
    exports(_op)(_bits(_op))


@exports("logical_not")
def logical_not(w: Writer, x: Operand) -> str:
    return w.node("Not", _truth(w, x))


@exports("bitwise_not")
def bitwise_not(w: Writer, x: Operand) -> str:
    return w.node("Not" if x.dtype is bool_ else "BitwiseNot", x)


@exports("ne")
def ne(w: Writer, x: Operand, y: Operand) -> str:
    return w.node("Not", w.node("Equal", x, y))


@exports("div")
def div(w: Writer, x: Operand, y: Operand) -> str:
    return w.node("Div", x, y)


@exports("floor_divide")
def floor_divide(w: Writer, x: Operand, y: Operand) -> str:
    if x.dtype.is_floating_point:
        return w.node("Floor", w.node("Div", x, y))
    # Mod has the divisor's sign, so that what is left can be divided.
    return w.node("Div", w.node("Sub", x, w.node("Mod", x, y)), y)


@exports("remainder")
def remainder(w: Writer, x: Operand, y: Operand) -> str:
    if not x.dtype.is_floating_point:
        return w.node("Mod", x, y)
    rest = w.node("Mod", x, y, fmod=1)
    zero = w.scalar(0, x.dtype)
    wrong = w.node("Less", w.node("Mul", rest, y), zero)
    return w.node("Where", wrong, w.node("Add", rest, y), rest)


@exports("fmod")
def fmod(w: Writer, x: Operand, y: Operand) -> str:
    return w.node("Mod", x, y, fmod=1)


@exports("cast")
def cast(w: Writer, x: Operand, dtype: Any) -> str:
    if dtype.is_complex or x.dtype.is_complex:
        raise NotImplementedError(f"[cast] ONNX casts no complex numbers: {x.dtype} to {dtype}")
    return w.node("Cast", x, to=ELEMENT_TYPES[dtype])


@exports("square")
def square(w: Writer, x: Operand) -> str:
    return w.node("Mul", x, x)


@exports("rsqrt")
def rsqrt(w: Writer, x: Operand) -> str:
    return w.node("Reciprocal", w.node("Sqrt", x))


@exports("expm1")
def expm1(w: Writer, x: Operand) -> str:
    # tanh(x / 2) (exp(x) + 1), which near 0 loses nothing.
    one, two = w.scalar(1, x.dtype), w.scalar(2, x.dtype)
    small = w.node(
        "Mul", w.node("Tanh", w.node("Div", x, two)), w.node("Add", w.node("Exp", x), one)
    )
    far = w.node("Greater", w.node("Abs", x), one)
    return w.node("Where", far, w.node("Sub", w.node("Exp", x), one), small)


@exports("log1p")
def log1p(w: Writer, x: Operand) -> str:
    # Kahan's: log(u) x / (u - 1) for u = 1 + x, and x where u is 1.
    one = w.scalar(1, x.dtype)
    u = w.node("Add", x, one)
    exact = w.node("Equal", u, one)
    less = w.node("Where", exact, one, w.node("Sub", u, one))
    ratio = w.node("Div", x, less)
    infinite = w.node("IsInf", x)
    product = w.node("Mul", w.node("Log", u), w.node("Where", infinite, one, ratio))
    return w.node("Where", exact, x, product)


def _logarithm(base: float) -> Any:
    def rule(w: Writer, x: Operand) -> str:
        return w.node("Mul", w.node("Log", x), w.scalar(1 / math.log(base), x.dtype))

    return rule


exports("log2")(_logarithm(2.0))
exports("log10")(_logarithm(10.0))


@exports("atan2")
def atan2(w: Writer, y: Operand, x: Operand) -> str:
    zero, one = w.scalar(0, x.dtype), w.scalar(1, x.dtype)
    pi = w.scalar(math.pi, x.dtype)
    # Without a quotient that is not a number where both are 0 or infinite.
    large = w.node("And", w.node("IsInf", x), w.node("IsInf", y))
    nothing = w.node("And", w.node("Equal", x, zero), w.node("Equal", y, zero))
    below = w.node("Where", nothing, one, w.node("Abs", x))
    ratio = w.node("Where", large, one, w.node("Div", w.node("Abs", y), below))
    angle = w.node("Atan", ratio)
    # The sign of a zero is seen in what it divides.
    left = w.node("Less", w.node("Where", w.node("Equal", x, zero), w.node("Div", one, x), x), zero)
    angle = w.node("Where", left, w.node("Sub", pi, angle), angle)
    down = w.node("Less", w.node("Where", w.node("Equal", y, zero), w.node("Div", one, y), y), zero)
    return w.node("Where", down, w.node("Neg", angle), angle)


def _count(w: Writer, y: Operand, bits: int) -> str:
    """How far to shift, modulo the width."""
    return w.node("Mod", y, w.scalar(bits, y.dtype))


def _powers(w: Writer, count: str, dtype: DType) -> tuple[str, str]:
    """2 to a count, but half of that where it is no number of the dtype; and where that is."""
    most = w.scalar(dtype.bits - 2, dtype)
    power = w.node("Pow", w.scalar(2, dtype), w.node("Min", count, most))
    return power, w.node("Greater", count, most)


@exports("shift_left")
def shift_left(w: Writer, x: Operand, y: Operand) -> str:
    count = _count(w, y, x.dtype.bits)
    if x.dtype.kind == "uint":
        return w.node("BitShift", x, count, direction="LEFT")
    power, halved = _powers(w, count, x.dtype)
    shifted = w.node("Mul", x, power)
    return w.node("Where", halved, w.node("Add", shifted, shifted), shifted)


@exports("shift_right")
def shift_right(w: Writer, x: Operand, y: Operand) -> str:
    count = _count(w, y, x.dtype.bits)
    if x.dtype.kind == "uint":
        return w.node("BitShift", x, count, direction="RIGHT")
    power, halved = _powers(w, count, x.dtype)
    down = w.node("Div", w.node("Sub", x, w.node("Mod", x, power)), power)
    zero, minus = w.scalar(0, x.dtype), w.scalar(-1, x.dtype)
    sign = w.node("Where", w.node("Less", x, zero), minus, zero)
    return w.node("Where", halved, sign, down)


@exports("cumprod")
def cumprod(w: Writer, x: Operand, dim: int, reverse: bool) -> str:
    # Each result is a product over a row, in which what comes later is 1.
    size = w.scalar(x.shape[dim], i64)
    places = w.node("Range", w.scalar(0, i64), size, w.scalar(1, i64))
    own = w.unsqueeze(places, *(d + 1 for d in range(x.rank - dim)))
    other = w.unsqueeze(places, *range(1, x.rank - dim))
    seen = w.node("GreaterOrEqual", *((other, own) if reverse else (own, other)))
    rows = w.node("Where", seen, w.unsqueeze(x, dim), w.scalar(1, x.dtype))
    return w.reduce("ReduceProd", rows, [dim + 1], False)


@exports("trunc")
def trunc(w: Writer, x: Operand) -> str:
    if not x.dtype.is_floating_point:
        return w.node("Identity", x)
    return w.node("Mul", w.node("Sign", x), w.node("Floor", w.node("Abs", x)))


@exports("clamp")
def clamp(w: Writer, x: Operand, low: Operand, high: Operand) -> str:
    if low.rank or high.rank:
        return w.node("Min", w.node("Max", x, low), high)
    return w.node("Clip", x, low, high)


@exports("clamp_min")
def clamp_min(w: Writer, x: Operand, low: Operand) -> str:
    return w.node("Max", x, low)


@exports("clamp_max")
def clamp_max(w: Writer, x: Operand, high: Operand) -> str:
    return w.node("Min", x, high)


@exports("masked_fill")
def masked_fill(w: Writer, x: Operand, mask: Operand, value: float) -> str:
    return w.node("Where", mask, w.scalar(value, x.dtype), x)


# Activations --------------------------------------------------------------------------------------


@exports("leaky_relu")
def leaky_relu(w: Writer, x: Operand, slope: float) -> str:
    return w.node("LeakyRelu", x, alpha=float(slope))


@exports("elu")
def elu(w: Writer, x: Operand, alpha: float) -> str:
    return w.node("Elu", x, alpha=float(alpha))


@exports("celu")
def celu(w: Writer, x: Operand, alpha: float) -> str:
    return w.node("Celu", x, alpha=float(alpha))


@exports("hardtanh")
def hardtanh(w: Writer, x: Operand, low: float, high: float) -> str:
    if x.dtype.kind == "uint":
        low, high = max(low, 0), max(high, 0)
    return w.node("Clip", x, w.scalar(low, x.dtype), w.scalar(high, x.dtype))


@exports("silu")
def silu(w: Writer, x: Operand) -> str:
    return w.node("Mul", x, w.node("Sigmoid", x))


@exports("gelu")
def gelu(w: Writer, x: Operand, approximate: str) -> str:
    if w.opset >= 20:
        return w.node("Gelu", x, approximate=approximate)
    if approximate == "tanh":
        cube = w.node("Mul", w.node("Mul", x, x), x)
        inner = w.node("Add", x, w.node("Mul", cube, w.scalar(0.044715, x.dtype)))
        t = w.node("Tanh", w.node("Mul", inner, w.scalar(0.7978845608028654, x.dtype)))
    else:
        t = w.node("Erf", w.node("Div", x, w.scalar(1.4142135623730951, x.dtype)))
    whole = w.node("Mul", x, w.node("Add", t, w.scalar(1, x.dtype)))
    return w.node("Mul", whole, w.scalar(0.5, x.dtype))


@exports("softplus")
def softplus(w: Writer, x: Operand, beta: float, threshold: float) -> str:
    # Beyond the threshold the result is x to the last bit or nearly so, for usual thresholds.
    factor = w.scalar(beta, x.dtype)
    scaled = w.node("Mul", x, factor)
    soft = w.node("Div", w.node("Softplus", scaled), factor)
    far = w.node("Greater", scaled, w.scalar(threshold, x.dtype))
    return w.node("Where", far, x, soft)


@exports("softmax")
def softmax(w: Writer, x: Operand, dim: int) -> str:
    return w.node("Softmax", x, axis=int(dim))


@exports("log_softmax")
def log_softmax(w: Writer, x: Operand, dim: int) -> str:
    return w.node("LogSoftmax", x, axis=int(dim))


# Reductions and scans -----------------------------------------------------------------------------

REDUCTIONS = {
    "sum": "ReduceSum",
    "prod": "ReduceProd",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "mean": "ReduceMean",
    "logsumexp": "ReduceLogSumExp",
}


def _reduction(op: str) -> Any:
    def rule(w: Writer, x: Operand, dims: tuple[int, ...], keepdim: bool) -> str:
        result = w.results[0].dtype
        if x.dtype is bool_:
            return w.cast(w.reduce(REDUCTIONS[op], w.cast(x, i32), dims, keepdim), result)
        own: Operand | str = x if x.dtype is result else w.cast(x, result)
        return w.reduce(REDUCTIONS[op], own, dims, keepdim)

    return rule


for _op in REDUCTIONS:
    exports(_op)(_reduction(_op))


@exports("any")
def any_(w: Writer, x: Operand, dims: tuple[int, ...], keepdim: bool) -> str:
    # Of nothing, the maximum is the lowest number.
    whole = w.reduce("ReduceMax", w.cast(_truth(w, x), i32), dims, keepdim)
    return w.node("Greater", whole, w.scalar(0, i32))


@exports("all")
def all_(w: Writer, x: Operand, dims: tuple[int, ...], keepdim: bool) -> str:
    whole = w.reduce("ReduceMin", w.cast(_truth(w, x), i32), dims, keepdim)
    return w.cast(whole, bool_)


def _extreme(name: str) -> Any:
    def rule(w: Writer, x: Operand, dims: tuple[int, ...], keepdim: bool) -> str:
        source: Operand | str = w.cast(x, i32) if x.dtype is bool_ else x
        if len(dims) == 1:
            return w.node(name, source, axis=dims[0], keepdims=int(keepdim))
        # Of several dimensions it is the place in all of them, one after the other.
        rest = [d for d in range(x.rank) if d not in dims]
        moved = w.permute(source, [*rest, *dims])
        shape = [*(x.shape[d] for d in rest), -1]
        if is_symbolic(*shape):
            flat = w.node("Reshape", moved, w.ints(shape))
        else:
            flat = w.reshape(moved, shape)
        found = w.node(name, flat, axis=len(rest), keepdims=0)
        return w.unsqueeze(found, *sorted(dims)) if keepdim else found

    return rule


exports("argmax")(_extreme("ArgMax"))
exports("argmin")(_extreme("ArgMin"))


@exports("cumsum")
def cumsum(w: Writer, x: Operand, dim: int, reverse: bool) -> str:
    return w.node("CumSum", x, w.constant(dim, i64), reverse=int(reverse))


@exports("sort")
def sort(w: Writer, x: Operand, dim: int, descending: bool) -> list[str]:
    size = w.ints([x.shape[dim]])
    return w.nodes_of("TopK", 2, x, size, axis=dim, largest=int(descending))


@exports("topk")
def topk(w: Writer, x: Operand, dim: int, k: int, largest: bool) -> list[str]:
    return w.nodes_of("TopK", 2, x, w.ints([k]), axis=dim, largest=int(largest))


@exports("flip")
def flip(w: Writer, x: Operand, dims: tuple[int, ...]) -> str:
    if not dims:
        return w.node("Identity", x)
    count = len(dims)
    return w.slice(x, dims, [-1] * count, [-END] * count, [-1] * count)
