"""Modified Bessel functions of the first kind, by the Chebyshev series of Cephes (`i0.c`, `i1.c`,
S. L. Moshier). Computed in f64, whatever the operand's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.ir.op import Op, Rule, declare
from braze.ir.ops.composite import in_f64
from braze.ir.ops.rules import floating

LIMIT = 8.0
# exp(-x) I0(x) for 0 <= x <= 8, in x / 2 - 2.
I0_NEAR = (
    -4.41534164647933937950e-18, 3.33079451882223809783e-17, -2.43127984654795469359e-16,
    1.71539128555513303061e-15, -1.16853328779934516808e-14, 7.67618549860493561688e-14,
    -4.85644678311192946090e-13, 2.95505266312963983461e-12, -1.72682629144155570723e-11,
    9.67580903537323691224e-11, -5.18979560163526290666e-10, 2.65982372468238665035e-9,
    -1.30002500998624804212e-8, 6.04699502254191894932e-8, -2.67079385394061173391e-7,
    1.11738753912010371815e-6, -4.41673835845875056359e-6, 1.64484480707288970893e-5,
    -5.75419501008210370398e-5, 1.88502885095841655729e-4, -5.76375574538582365885e-4,
    1.63947561694133579842e-3, -4.32430999505057594430e-3, 1.05464603945949983183e-2,
    -2.37374148058994688156e-2, 4.93052842396707084878e-2, -9.49010970480476444210e-2,
    1.71620901522208775349e-1, -3.04682672343198398683e-1, 6.76795274409476084995e-1,
)  # fmt: skip
# exp(-x) sqrt(x) I0(x) for x >= 8, in 32 / x - 2.
I0_FAR = (
    -7.23318048787475395456e-18, -4.83050448594418207126e-18, 4.46562142029675999901e-17,
    3.46122286769746109310e-17, -2.82762398051658348494e-16, -3.42548561967721913462e-16,
    1.77256013305652638360e-15, 3.81168066935262242075e-15, -9.55484669882830764870e-15,
    -4.15056934728722208663e-14, 1.54008621752140982691e-14, 3.85277838274214270114e-13,
    7.18012445138366623367e-13, -1.79417853150680611778e-12, -1.32158118404477131188e-11,
    -3.14991652796324136454e-11, 1.18891471078464383424e-11, 4.94060238822496958910e-10,
    3.39623202570838634515e-9, 2.26666899049817806459e-8, 2.04891858946906374183e-7,
    2.89137052083475648297e-6, 6.88975834691682398426e-5, 3.36911647825569408990e-3,
    8.04490411014108831608e-1,
)  # fmt: skip
# exp(-x) I1(x) / x and exp(-x) sqrt(x) I1(x), in the same variables.
I1_NEAR = (
    2.77791411276104639959e-18, -2.11142121435816608115e-17, 1.55363195773620046921e-16,
    -1.10559694773538630805e-15, 7.60068429473540693410e-15, -5.04218550472791168711e-14,
    3.22379336594557470981e-13, -1.98397439776494371520e-12, 1.17361862988909016308e-11,
    -6.66348972350202774223e-11, 3.62559028155211703701e-10, -1.88724975172282928790e-9,
    9.38153738649577178388e-9, -4.44505912879632808065e-8, 2.00329475355213526229e-7,
    -8.56872026469545474066e-7, 3.47025130813767847674e-6, -1.32731636560394358279e-5,
    4.78156510755005422638e-5, -1.61760815825896745588e-4, 5.12285956168575772895e-4,
    -1.51357245063125314899e-3, 4.15642294431288815669e-3, -1.05640848946261981558e-2,
    2.47264490306265168283e-2, -5.29459812080949914269e-2, 1.02643658689847095384e-1,
    -1.76416518357834055153e-1, 2.52587186443633654823e-1,
)  # fmt: skip
I1_FAR = (
    7.51729631084210481353e-18, 4.41434832307170791151e-18, -4.65030536848935832153e-17,
    -3.20952592199342395980e-17, 2.96262899764595013876e-16, 3.30820231092092828324e-16,
    -1.88035477551078244854e-15, -3.81440307243700780478e-15, 1.04202769841288027642e-14,
    4.27244001671195135429e-14, -2.10154184277266431302e-14, -4.08355111109219731823e-13,
    -7.19855177624590851209e-13, 2.03562854414708950722e-12, 1.41258074366137813316e-11,
    3.25260358301548823856e-11, -1.89749581235054123450e-11, -5.58974346219658380687e-10,
    -3.83538038596423702205e-9, -2.63146884688951950684e-8, -2.51223623787020892529e-7,
    -3.88256480887769039346e-6, -1.10588938762623716291e-4, -9.76109749136146840777e-3,
    7.78576235018280120474e-1,
)  # fmt: skip


def _chebyshev(b: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Clenshaw's recurrence, as Cephes' chbevl has it: x is twice the polynomials' variable."""
    b1, b0 = coefficients[0], b.add(b.mul(x, coefficients[0]), coefficients[1])
    for coefficient in coefficients[2:]:
        b0, b1, b2 = b.sub(b.add(b.mul(x, b0), coefficient), b1), b0, b1
    return b.mul(b.sub(b0, b2), 0.5)


