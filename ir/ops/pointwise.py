"""Primitive elementwise operations: the scalar instruction set of Braze.

Both code generators have an instruction sequence for each of these and for no other elementwise
operation; composites (`sigmoid`, `gelu`, ...) expand into them. Operands have one dtype (casts are
explicit) and broadcast as in NumPy. Integer arithmetic wraps around. `bool` operands only where
stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bool_
from braze.ir.errors import DTypeError
from braze.ir.op import Op, Rule, declare
from braze.ir.ops import complex_rules
from braze.ir.ops.rules import common_dtype, floating, numeric, predicate, same
from braze.ir.special_functions import erf as special_erf
from braze.ir.types import TensorType, broadcast_shapes, tensor_type

Domain = tuple[float, float]


def _pointwise(
    name: str,
    operands: str,
    evaluate: Rule,
    doc: str,
    *,
    infer: Callable[..., tuple[TensorType, ...]] | None = None,
    gradients: Mapping[str, Rule] | None = None,
    complex: Rule | bool = False,
    domain: Domain = (-2.0, 2.0),
    cost: int = 1,
) -> Op:
    return declare(
        name,
        "pointwise",
        operands,
        infer=infer or same(name),
        evaluate=_quiet(evaluate),
        gradients=gradients,
        differentiable=gradients is not None,
        broadcasts=True,
        complex=complex,
        domain=domain,
        cost=cost,
        doc=doc,
    )


def _quiet(evaluate: Rule) -> Rule:
    """NumPy warns where IEEE arithmetic gives inf or nan; here that is the specified result."""

    def run(*operands: np.ndarray, **attributes: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            result: np.ndarray = evaluate(*operands, **attributes)
        return result

    return run


def _keep_dtype(function: Callable[..., np.ndarray]) -> Rule:
    """For NumPy functions that widen some dtypes: give back the operand's."""
    return lambda x: np.asarray(function(x), dtype=x.dtype)


# Arithmetic ---------------------------------------------------------------------------------------

add = _pointwise(
    "add",
    "x y",
    np.add,
    "x + y; logical or for bool.",
    gradients={"x": lambda b, g: g, "y": lambda b, g: g},
    complex=True,
)
sub = _pointwise(
    "sub",
    "x y",
    np.subtract,
    "x - y.",
    infer=numeric("sub"),
    gradients={"x": lambda b, g: g, "y": lambda b, g: b.neg(g)},
    complex=True,
)
mul = _pointwise(
    "mul",
    "x y",
    np.multiply,
    "x * y; logical and for bool.",
    gradients={"x": lambda b, g, y: b.mul(g, y), "y": lambda b, g, x: b.mul(g, x)},
    complex=complex_rules.mul,
)
div = _pointwise(
    "div",
    "x y",
    np.divide,
    "x / y for floating-point and complex operands.",
    infer=floating("div"),
    complex=complex_rules.div,
    gradients={
        "x": lambda b, g, y: b.div(g, y),
        # Without the result, which a program may overwrite.
        "y": lambda b, g, x, y: b.neg(b.div(b.mul(g, b.div(x, y)), y)),
    },
    domain=(0.5, 2.0),
    cost=5,
)


def _floor_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind in "iu":  # an integer division by zero gives zero on every backend
        return np.where(y == 0, 0, np.floor_divide(x, np.where(y == 0, 1, y))).astype(x.dtype)
    return np.asarray(np.floor(np.divide(x, y)))


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind in "iu":
        return np.where(y == 0, 0, np.remainder(x, np.where(y == 0, 1, y))).astype(x.dtype)
    return np.asarray(np.remainder(x, y))


floor_divide = _pointwise(
    "floor_divide",
    "x y",
    _floor_divide,
    "floor(x / y); 0 where an integer y is 0. The smallest integer by -1 wraps around to itself.",
    infer=numeric("floor_divide"),
    cost=6,
)
remainder = _pointwise(
    "remainder",
    "x y",
    _remainder,
    "What division leaves, with the sign of y, as Python's %; 0 where an integer y is 0.",
    infer=numeric("remainder"),
    gradients={
        "x": lambda b, g: g,
        "y": lambda b, g, x, y: b.neg(b.mul(g, b.floor_divide(x, y))),
    },
    domain=(0.5, 2.0),
    cost=6,
)


