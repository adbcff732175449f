"""Composite elementwise functions: powers, logarithms, trigonometry, logic, clamping.

`erfc` follows Cephes (`ndtr.c`, S. L. Moshier); subgradients are PyTorch's
(tools/autograd/derivatives.yaml).
"""

from __future__ import annotations

import math
from typing import Any

from braze.ir.dtypes import bool_
from braze.ir.op import Op, Rule, declare
from braze.ir.ops import complex_rules
from braze.ir.ops.composite import as_dtype, in_wide, polynomial
from braze.ir.ops.rules import floating, same
from braze.ir.types import TensorType, broadcast_shapes, tensor_type


def _unary(
    name: str,
    decompose: Rule,
    gradient: Rule,
    doc: str,
    *,
    domain: tuple[float, float] = (-2.0, 2.0),
    infer: Any = None,
    complex: Rule | bool = False,
) -> Op:
    return declare(
        name,
        "composite",
        "x",
        infer=infer or floating(name),
        decompose=decompose,
        gradients={"x": gradient},
        complex=complex,
        domain=domain,
        doc=doc,
    )


# Powers, exponentials and logarithms --------------------------------------------------------------

square = _unary(
    "square",
    lambda b, x: b.mul(x, x),
    lambda b, g, x: b.mul(g, b.mul(x, 2.0)),
    "x * x.",
    infer=same("square"),
    complex=True,
)
rsqrt = _unary(
    "rsqrt",
    lambda b, x: b.div(1.0, b.sqrt(x)),
    lambda b, g, out: b.mul(g, b.mul(b.mul(b.mul(out, out), out), -0.5)),
    "1 / sqrt(x).",
    complex=True,
    domain=(0.1, 4.0),
)
reciprocal = _unary(
    "reciprocal",
    lambda b, x: b.div(1.0, x),
    lambda b, g, out: b.neg(b.mul(g, b.mul(out, out))),
    "1 / x.",
    complex=True,
    domain=(0.5, 2.0),
)
exp2 = _unary(
    "exp2",
    lambda b, x: b.pow(2.0, x),
    lambda b, g, out: b.mul(g, b.mul(out, math.log(2.0))),
    "2 ** x.",
    complex=True,
)


# Trigonometric and hyperbolic functions -----------------------------------------------------------

sinh = _unary(
    "sinh",
    lambda b, x: b.mul(b.sub(b.expm1(x), b.expm1(b.neg(x))), 0.5),
    lambda b, g, x: b.mul(g, b.cosh(x)),
    "(e ** x - e ** -x) / 2.",
    complex=complex_rules.sinh,
)
cosh = _unary(
    "cosh",
    lambda b, x: b.mul(b.add(b.exp(x), b.exp(b.neg(x))), 0.5),
    lambda b, g, x: b.mul(g, b.sinh(x)),
    "(e ** x + e ** -x) / 2.",
    complex=complex_rules.cosh,
)
tan = _unary(
    "tan",
    lambda b, x: b.div(b.sin(x), b.cos(x)),
    lambda b, g, out: b.mul(g, b.add(b.mul(out, out), 1.0)),
    "Tangent.",
    complex=complex_rules.tan,
    domain=(-1.2, 1.2),
)


def _leg(b: Any, x: Any) -> Any:
    """sqrt(1 - x ** 2), exact near |x| = 1."""
    return b.sqrt(b.mul(b.sub(1.0, x), b.add(x, 1.0)))


asin = _unary(
    "asin",
    lambda b, x: b.atan2(x, _leg(b, x)),
    lambda b, g, x: b.div(g, _leg(b, x)),
    "Inverse sine; nan for real numbers outside -1..1.",
    complex=complex_rules.asin,
    domain=(-0.9, 0.9),
)
acos = _unary(
    "acos",
    lambda b, x: b.atan2(_leg(b, x), x),
    lambda b, g, x: b.neg(b.div(g, _leg(b, x))),
    "Inverse cosine; nan for real numbers outside -1..1.",
    complex=complex_rules.acos,
    domain=(-0.9, 0.9),
)

# erfc(x) = exp(-x ** 2) * P(x) / Q(x) for 1 <= x < 8 and exp(-x ** 2) * R(x) / S(x) beyond;
# highest power first.
ERFC_P = (
    2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0,
    4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
    9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2,
)  # fmt: skip
ERFC_Q = (
    1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
    9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
    1.65666309194161350182e3, 5.57535340817727675546e2,
)  # fmt: skip
ERFC_R = (
    5.64189583547755073984e-1, 1.27536670759978104416e0, 5.01905042251180477414e0,
    6.16021097993053585195e0, 7.40974269950448939160e0, 2.97886665372100240670e0,
)  # fmt: skip
ERFC_S = (
    1.0, 2.26052863220117276590e0, 9.39603524938001434673e0, 1.20489539808096656605e1,
    1.70814450747565897222e1, 9.60896809063285878198e0, 3.36907645100081516050e0,
)  # fmt: skip


