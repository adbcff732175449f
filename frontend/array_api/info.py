"""Inspection by the array API standard: dtypes, their kinds and promotion, devices."""

from __future__ import annotations

from typing import Any

from braze import dtype_info
from braze.devices import device, get_default_device
from braze.functions import promotion
from braze.functions.promotion import get_default_dtype
from braze.ir import dtypes
from braze.ir.dtypes import DType, promote
from braze.ir.errors import DTypeError
from braze.tensors import Tensor

Kinds = str | DType | tuple[Any, ...]

_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": ("complex",),
    "numeric": ("int", "uint", "float", "complex"),
}
# Those that the standard knows; it has no 16-bit floats.
_STANDARD = tuple(d for d in dtypes.ALL if d not in (dtypes.f16, dtypes.bf16))


def isdtype(dtype: DType, kind: Kinds) -> bool:
    """Whether a dtype is of a kind: another dtype, the name of a set, or a tuple of such.

    Raises:
        ValueError: the name is not known.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, DType):
        return dtype is kind
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of dtype {kind!r}; known: {', '.join(_KINDS)}")
    return dtype.kind in _KINDS[kind]


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that promotion gives for arrays, dtypes and Python numbers."""
    if not arrays_and_dtypes:
        raise ValueError("result_type() needs at least one argument")
    found: DType | None = None
    numbers = []
    for item in arrays_and_dtypes:
        if isinstance(item, (Tensor, DType)):
            dtype = item.dtype if isinstance(item, Tensor) else item
            found = dtype if found is None else promote(found, dtype)
        else:
            numbers.append(item)
    if found is None:
        return promotion.result_type(*numbers)
    if not numbers:
        return found
    # A number has a say only where its kind is higher.
    return promotion.result_type(promotion.scalar(0, found), *numbers)


class finfo(dtype_info.finfo):
    """The range and precision of a floating-point dtype, or of a tensor's."""

    def __init__(self, type: DType | Tensor, /) -> None:
        super().__init__(type)
        # Of a complex dtype it is that of the parts.
        self.dtype: Any = next(d for d in dtypes.ALL if d.public_name == self.dtype)


class iinfo(dtype_info.iinfo):
    """The range of an integer dtype, or of a tensor's."""

    def __init__(self, type: DType | Tensor, /) -> None:
        super().__init__(type)
        self.dtype: Any = dtype_of(type)


def dtype_of(item: DType | Tensor) -> DType:
    """A dtype, or that of a tensor."""
    return item.dtype if isinstance(item, Tensor) else item


def can_cast(from_: DType | Tensor, to: DType) -> bool:
    """Whether promotion leads from one dtype to the other."""
    try:
        return promote(dtype_of(from_), to) is to
    except DTypeError:
        return False


class Info:
    """What the namespace can do; the result of `__array_namespace_info__`."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks work, and shapes may depend on values (a sync point)."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> device:
        """Where new tensors are."""
        return get_default_device()

    def devices(self) -> list[device]:
        """Where tensors can be."""
        return [get_default_device()]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of new tensors by kind."""
        real = get_default_dtype()
        found = {"real floating": real, "integral": dtypes.i64, "indexing": dtypes.i64}
        for dtype in dtypes.ALL:
            if dtype.is_complex and dtype.bits == 2 * real.bits:
                found["complex floating"] = dtype
        return found

    def dtypes(self, *, device: Any = None, kind: Kinds | None = None) -> dict[str, DType]:
        """The standard's dtypes that tensors have, by name."""
        return {
            dtype.public_name: dtype for dtype in _STANDARD if kind is None or isdtype(dtype, kind)
        }