def _pow_base_gradient(b: Any, g: Any, x: Any, y: Any) -> Any:
    """g y x**(y - 1); 0 where y is 0, at x = 0 too, where the formula gives 0 * inf."""
    slope = b.mul(y, b.pow(x, b.sub(y, 1.0)))
    return b.mul(g, b.where(b.eq(y, 0.0), 0.0, slope))


def _pow_exponent_gradient(b: Any, g: Any, x: Any, y: Any, out: Any) -> Any:
    """g x**y log(x); 0 where 0 is raised to something not negative, as PyTorch has it."""
    real = b.real(y) if y.type.dtype.is_complex else y
    flat = b.bitwise_and(b.eq(x, 0.0), b.ge(real, 0.0))
    return b.mul(g, b.where(flat, 0.0, b.mul(out, b.log(x))))


pow = _pointwise(
    "pow",
    "x y",
    np.power,
    "x ** y for floating-point and complex operands.",
    infer=floating("pow"),
    complex=complex_rules.power,
    gradients={"x": _pow_base_gradient, "y": _pow_exponent_gradient},
    domain=(0.5, 2.0),
    cost=40,
)
maximum = _pointwise(
    "maximum",
    "x y",
    np.maximum,
    "The larger operand; nan if either is nan. The gradient is halved where they are equal.",
    gradients={
        "x": lambda b, g, x, y: b.mul(g, _tie_share(b, x, y)),
        "y": lambda b, g, x, y: b.mul(g, _tie_share(b, y, x)),
    },
)
minimum = _pointwise(
    "minimum",
    "x y",
    np.minimum,
    "The smaller operand; nan if either is nan. The gradient is halved where they are equal.",
    gradients={
        "x": lambda b, g, x, y: b.mul(g, _tie_share(b, y, x)),
        "y": lambda b, g, x, y: b.mul(g, _tie_share(b, x, y)),
    },
)
atan2 = _pointwise(
    "atan2",
    "y x",
    np.arctan2,
    "The angle of the point (x, y) in (-pi, pi].",
    infer=floating("atan2"),
    gradients={
        "y": lambda b, g, y, x: b.div(b.mul(g, x), b.add(b.mul(x, x), b.mul(y, y))),
        "x": lambda b, g, y, x: b.neg(b.div(b.mul(g, y), b.add(b.mul(x, x), b.mul(y, y)))),
    },
    domain=(0.5, 2.0),
    cost=25,
)


def _tie_share(b: Any, winner: Any, other: Any) -> Any:
    """0.5 where equal, 0 where winner < other, else, also for nans, 1 (PyTorch's subgradient)."""
    half = b.mul(b.cast(b.eq(winner, other), dtype=winner.type.dtype), 0.5)
    return b.sub(b.sub(1.0, b.cast(b.lt(winner, other), dtype=winner.type.dtype)), half)


# One operand --------------------------------------------------------------------------------------

neg = _pointwise(
    "neg",
    "x",
    np.negative,
    "-x.",
    infer=numeric("neg"),
    gradients={"x": lambda b, g: b.neg(g)},
    complex=True,
)
abs = _pointwise(
    "abs",
    "x",
    np.abs,
    "|x|.",
    infer=numeric("abs"),
    gradients={"x": lambda b, g, x: b.mul(g, b.sign(x))},
)
sign = _pointwise(
    "sign",
    "x",
    lambda x: np.where(x == x, np.sign(x), x.dtype.type(0)),
    "-1, 0 or 1 (0 for nan).",
    infer=numeric("sign"),
    gradients={"x": lambda b, g: b.mul(g, 0.0)},
)


