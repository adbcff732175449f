"""What the functions share: looked-up calls, one-or-many arguments, reductions, in-place."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from braze.capture import Call, call_of
from braze.functions.arguments import require_tensors
from braze.functions.movement import squeeze, unsqueeze
from braze.functions.pointwise import div, mul
from braze.functions.reductions import mean, sum
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.sites import user_stacklevel
from braze.tensors import Tensor

Ints = tuple[int, ...]
IntOrInts = int | Iterable[int]

REDUCTIONS = ("none", "mean", "sum")


@functools.cache
def call_named(name: str, **attributes: Any) -> Call:
    """The call of an op by name."""
    return call_of(op_named(name), **attributes)


@functools.cache
def spread(value: int | tuple[int, ...], count: int, name: str) -> Ints:
    """One int for all dimensions, or one for each.

    Raises:
        ShapeError: a wrong number of ints. TypeError: not ints.
    """
    values = value if isinstance(value, tuple) else (value,) * count
    if len(values) == 1:
        values *= count
    if not all(type(item) is int for item in values):
        raise TypeError(f"{name} must be an int or a tuple of ints, given {value!r}")
    if len(values) != count:
        raise ShapeError(f"{name} needs {count} numbers, given {value!r}")
    return values


def ints(value: Any, count: int, name: str) -> Ints:
    """As `spread`, for any sequence, with integers such as NumPy's made plain."""
    if type(value) is int or type(value) is tuple:
        return spread(value, count, name)
    if isinstance(value, Iterable):
        return spread(tuple(int(item) for item in value), count, name)
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int or a tuple of ints, given {value!r}")
    return spread(int(value), count, name)


def assert_int_or_pair(arg: Any, arg_name: str, message: str) -> None:
    """Check that an argument is one int or two.

    Raises:
        AssertionError: it is not; the message's `{}` names it.
    """
    if not (isinstance(arg, int) or len(arg) == 2):
        raise AssertionError(message.format(arg_name))


def reduction_of(reduction: str, size_average: Any = None, reduce: Any = None) -> str:
    """The reduction by name; the two booleans of early PyTorch, where given, decide instead, with a
    warning.

    Raises:
        ValueError: it is not "none", "mean" or "sum".
    """
    if size_average is not None or reduce is not None:
        kind = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            "size_average and reduce args will be deprecated, please use "
            f"reduction={kind!r} instead.",
            stacklevel=user_stacklevel(),
        )
        return kind
    if reduction == "elementwise_mean":
        warnings.warn(
            "reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.",
            stacklevel=user_stacklevel(),
        )
        return "mean"
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def warn_of_sizes(input: Tensor, target: Tensor) -> None:
    """Warn where a loss broadcasts its operands."""
    if input._handle.type.shape != target._handle.type.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=user_stacklevel(),
        )


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Apply a reduction to elementwise losses."""
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum(losses)


def weighted(losses: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """Apply a reduction to elementwise losses times weights, whose sum divides the mean."""
    terms = mul(losses, weight)
    return div(sum(terms), sum(weight)) if reduction == "mean" else reduced(terms, reduction)


def in_place(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """The result, written over the input if that is wanted."""
    if not inplace:
        return result
    if result._node is None or input._node is None or input._base is not None:
        return input._replace(result)
    # On the tape the old value, which the operation may have saved, stays a value of its own: the
    # input only takes the new one on, so that its gradient can still be computed.
    input._handle, input._node, input._index = result._handle, result._node, result._index
    return input


def check_spatial(name: str, spatial: int, input: Tensor) -> None:
    """Raise ShapeError unless the input is [N, C, ...] or [C, ...] with `spatial` dimensions."""
    require_tensors(name, input=input)
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"[{name}] expected {spatial + 1}D (unbatched) or {spatial + 2}D (batched) input, "
            f"given {input._handle.type}"
        )


def batched(function: Callable[..., Any], input: Tensor, rank: int) -> Any:
    """Call a function of [N, C, spatial...] on a tensor that may lack N; `rank` counts with N."""
    if input.ndim != rank - 1:
        return function(input)
    result = function(unsqueeze(input, 0))
    if isinstance(result, tuple):
        return tuple(squeeze(part, 0) for part in result)
    return squeeze(result, 0)
