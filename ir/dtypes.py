"""Element types and their promotion.

A `DType` is one of the singletons below; compare them with `is` or `==`. `promote` follows
PyTorch's type promotion table for two tensors (Python numbers are the front end's business).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from braze.ir.errors import DTypeError

Kind = Literal["bool", "uint", "int", "float", "complex"]


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """An element type: `name` in the IR's text, `public_name` as PyTorch spells it.

    Attributes:
        is_floating_point: real numbers of limited precision; False for complex ones.
        is_differentiable: True for the dtypes that have gradients: floats and complex numbers.
    """

    name: str
    public_name: str
    kind: Kind
    bits: int
    numpy: np.dtype
    is_floating_point: bool = field(init=False)
    is_differentiable: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_floating_point", self.kind == "float")
        object.__setattr__(self, "is_differentiable", self.kind in ("float", "complex"))

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory (bool takes one)."""
        return -(-self.bits // 8)

    @property
    def is_complex(self) -> bool:
        """True for the pairs of floats."""
        return self.kind == "complex"

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, False for bool."""
        return self.kind in ("int", "uint")

    @property
    def is_signed(self) -> bool:
        return self.kind in ("int", "float", "complex")

    def holds(self, other: DType) -> bool:
        """Whether this real dtype has every number of another, so that a cast loses nothing.

        Example:
            >>> f32.holds(bf16), f32.holds(i32), f16.holds(i8), bf16.holds(f16)
            (True, False, True, False)
        """
        if self.kind == "complex" or other.kind == "complex":
            return self is other
        digits, largest = _RANGES[self.name]
        theirs, most = _RANGES[other.name]
        signs = self.is_signed or not other.is_signed
        exact = self.is_floating_point or not other.is_floating_point
        return exact and signs and digits >= theirs and largest >= most

    def to_real(self) -> DType:
        """The dtype of the parts of a complex dtype; any other is its own."""
        return _REAL.get(self, self)

    def to_complex(self) -> DType:
        """The complex dtype whose parts have this dtype's precision, at least single."""
        if self.kind == "complex":
            return self
        return c128 if self is f64 else c64

    def __repr__(self) -> str:
        return f"braze.{self.public_name}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return dtype_named, (self.name,)

    def __getattr__(self, name: str) -> Any:
        """NumPy has no bfloat16. The one of another package is looked up when it is first asked
        for: a program with a compiled model that has none of it needs NumPy only."""
        if name != "numpy":
            raise AttributeError(f"'DType' object has no attribute '{name}'")
        import ml_dtypes

        found = np.dtype(ml_dtypes.bfloat16)
        object.__setattr__(self, "numpy", found)
        return found


bool_ = DType("bool", "bool", "bool", 1, np.dtype(np.bool_))
u8 = DType("u8", "uint8", "uint", 8, np.dtype(np.uint8))
u16 = DType("u16", "uint16", "uint", 16, np.dtype(np.uint16))
u32 = DType("u32", "uint32", "uint", 32, np.dtype(np.uint32))
u64 = DType("u64", "uint64", "uint", 64, np.dtype(np.uint64))
i8 = DType("i8", "int8", "int", 8, np.dtype(np.int8))
i16 = DType("i16", "int16", "int", 16, np.dtype(np.int16))
i32 = DType("i32", "int32", "int", 32, np.dtype(np.int32))
i64 = DType("i64", "int64", "int", 64, np.dtype(np.int64))
f16 = DType("f16", "float16", "float", 16, np.dtype(np.float16))
bf16 = DType("bf16", "bfloat16", "float", 16, np.dtype(np.void))
object.__delattr__(bf16, "numpy")
f32 = DType("f32", "float32", "float", 32, np.dtype(np.float32))
f64 = DType("f64", "float64", "float", 64, np.dtype(np.float64))
c64 = DType("c64", "complex64", "complex", 64, np.dtype(np.complex64))
c128 = DType("c128", "complex128", "complex", 128, np.dtype(np.complex128))

ALL: tuple[DType, ...] = (
    *(bool_, u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64),
    *(c64, c128),
)
FLOATS: tuple[DType, ...] = (f16, bf16, f32, f64)
COMPLEX: tuple[DType, ...] = (c64, c128)
REAL: tuple[DType, ...] = tuple(dtype for dtype in ALL if dtype not in COMPLEX)
INTEGERS: tuple[DType, ...] = (u8, u16, u32, u64, i8, i16, i32, i64)

_REAL = {c64: f32, c128: f64}
# Binary digits, and the largest exponent of two below the largest number. (Those floats that have
# larger ones have smaller ones, too.)
_RANGES = {
    "bool": (1, 0),
    **{dtype.name: (dtype.bits - (dtype.kind == "int"),) * 2 for dtype in INTEGERS},
    "f16": (11, 16), "bf16": (8, 128), "f32": (24, 128), "f64": (53, 1024),
}  # fmt: skip
_BY_NAME = {dtype.name: dtype for dtype in ALL}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL if dtype is not bf16}


def dtype_named(name: str) -> DType:
    """The dtype whose IR name is `name`, e.g. ``"f32"``.

    Raises:
        KeyError: no dtype has that name.
    """
    return _BY_NAME[name]


def from_numpy(dtype: np.dtype) -> DType:
    """The dtype of a NumPy array's elements.

    Raises:
        TypeError: NumPy's dtype has no counterpart (strings, objects, ...).
    """
    found = _BY_NUMPY.get(dtype)  # mostly it is one in native byte order
    if found is None:
        native = np.dtype(dtype).newbyteorder("=")
        found = _BY_NUMPY.get(native)
        if found is None and native.name == bf16.public_name and native == bf16.numpy:
            found = _BY_NUMPY[native] = bf16
    if found is None:
        known = ", ".join(str(d.numpy) for d in ALL)
        raise TypeError(f"no tensor dtype for NumPy's {dtype}; the supported ones are: {known}")
    return found


def promote(left: DType, right: DType) -> DType:
    """The dtype of an operation on two tensors, by PyTorch's `torch.promote_types`.

    Unsigned integers of 16 to 64 bits, which PyTorch refuses to promote, follow the array API
    standard: to the wider unsigned one, or with a signed one to the narrowest that holds both.

    Raises:
        DTypeError: uint64 and a signed integer; no integer holds both.

    Example:
        >>> promote(u8, i8).name, promote(i64, f16).name, promote(f16, bf16).name
        ('i16', 'f16', 'f32')
    """
    if left is right:
        return left
    if left.kind == "bool":
        return right
    if right.kind == "bool":
        return left
    if left.is_complex or right.is_complex:
        wide = f64 in (left.to_real(), right.to_real())
        return c128 if wide else c64
    if left.is_floating_point != right.is_floating_point:
        return left if left.is_floating_point else right
    if left.is_floating_point:
        if left.bits == right.bits:
            return f32
        return left if left.bits > right.bits else right
    if left.kind == right.kind:
        return left if left.bits > right.bits else right
    unsigned, signed = (left, right) if left.kind == "uint" else (right, left)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned is u64:
        raise DTypeError(
            f"promotion of uint64 and {signed.public_name} is not supported: no integer dtype "
            "holds both; cast one of them first"
        )
    return {8: i16, 16: i32, 32: i64}[unsigned.bits]