def square_in_parts(b: Any, x: Any) -> tuple[Any, Any]:
    """x * x as an exact part and the rest: e ** (x * x) would magnify the rounding of the square.

    The upper part has so few bits that its square is exact, as in W. J. Cody's CALERF.
    """
    high = b.mul(b.round(b.mul(x, 16.0)), 1.0 / 16)
    return b.mul(high, high), b.mul(b.sub(x, high), b.add(x, high))


def _erfc(b: Any, x: Any) -> Any:
    size = b.abs(x)
    # Beyond 30 the result is 0 in every dtype; the limit keeps inf / inf out of the quotients.
    limited = b.minimum(size, 30.0)
    middle = b.div(polynomial(b, limited, ERFC_P), polynomial(b, limited, ERFC_Q))
    far = b.div(polynomial(b, limited, ERFC_R), polynomial(b, limited, ERFC_S))
    square, rest = square_in_parts(b, limited)
    gauss = b.mul(b.exp(b.neg(square)), b.exp(b.neg(rest)))
    tail = b.mul(gauss, b.where(b.lt(size, 8.0), middle, far))
    outer = b.where(b.lt(x, 0.0), b.sub(2.0, tail), tail)
    return b.where(b.lt(size, 1.0), b.sub(1.0, b.erf(x)), outer)


erfc = _unary(
    "erfc",
    in_wide(_erfc),
    lambda b, g, x: b.mul(g, b.mul(b.exp(b.neg(b.mul(x, x))), -2.0 / math.sqrt(math.pi))),
    "1 - erf(x), without cancellation for large x.",
)

# Logic and tests of floats ------------------------------------------------------------------------


def _predicate(
    name: str, operands: str, decompose: Rule, doc: str, complex: Rule | bool = True
) -> Op:
    def infer(*types: TensorType) -> tuple[TensorType, ...]:
        return (tensor_type(bool_, broadcast_shapes(name, *types)),)

    return declare(
        name,
        "composite",
        operands,
        infer=infer,
        decompose=decompose,
        differentiable=False,
        broadcasts=True,
        complex=complex,
        doc=doc,
    )


logical_not = _predicate(
    "logical_not", "x", lambda b, x: b.bitwise_not(as_dtype(b, x, bool_)), "True where x is zero."
)
logical_and = _predicate(
    "logical_and",
    "x y",
    lambda b, x, y: b.bitwise_and(as_dtype(b, x, bool_), as_dtype(b, y, bool_)),
    "True where both are nonzero; the dtypes may differ.",
)
logical_or = _predicate(
    "logical_or",
    "x y",
    lambda b, x, y: b.bitwise_or(as_dtype(b, x, bool_), as_dtype(b, y, bool_)),
    "True where one is nonzero; the dtypes may differ.",
)
isnan = _predicate("isnan", "x", lambda b, x: b.ne(x, x), "True where x is not a number.")
isinf = _predicate(
    "isinf",
    "x",
    lambda b, x: b.eq(b.abs(x), math.inf) if x.type.dtype.is_floating_point else b.ne(x, x),
    "True where x is infinite.",
    complex_rules.isinf,
)
isfinite = _predicate(
    "isfinite",
    "x",
    lambda b, x: b.lt(b.abs(x), math.inf) if x.type.dtype.is_floating_point else b.eq(x, x),
    "True where x is neither infinite nor nan.",
    complex_rules.isfinite,
)

# Clamping -----------------------------------------------------------------------------------------


def _inside(b: Any, x: Any, low: Any, high: Any) -> Any:
    return b.bitwise_and(b.ge(x, low), b.le(x, high))


clamp = declare(
    "clamp",
    "composite",
    "x low high",
    infer=same("clamp"),
    decompose=lambda b, x, low, high: b.minimum(b.maximum(x, low), high),
    gradients={
        "x": lambda b, g, x, low, high: b.where(_inside(b, x, low, high), g, 0.0),
        "low": lambda b, g, x, low, high: b.where(
            b.bitwise_and(b.lt(x, low), b.lt(low, high)), g, 0.0
        ),
        "high": lambda b, g, x, low, high: b.where(
            b.bitwise_or(b.gt(x, high), b.gt(low, high)), g, 0.0
        ),
    },
    broadcasts=True,
    doc="min(max(x, low), high); the bounds broadcast. At a bound the gradient goes to x.",
)
clamp_min = declare(
    "clamp_min",
    "composite",
    "x low",
    infer=same("clamp_min"),
    decompose=lambda b, x, low: b.maximum(x, low),
    gradients={
        "x": lambda b, g, x, low: b.where(b.ge(x, low), g, 0.0),
        "low": lambda b, g, x, low: b.where(b.lt(x, low), g, 0.0),
    },
    broadcasts=True,
    doc="max(x, low). At the bound the gradient goes to x.",
)
clamp_max = declare(
    "clamp_max",
    "composite",
    "x high",
    infer=same("clamp_max"),
    decompose=lambda b, x, high: b.minimum(x, high),
    gradients={
        "x": lambda b, g, x, high: b.where(b.le(x, high), g, 0.0),
        "high": lambda b, g, x, high: b.where(b.gt(x, high), g, 0.0),
    },
    broadcasts=True,
    doc="min(x, high). At the bound the gradient goes to x.",
)