def _scaled(b: Any, size: Any, near: Sequence[float], far: Sequence[float]) -> tuple[Any, Any]:
    """Both series, each kept inside its interval."""
    first = _chebyshev(b, b.sub(b.mul(b.minimum(size, LIMIT), 0.5), 2.0), near)
    beyond = b.maximum(size, LIMIT)
    second = _chebyshev(b, b.sub(b.div(32.0, beyond), 2.0), far)
    return first, b.div(second, b.sqrt(beyond))


def _i0e(b: Any, x: Any) -> Any:
    size = b.abs(x)
    near, far = _scaled(b, size, I0_NEAR, I0_FAR)
    return b.where(b.le(size, LIMIT), near, far)


def _i1e(b: Any, x: Any) -> Any:
    size = b.abs(x)
    near, far = _scaled(b, size, I1_NEAR, I1_FAR)
    value = b.where(b.le(size, LIMIT), b.mul(near, size), far)
    return b.where(b.lt(x, 0.0), b.neg(value), value)


def _grown(scaled: Rule) -> Rule:
    """e ** |x| times the scaled function, in two steps: e ** |x| overflows before the product."""

    def function(b: Any, x: Any) -> Any:
        root = b.exp(b.mul(b.abs(x), 0.5))
        value = b.mul(b.mul(scaled(b, x), root), root)
        return b.where(b.lt(b.abs(x), float("inf")), value, b.mul(x, x) if scaled is _i0e else x)

    return function


def _unary(name: str, function: Rule, gradient: Rule, doc: str) -> Op:
    return declare(
        name,
        "composite",
        "x",
        infer=floating(name),
        decompose=in_f64(function),
        gradients={"x": gradient},
        domain=(-12.0, 12.0),
        doc=doc,
    )


def _i1_slope(b: Any, x: Any, out: Any, first: Any) -> Any:
    """first - out / x, which is 1/2 at 0."""
    zero = b.eq(x, 0.0)
    return b.where(zero, 0.5, b.sub(first, b.div(out, b.where(zero, 1.0, x))))


i0 = _unary(
    "i0",
    _grown(_i0e),
    lambda b, g, x: b.mul(g, b.i1(x)),
    "The modified Bessel function of the first kind of order 0.",
)
i0e = _unary(
    "i0e",
    _i0e,
    lambda b, g, x, out: b.mul(g, b.sub(b.i1e(x), b.mul(b.sign(x), out))),
    "exp(-|x|) i0(x).",
)
i1 = _unary(
    "i1",
    _grown(_i1e),
    lambda b, g, x, out: b.mul(g, _i1_slope(b, x, out, b.i0(x))),
    "The modified Bessel function of the first kind of order 1.",
)
i1e = _unary(
    "i1e",
    _i1e,
    lambda b, g, x, out: b.mul(g, b.sub(_i1_slope(b, x, out, b.i0e(x)), b.mul(b.sign(x), out))),
    "exp(-|x|) i1(x).",
)
