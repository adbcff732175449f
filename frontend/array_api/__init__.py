"""The array API standard's namespace for tensors: `x.__array_namespace__()` gives this module.

A name of the standard is found, in this order, among the adapters of this package (where PyTorch's
signature differs from the standard's), among the package's own functions under PyTorch's name, or
not at all: `missing()` lists those, and using one is an AttributeError. Type promotion is the
standard's: tensors without dimensions have their say (see `operands`).

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

from braze.array_api import adapters, elementwise, reductions, values
from braze.array_api.info import Info, can_cast, finfo, iinfo, isdtype, result_type

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

# Functions of the package that are as the standard has them.
_SHARED = "empty_like from_dlpack full_like moveaxis ones_like zeros_like conj imag real".split()

_ADAPTERS: dict[str, Any] = {
    **adapters.FUNCTIONS,
    **elementwise.FUNCTIONS,
    **reductions.FUNCTIONS,
    **values.FUNCTIONS,
    "__array_namespace_info__": Info,
    "can_cast": can_cast,
    "finfo": finfo,
    "iinfo": iinfo,
    "isdtype": isdtype,
    "result_type": result_type,
}

_EXTENSIONS = ("fft", "linalg")

STANDARD: tuple[str, ...] = tuple(
    sorted({*_CONSTANTS, *_DTYPES, *_SHARED, *_ADAPTERS, *_EXTENSIONS})
)


def __getattr__(name: str) -> Any:
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if name in _ADAPTERS:
        return _ADAPTERS[name]
    if name in _EXTENSIONS:
        return import_module(f"braze.array_api.{name}")
    import braze

    if (name in _DTYPES or name in _SHARED) and hasattr(braze, name):
        return getattr(braze, name)
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
