"""`out=` for every function that has it in PyTorch, and the methods of the elementwise tail.

`with_out` wraps a function where it is registered: the function computes a fresh result as always,
which then becomes the value of `out`, in its memory.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from braze.autograd import no_grad
from braze.capture import tracer
from braze.functions.arguments import explained
from braze.functions.keywords import with_keywords
from braze.functions.movement import clone
from braze.functions.pointwise import UNARY
from braze.functions.promotion import cast
from braze.ir.dtypes import DType
from braze.tensors import Tensor

# What takes `out` in PyTorch, among them functions of other families.
NAMES = frozenset(
    """
abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr all amax amin aminmax any
arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort asin asinh atan
atan2 atanh baddbmm bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor block_diag bmm bucketize cat ceil chain_matmul cholesky
cholesky_inverse cholesky_solve clamp clamp_max clamp_min clip column_stack concat concatenate
copysign cos cosh count_nonzero cross cummax cummin cumprod cumsum deg2rad diag diff digamma div
divide dot dstack empty eq erf erfc erfinv exp exp2 expm1 eye float_power floor floor_divide fmax
fmin fmod frac frexp full gather gcd ge geqrf ger greater greater_equal heaviside histc hstack
hypot i0 igamma igammac index_add index_copy index_select inner inverse isin isneginf isposinf
kron kthvalue lcm ldexp le lerp less less_equal lgamma linspace log log10 log1p log2 logaddexp
logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor logit logspace logsumexp lt
lu_solve masked_select matmul matrix_power max maximum mean median min minimum mm mode msort mul
multinomial gt multiply mv mvlgamma nan_to_num nanmean nanmedian nanquantile nansum ne neg negative
nextafter nonzero norm normal not_equal ones orgqr ormqr outer polygamma pow prod qr quantile
rad2deg rand randint randn randperm range reciprocal remainder renorm round row_stack rsqrt
scatter scatter_add searchsorted sgn sigmoid sign signbit sin sinc sinh slogdet softmax
log_softmax index_reduce matrix_exp nonzero_static hardshrink sort sqrt square stack std
std_mean sub subtract sum svd take take_along_dim tan tanh
tensordot topk tril triu true_divide trunc var var_mean vdot vstack where xlogy zeros
""".split()
)

# Those whose result is never cast into `out`: the dtypes must be equal.
_EXACT = frozenset("abs absolute ceil floor frac neg negative round sign sgn trunc fix".split())

_ORDER = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}


def castable(source: DType, target: DType) -> bool:
    """Whether a result may be stored as that dtype: never to a lower category."""
    return _ORDER[source.kind] <= _ORDER[target.kind]


def check_castable(source: DType, target: DType) -> None:
    """Raise RuntimeError if a result of one dtype cannot be stored as the other."""
    if not castable(source, target):
        raise RuntimeError(
            f"result type {source.public_name} can't be cast to the desired output type "
            f"{target.public_name}"
        )


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def assign(out: Tensor, result: Tensor, operands: Sequence[Tensor] = ()) -> Tensor:
    """Let `out` hold a result: in its own memory, or resized where the shapes differ.

    Warns:
        UserWarning: `out` has elements but not the result's shape.

    Raises:
        RuntimeError: the dtype of `out` cannot hold the result's.
    """
    check_castable(result.dtype, out.dtype)
    result = result.detach() if result.requires_grad else result
    value = cast(result, out.dtype)
    if value._base is not None or any(value._handle is t._handle for t in (out, *operands)):
        value = clone(value)
    if out._handle.type.shape == value._handle.type.shape:
        return out._replace(value)
    if out.numel():
        warnings.warn(
            "An output with one or more elements was resized since it had shape "
            f"{list(out.shape)}, which does not match the required output shape "
            f"{list(value.shape)}. This behavior is deprecated; resize it to 0 elements first.",
            stacklevel=4,  # behind two frames of the function with `out`
        )
    out._handle, out._base, out._node, out._index = value._handle, None, None, 0
    return out


def with_out(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with a keyword argument `out` (a tensor, or a tuple for several results).

    Raises (when called with `out`):
        RuntimeError: gradients are being recorded for an operand or for `out`.
        TypeError: `out` is not a tensor, or not as many as there are results.
    """
    signature = inspect.signature(function)
    takes_dtype = "dtype" in signature.parameters

    def assigned(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is None:
            return function(*args, **kwargs)
        outs = list(out) if isinstance(out, (tuple, list)) else [out]
        for given in outs:
            if not isinstance(given, Tensor):
                raise TypeError(
                    f"{name}(): argument 'out' must be Tensor, not {type(given).__name__}"
                )
        operands = _tensors([*args, *kwargs.values()])
        if tracer().grad_enabled and any(t.requires_grad for t in (*operands, *outs)):
            raise RuntimeError(
                f"{name}(): functions with out=... arguments don't support automatic "
                "differentiation, but one of the arguments requires grad."
            )
        dtype = kwargs.get("dtype")
        if takes_dtype and dtype is None:
            if not operands or outs[0].dtype.is_floating_point:
                kwargs["dtype"] = outs[0].dtype  # what `out` can hold decides
        elif takes_dtype and dtype is not outs[0].dtype:
            raise RuntimeError(
                f"{name}(): dtype {dtype!r} does not match dtype of out parameter "
                f"({outs[0].dtype!r})"
            )
        with no_grad():
            result = function(*args, **kwargs)
            if name in _EXACT and result.dtype is not outs[0].dtype:
                raise RuntimeError(
                    f"{name}(): found dtype {outs[0].dtype!r} but expected {result.dtype!r}"
                )
            if isinstance(result, Tensor):
                if len(outs) != 1:
                    raise TypeError(f"{name}(): one result, but out has {len(outs)} tensors")
                return assign(outs[0], result, operands)
            if len(outs) != len(result):
                raise TypeError(f"{name}(): {len(result)} results, but out has {len(outs)} tensors")
            filled = [assign(o, r, operands) for o, r in zip(outs, result, strict=True)]
        return type(result)(*filled) if hasattr(result, "_fields") else tuple(filled)

    wrapped = with_keywords(function, frozenset({"out"}), assigned)
    parameter = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
    parameters = list(signature.parameters.values())
    if not any(p.kind is p.VAR_KEYWORD for p in parameters) and "out" not in signature.parameters:
        wrapped.__signature__ = signature.replace(parameters=[*parameters, parameter])  # type: ignore[attr-defined]
    return wrapped


def add_out(functions: dict[str, Any]) -> dict[str, Any]:
    """The functions of a name table, those of `NAMES` with `out`."""
    found = {name: with_out(f, name) if name in NAMES else f for name, f in functions.items()}
    checked = {name for name, f in functions.items() if f is UNARY.get(name)}  # by themselves
    return {name: f if name in checked else explained(f, name) for name, f in found.items()}
