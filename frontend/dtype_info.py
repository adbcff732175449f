"""What a dtype can represent: `finfo`, `iinfo`, and which casts are safe."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from braze.functions.promotion import get_default_dtype
from braze.ir.dtypes import DType

_CATEGORY = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}


class finfo:
    """The range and precision of a floating-point dtype.

    Attributes:
        bits: of one number. eps: the gap between 1 and the next number.
        max, min: the largest and the most negative finite number.
        smallest_normal, tiny: the smallest positive number of full precision.
        resolution: about how exact decimal digits are. dtype: the dtype's name.

    Raises:
        TypeError: it is neither a floating-point nor a complex dtype (whose parts are described),
            nor a tensor of one.

    Example:
        >>> import braze
        >>> braze.finfo(braze.float32).eps
        1.1920928955078125e-07
    """

    def __init__(self, type: Any = None) -> None:
        dtype = get_default_dtype() if type is None else getattr(type, "dtype", type)
        if isinstance(dtype, DType):
            dtype = dtype.to_real()
        if not isinstance(dtype, DType) or not dtype.is_floating_point:
            raise TypeError(
                f"braze.finfo() requires a floating point input type, given {type!r}. "
                "Use braze.iinfo for integers"
            )
        info: Any = ml_dtypes.finfo(dtype.numpy)
        self.bits = dtype.bits
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.smallest_normal = self.tiny = float(info.smallest_normal)
        self.resolution = 10.0**-info.precision
        self.dtype = dtype.public_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        fields = [f"{name}={getattr(self, name):g}" for name in names]
        return f"finfo({', '.join(fields)}, dtype={self.dtype})"


class iinfo:
    """The range of an integer dtype: `bits`, `min`, `max`, and the dtype's name.

    Raises:
        TypeError: it is not an integer dtype or a tensor of one.
    """

    def __init__(self, type: Any) -> None:
        type = getattr(type, "dtype", type)
        if not isinstance(type, DType) or not type.is_integer:
            raise TypeError(
                f"braze.iinfo() requires an integer input type, given {type!r}. "
                "Use braze.finfo for floating-point numbers"
            )
        info = np.iinfo(type.numpy)
        self.bits = type.bits
        self.min = int(info.min)
        self.max = int(info.max)
        self.dtype = type.public_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def can_cast(from_: DType, to: DType) -> bool:
    """Whether PyTorch's promotion lets a result of one dtype be stored in another: its kind
    (bool < integer < float < complex) must not be higher."""
    return _CATEGORY[from_.kind] <= _CATEGORY[to.kind]