def _unary(
    name: str,
    evaluate: Rule,
    doc: str,
    gradient: Rule,
    domain: Domain = (-2, 2),
    cost: int = 15,
    complex: Rule | bool = False,
) -> Op:
    return _pointwise(
        name,
        "x",
        _keep_dtype(evaluate),
        doc,
        infer=floating(name),
        gradients={"x": gradient},
        domain=domain,
        cost=cost,
        complex=complex,
    )


exp = _unary(
    "exp", np.exp, "e ** x.", lambda b, g, out: b.mul(g, out), complex=complex_rules.exp
)


def _expm1(x: np.ndarray) -> np.ndarray:
    """NumPy's of complex infinities and nans is not C's; its exponential is."""
    result: np.ndarray = np.expm1(x)
    if result.dtype.kind == "c":
        result = np.where(np.isfinite(x), result, np.exp(x) - 1)
        result.real += 0.0  # not -0: the standard's
    return result


expm1 = _unary(
    "expm1",
    _expm1,
    "e ** x - 1, exact near 0.",
    lambda b, g, out: b.mul(g, b.add(out, 1.0)),
    complex=complex_rules.expm1,
)
log = _unary(
    "log",
    np.log,
    "Natural logarithm.",
    lambda b, g, x: b.div(g, x),
    (0.1, 4),
    complex=complex_rules.log,
)
log1p = _unary(
    "log1p",
    np.log1p,
    "log(1 + x), exact near 0.",
    lambda b, g, x: b.div(g, b.add(x, 1.0)),
    (-0.5, 4),
    complex=complex_rules.log1p,
)
sqrt = _unary(
    "sqrt",
    np.sqrt,
    "Square root.",
    lambda b, g, out: b.div(b.mul(g, 0.5), out),
    (0.1, 4),
    6,
    complex_rules.sqrt,
)
sin = _unary(
    "sin", np.sin, "Sine.", lambda b, g, x: b.mul(g, b.cos(x)), complex=complex_rules.sin
)
cos = _unary(
    "cos", np.cos, "Cosine.", lambda b, g, x: b.neg(b.mul(g, b.sin(x))), complex=complex_rules.cos
)
tanh = _unary(
    "tanh",
    np.tanh,
    "Hyperbolic tangent.",
    lambda b, g, out: b.mul(g, b.sub(1.0, b.mul(out, out))),
    complex=complex_rules.tanh,
)
atan = _unary(
    "atan",
    np.arctan,
    "Inverse tangent.",
    lambda b, g, x: b.div(g, b.add(b.mul(x, x), 1.0)),
    complex=complex_rules.atan,
)


TWO_OVER_SQRT_PI = 1.1283791670955126

erf = _unary(
    "erf",
    lambda x: special_erf(np.asarray(x, dtype=np.float64)),
    "Error function.",
    lambda b, g, x: b.mul(g, b.mul(b.exp(b.neg(b.mul(x, x))), TWO_OVER_SQRT_PI)),
)


def _rounding(name: str, evaluate: Rule, doc: str) -> Op:
    gradients = {"x": lambda b, g: b.mul(g, 0.0)}
    return _pointwise(
        name, "x", _keep_dtype(evaluate), doc, infer=floating(name), gradients=gradients
    )


floor = _rounding("floor", np.floor, "Largest integer not above x.")
ceil = _rounding("ceil", np.ceil, "Smallest integer not below x.")
trunc = _rounding("trunc", np.trunc, "x without its fraction.")
round = _rounding("round", np.rint, "Nearest integer, ties to even.")

# Comparison and logic -----------------------------------------------------------------------------


def _compare(name: str, evaluate: Rule, doc: str, complex: Rule | bool = False) -> Op:
    return _pointwise(name, "x y", evaluate, doc, infer=predicate(name), complex=complex)


eq = _compare("eq", np.equal, "x == y.", complex_rules.equal)
ne = _compare("ne", np.not_equal, "x != y.", complex_rules.unequal)
lt = _compare("lt", np.less, "x < y.")
le = _compare("le", np.less_equal, "x <= y.")
gt = _compare("gt", np.greater, "x > y.")
ge = _compare("ge", np.greater_equal, "x >= y.")


