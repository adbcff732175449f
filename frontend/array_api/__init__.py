"""The array API standard's namespace for tensors: `x.__array_namespace__()` gives this module.

A name of the standard is found, in this order, among the adapters of this package (where PyTorch's
signature differs from the standard's), among the package's own functions under PyTorch's name, or
not at all: `missing()` lists those, and using one is an AttributeError. There are no complex dtypes
and no 16- and 64-bit unsigned integers.

Example:
    >>> import braze
    >>> xp = braze.ones(2, 3).__array_namespace__()
    >>> xp.sum(xp.ones((2, 3)), axis=1, keepdims=True).shape
    braze.Size([2, 1])
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from braze.array_api import adapters, reductions, values
from braze.array_api.info import Info, can_cast, isdtype, result_type

VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
__array_api_version__ = VERSIONS[-1]

_CONSTANTS: dict[str, Any] = {
    "e": math.e,
    "inf": math.inf,
    "nan": math.nan,
    "newaxis": None,
    "pi": math.pi,
}
_DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
).split()

# The standard's name: PyTorch's. The meaning and the positional arguments are the same.
_RENAMED: dict[str, str] = {
    **{
        name: name
        for name in (
            "acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_or "
            "bitwise_xor copysign cos cosh empty_like exp expm1 finfo floor_divide "
            "from_dlpack full_like hypot iinfo isfinite isinf isnan log log1p log2 "
            "log10 logaddexp logical_not matmul maximum minimum nextafter "
            "ones_like pow reciprocal remainder sign signbit sin sinh sqrt square tan "
            "tanh where zeros_like"
        ).split()
    },
    "abs": "abs",
    "bitwise_invert": "bitwise_not",
    "bitwise_left_shift": "bitwise_left_shift",
    "bitwise_right_shift": "bitwise_right_shift",
    "divide": "div",
    "equal": "eq",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
}

_ADAPTERS: dict[str, Any] = {
    **adapters.FUNCTIONS,
    **reductions.FUNCTIONS,
    "__array_namespace_info__": Info,
    "can_cast": can_cast,
    "isdtype": isdtype,
    "result_type": result_type,
}

# The standard's names that need a function of the package which may or may not be there.
_OPTIONAL = values.FUNCTIONS

# What the standard asks for beyond the tables above.
_COMPLEX = ("conj", "imag", "real")

_EXTENSIONS = ("fft",)

STANDARD: tuple[str, ...] = tuple(
    sorted({*_CONSTANTS, *_DTYPES, *_RENAMED, *_ADAPTERS, *_OPTIONAL, *_COMPLEX, *_EXTENSIONS})
)


def __getattr__(name: str) -> Any:
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if name in _ADAPTERS:
        return _ADAPTERS[name]
    if name in _EXTENSIONS:
        return import_module(f"braze.array_api.{name}")
    import braze

    target: str | None
    if name in _OPTIONAL:
        target, adapter = _OPTIONAL[name]
        if hasattr(braze, target):
            return adapter
    else:
        target = name if name in _DTYPES else _RENAMED.get(name)
        if target is not None and hasattr(braze, target):
            return getattr(braze, target)
    raise AttributeError(f"module 'braze.array_api' has no attribute {name!r}")


def _has(name: str) -> bool:
    try:
        __getattr__(name)
    except AttributeError:
        return False
    return True


def missing() -> list[str]:
    """The standard's names that are not there."""
    return [name for name in STANDARD if not _has(name)]


def __dir__() -> list[str]:
    return [name for name in STANDARD if _has(name)]
