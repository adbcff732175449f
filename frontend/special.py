"""Special functions, by the names of `torch.special`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.capture import call_of
from braze.functions import elementwise, pointwise, reductions
from braze.functions.out import with_out
from braze.functions.pointwise import Operand
from braze.functions.promotion import as_operands
from braze.ir.op import op_named
from braze.tensors import Tensor, apply


def _pair(name: str) -> Callable[[Any, Any], Tensor]:
    call = call_of(op_named(name))

    def function(input: Operand, other: Operand) -> Tensor:
        return apply(call, *as_operands(name, input, other, floating=True))  # type: ignore[no-any-return]

    function.__name__ = name
    function.__doc__ = call.op.doc
    return function


def softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """e ** x / sum(e ** x) along a dimension."""
    return reductions.softmax(input, dim, dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The logarithm of softmax."""
    return reductions.log_softmax(input, dim, dtype)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: pointwise.UNARY[name]
        for name in ("digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "sinc")
    },
    **pointwise.SPECIAL_UNARY,
    "expit": pointwise.UNARY["sigmoid"],
    "gammainc": elementwise.igamma,
    "gammaincc": elementwise.igammac,
    "gammaln": pointwise.UNARY["lgamma"],
    "psi": pointwise.UNARY["digamma"],
    "logit": elementwise.logit,
    "multigammaln": elementwise.mvlgamma,
    "polygamma": elementwise.polygamma,
    "round": elementwise.round,
    "xlogy": elementwise.xlogy,
    "xlog1py": _pair("xlog1py"),
    "zeta": _pair("zeta"),
    "logsumexp": reductions.logsumexp,
}
globals().update({name: with_out(function, name) for name, function in _FUNCTIONS.items()})

__all__ = sorted([*_FUNCTIONS, "log_softmax", "softmax"])