def _bitwise(name: str, operands: str, evaluate: Rule, doc: str) -> Op:
    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        for t in types:
            if t.dtype.is_floating_point:
                raise DTypeError(f"[{name}] needs integer or bool operands, given {t}")
            if t.dtype is bool_ and name.startswith("shift"):
                raise DTypeError(f"[{name}] needs integer operands, given {t}")
        return same(name)(*types)

    return _pointwise(name, operands, evaluate, doc, infer=infer)


bitwise_and = _bitwise("bitwise_and", "x y", np.bitwise_and, "x & y (logical for bool).")
bitwise_or = _bitwise("bitwise_or", "x y", np.bitwise_or, "x | y (logical for bool).")
bitwise_xor = _bitwise("bitwise_xor", "x y", np.bitwise_xor, "x ^ y (logical for bool).")
bitwise_not = _bitwise("bitwise_not", "x", np.invert, "~x (logical not for bool).")


def _shift(function: Callable[..., np.ndarray]) -> Rule:
    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(function(x, y & (x.dtype.itemsize * 8 - 1)), dtype=x.dtype)

    return run


shift_left = _bitwise(
    "shift_left", "x y", _shift(np.left_shift), "x << y; y is taken modulo the width."
)
shift_right = _bitwise(
    "shift_right",
    "x y",
    _shift(np.right_shift),
    "x >> y: arithmetic for signed, logical for unsigned; y is taken modulo the width.",
)


def _where_types(condition: TensorType, x: TensorType, y: TensorType) -> tuple[TensorType, ...]:
    if condition.dtype is not bool_:
        raise DTypeError(f"[where] the condition must be bool, given {condition}")
    dtype = common_dtype("where", x, y)
    shape = broadcast_shapes("where", condition, x, y)
    return (tensor_type(dtype, shape),)


where = _pointwise(
    "where",
    "condition x y",
    np.where,
    "x where the condition holds, else y.",
    infer=_where_types,
    gradients={
        "x": lambda b, g, condition: b.where(condition, g, 0.0),
        "y": lambda b, g, condition: b.where(condition, 0.0, g),
    },
    complex=True,
)


# Conversion ---------------------------------------------------------------------------------------


def _cast_types(x: TensorType, *, dtype: DType) -> tuple[TensorType, ...]:
    return (x.with_dtype(dtype),)


def _cast(x: np.ndarray, *, dtype: DType) -> np.ndarray:
    if x.dtype.kind == "c" and not (dtype.is_complex or dtype is bool_):
        x = x.real
    return x.astype(dtype.numpy)


cast = declare(
    "cast",
    "pointwise",
    "x",
    infer=_cast_types,
    evaluate=_quiet(_cast),
    attributes={"dtype": DType},
    gradients={"x": lambda b, g, x_type: b.cast(g, dtype=x_type.dtype)},
    broadcasts=True,
    complex=complex_rules.cast,
    doc="""The same values in another dtype: float to integer truncates, to bool tests for nonzero,
complex to real takes the real part.""",
)


def _bitcast_types(x: TensorType, *, dtype: DType) -> tuple[TensorType, ...]:
    if dtype.is_complex:
        raise DTypeError(f"[bitcast] complex numbers are pairs, given {x} to {dtype.name}")
    if dtype is not x.dtype and bool_ in (dtype, x.dtype):
        raise DTypeError(f"[bitcast] a bool has no bit pattern of its own: {x} to {dtype.name}")
    if dtype.itemsize != x.dtype.itemsize:
        raise DTypeError(f"[bitcast] {x.dtype.name} and {dtype.name} differ in width")
    return (x.with_dtype(dtype),)


bitcast = declare(
    "bitcast",
    "pointwise",
    "x",
    infer=_bitcast_types,
    evaluate=lambda x, *, dtype: x.view(dtype.numpy),
    attributes={"dtype": DType},
    differentiable=False,
    broadcasts=True,
    doc="The same bits read as another dtype of the same width.",
)
