"""What distributions share: broadcasting of parameters, probabilities and logits, checks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np

import braze
from braze.capture import Call, call_of
from braze.handle import NUMBER, Handle
from braze.ir.op import op_named
from braze.sizes import Size
from braze.tensors import Tensor, apply
from braze.views import layout_of, root_of

# A tensor, or a number where one is broadcast. Methods of tensors are attached when the package is
# loaded, which type checkers do not see.
Values = Any

euler_constant = 0.57721566490153286060
# Tensors of so many elements that are in memory are checked at the call.
MOST_CHECKED_AT_ONCE = 4096
_MOST_DEMANDED = 1024


def broadcast_all(*values: Values) -> tuple[Values, ...]:
    """Tensors and numbers as tensors of one shape; numbers take the first tensor's dtype
    and device.

    Raises:
        ValueError: one is neither.
    """
    if not all(isinstance(v, (Tensor, Number)) for v in values):
        raise ValueError("Input arguments must all be instances of Number or braze.Tensor.")
    first = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = braze.get_default_dtype() if first is None else first.dtype
    place = first.device if first is not None and first.is_cuda else None
    tensors = [
        v if isinstance(v, Tensor) else braze.tensor(v, dtype=dtype, device=place) for v in values
    ]
    return tuple(braze.broadcast_tensors(*tensors))


def one_given(probs: Values, logits: Values) -> tuple[str, Values]:
    """Name and value of the parameter that is given.

    Raises:
        ValueError: both or none are.
    """
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")
    return ("logits", logits) if probs is None else ("probs", probs)


def standard_normal(shape: Any, dtype: Any) -> Values:
    """Normal numbers of a shape and dtype."""
    return braze.randn(shape, dtype=dtype)


def sum_rightmost(value: Values, dim: int) -> Values:
    """The sum over the last `dim` dimensions."""
    return value if dim == 0 else value.sum(tuple(range(-dim, 0)))


def logits_to_probs(logits: Values, is_binary: bool = False) -> Values:
    """Probabilities of logits, of two classes or of those in the last dimension."""
    return braze.sigmoid(logits) if is_binary else braze.softmax(logits, -1)


def clamp_probs(probs: Values) -> Values:
    """Probabilities away from 0 and 1 by the dtype's epsilon."""
    eps = braze.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Values, is_binary: bool = False) -> Values:
    """Logits of probabilities, of two classes or of those in the last dimension."""
    if is_binary:
        inside = clamp_probs(probs)
        return inside.log() - (-inside).log1p()
    return apply(_log_clamped(probs.dtype), probs)


@functools.cache
def _log_clamped(dtype: Any) -> Call:
    """log(clamp_probs(x)) as one operation."""
    eps = braze.finfo(dtype).eps
    return call_of(op_named("log_clamped"), low=eps, high=1 - eps)


class lazy_property:
    """An attribute that is computed when it is first read."""

    def __init__(self, wrapped: Callable[[Any], Any]) -> None:
        self.wrapped = wrapped
        functools.update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, kind: Any = None) -> Any:
        if instance is None:
            return self
        if braze.is_grad_enabled():
            value = self.wrapped(instance)
        else:
            with braze.enable_grad():
                value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


# Checks -------------------------------------------------------------------------------------------


class NotKnown(Exception):
    """A constraint's bound is not in memory yet."""


def known(value: Values) -> np.ndarray | None:
    """The elements, if they are few and in the host's memory already."""
    if value.is_sparse or value.is_cuda or value.numel() > MOST_CHECKED_AT_ONCE:
        return None
    root: Any = root_of(value)
    handle = root._handle
    if handle.storage is None:
        return None
    if handle.flags & NUMBER:
        return np.broadcast_to(np.asarray(handle.storage), tuple(value.shape))
    memory = handle.storage.array(handle.type.dtype.numpy, handle.type.shape)
    if root is value:
        return np.asarray(memory)
    dtype = value.dtype.numpy
    strides, offset = layout_of(value)
    flat = memory.reshape(-1).view(dtype)
    start = flat[offset:] if value.numel() else flat[:0]
    steps = [s * dtype.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(start, tuple(value.shape), steps)


# By constraint, bounds with their classes, type and text: the operation that demands it.
_demanded: dict[Any, Call] = {}


def require(constraint: Any, value: Values, text: str, name: str, what: str = "") -> None:
    """Raise ValueError unless a constraint holds: now if the value is known, else at the next sync.

    Args:
        text: what is wrong, with {given} for the value's type, {constraint}, {name} and {what}.
        name: of the distribution. what: of the parameter.
    """
    handle = value._handle
    key: Any = None
    if handle.__class__ is Handle and handle.storage is None and value._base is None:
        # Computed by the program. What was demanded of such a value before is one operation.
        try:
            bounds = vars(constraint).values()
            key = (constraint.__class__, *bounds, *map(type, bounds), handle.type, value.__class__)
            key = (*key, text, name, what)
            call = _demanded.get(key)
        except TypeError:  # a list of constraints
            key = call = None
        if call is not None:
            apply(call, value)
            return
    array = known(value)
    try:
        holds = None if array is None else np.all(constraint.check(array))
    except NotKnown:
        holds = None
    if holds:
        return
    kind, shape = value.__class__.__name__, handle.type.shape
    if holds is None:
        message = _written(text, name, what, kind, shape, repr(constraint.outline()))
        demanded = f"{name}!!{message}"
        if key is not None:
            call = constraint.operation(handle.type, demanded)
            if call is not None:
                if len(_demanded) >= _MOST_DEMANDED:
                    _demanded.clear()
                _demanded[key] = call
        constraint.demand(value, demanded)
    else:
        message = _written(text, name, what, kind, shape, repr(constraint))
        raise ValueError(f"{message}, but found invalid values:\n{value}")


@functools.lru_cache(maxsize=1024)  # it is part of a program, and asked for whenever one runs
def _written(text: str, name: str, what: str, kind: str, shape: Any, constraint: str) -> str:
    given = f"{kind} of shape {tuple(shape)}"
    return text.format(name=name, what=what, given=given, constraint=constraint)


def size(shape: Any) -> Size:
    """A shape as a `Size`."""
    return shape if isinstance(shape, Size) else Size(shape)
