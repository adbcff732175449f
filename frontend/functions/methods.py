"""Attach the functions to `Tensor` as methods and operators, and derive the in-place methods.

The in-place form of a function replaces the tensor's value by the function's result, cast to the
tensor's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from braze.functions import (
    comparison,
    complex_numbers,
    decompositions,
    distinct,
    elementwise_methods,
    fourier,
    indexing,
    interchange,
    linalg,
    movement,
    pointwise,
    products,
    rearrangement,
    reductions,
    scans,
    scattering,
    searching,
    short_time,
    sorting,
    views,
)
from braze.functions.creation import as_tensor, check_device, full, ones, tensor, zeros
from braze.functions.out import check_castable
from braze.functions.promotion import cast, scalar
from braze.ir import dtypes
from braze.ir.dtypes import DType
from braze.tensors import Tensor, before_update

BINARY = (
    "add sub mul div floor_divide remainder fmod pow maximum minimum atan2 eq ne lt le gt ge "
    "bitwise_and "
    "bitwise_or bitwise_xor clamp masked_fill lerp addcmul addcdiv"
).split()
INPLACE = (
    "add sub mul div floor_divide remainder fmod pow eq ne lt le gt ge clamp masked_fill lerp "
    "addcmul addcdiv neg"
).split()
REDUCTIONS = (
    "sum prod mean var std amax amin max min argmax argmin any all norm logsumexp softmax "
    "log_softmax"
).split()
MOVEMENT = (
    "reshape flatten unflatten permute transpose t movedim squeeze unsqueeze expand expand_as "
    "repeat clone "
    "narrow select flip split chunk unbind"
).split()
LINALG = "matmul mm bmm mv dot outer addmm".split()

ARITHMETIC = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
CASTS = {
    "float": dtypes.f32,
    "double": dtypes.f64,
    "half": dtypes.f16,
    "bfloat16": dtypes.bf16,
    "int": dtypes.i32,
    "long": dtypes.i64,
    "short": dtypes.i16,
    "char": dtypes.i8,
    "byte": dtypes.u8,
    "bool": dtypes.bool_,
    "cfloat": dtypes.c64,
    "cdouble": dtypes.c128,
}


def _inplace(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = function(before_update(self), *args, **kwargs)
        own, new = self._handle.type, result._handle.type
        if new.shape != own.shape:
            raise RuntimeError(
                f"output with shape {list(own.shape)} doesn't match the broadcast shape "
                f"{list(new.shape)}"
            )
        check_castable(new.dtype, own.dtype)
        return self._replace(cast(result, own.dtype))

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"In-place `{function.__name__}`."
    return method


def _reflected(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, other: function(other, self)


def _operator(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Operators give other types a chance to handle what a tensor cannot."""

    def method(self: Tensor, other: Any) -> Any:
        if not isinstance(other, (Tensor, int, float, complex)):
            if not isinstance(other, (np.ndarray, np.generic)):
                return NotImplemented
            other = other.item() if isinstance(other, np.generic) else as_tensor(other)
        return function(self, other)

    return method


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Take over the elements of another tensor, cast and broadcast, in place."""
    source = src if isinstance(src, Tensor) else tensor(src)
    shaped = movement.expand(cast(source, self.dtype), self._handle.type.shape)
    return self._replace(movement.clone(shaped))


def fill_(self: Tensor, value: float) -> Tensor:
    """Set every element to a number, in place."""
    filled = movement.expand(scalar(value, self.dtype), self._handle.type.shape)
    return self._replace(movement.clone(filled))


def zero_(self: Tensor) -> Tensor:
    """Set every element to zero, in place."""
    return self._replace(zeros(self._handle.type.shape, dtype=self.dtype))


def to(
    self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, **ignored: Any
) -> Tensor:
    """The tensor with another dtype and/or on another device (itself if nothing changes).

    Accepts a dtype, a device, or a tensor to be like. `non_blocking` and `copy` are accepted.
    """
    for argument in args:
        if isinstance(argument, Tensor):
            dtype = argument.dtype
        elif isinstance(argument, DType):
            dtype = argument
        elif not isinstance(argument, bool):
            device = argument
    check_device(device)
    result = self if dtype is None else cast(self, dtype)
    return movement.clone(result) if ignored.get("copy") and result is self else result


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """Cast to the dtype of another tensor."""
    return cast(self, other.dtype)


def cpu(self: Tensor) -> Tensor:
    """The tensor on the CPU."""
    return self


def _cast_method(dtype: DType) -> Callable[[Tensor], Tensor]:
    return lambda self: cast(self, dtype)


def _new(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
        return function(*size, dtype=dtype or self.dtype, **kwargs)

    return method


def _named(names: list[str], module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names}


def _methods() -> dict[str, Any]:
    """Every method by name."""
    found = _named(BINARY, pointwise) | _named(REDUCTIONS, reductions) | _named(MOVEMENT, movement)
    found |= _named(LINALG, linalg) | _named(["gather", "index_select"], indexing)
    found |= _named(["equal", "allclose"], comparison)
    found |= _named(products.METHODS, products) | _named(decompositions.METHODS, decompositions)
    found |= _named(fourier.METHODS, fourier) | _named(short_time.METHODS, short_time)
    found |= {f"{name}_": _inplace(getattr(products, name)) for name in products.INPLACE}
    found["addmm_"] = _inplace(linalg.addmm)
    found |= pointwise.UNARY | {"neg": pointwise.neg}
    found |= scans.METHODS
    found |= {f"{name}_": _inplace(function) for name, function in pointwise.UNARY.items()}
    found |= {f"{name}_": _inplace(getattr(pointwise, name)) for name in INPLACE}
    own = (copy_, fill_, zero_, to, type_as, cpu)
    found |= {function.__name__: function for function in own}
    found |= elementwise_methods.methods(_inplace)
    found |= complex_numbers.METHODS
    found |= {
        f"{name}_": _inplace(getattr(complex_numbers, name)) for name in ("sgn", "conj_physical")
    }
    found |= {name: _cast_method(dtype) for name, dtype in CASTS.items()}
    found |= {"new_zeros": _new(zeros), "new_ones": _new(ones), "new_full": _new(full)}
    found["new_tensor"] = lambda self, data, **kw: tensor(data, **{"dtype": self.dtype, **kw})
    found["where"] = lambda self, condition, other: pointwise.where(condition, self, other)
    found |= interchange.METHODS
    found |= sorting.METHODS | searching.METHODS | distinct.METHODS
    return found | views.METHODS | rearrangement.METHODS | scattering.METHODS


def _operators() -> dict[str, Any]:
    """Every operator by the name of its method."""
    found: dict[str, Any] = {}
    for symbol, name in ARITHMETIC.items():
        function = getattr(pointwise, name)
        found[f"__{symbol}__"] = _operator(function)
        found[f"__r{symbol}__"] = _operator(_reflected(function))
        found[f"__i{symbol}__"] = _operator(_inplace(function))
    for symbol in ("eq", "ne", "lt", "le", "gt", "ge"):
        found[f"__{symbol}__"] = _operator(getattr(pointwise, symbol))
    found["__matmul__"] = _operator(linalg.matmul)
    found["__rmatmul__"] = _operator(_reflected(linalg.matmul))
    found["__neg__"] = pointwise.neg
    found["__abs__"] = pointwise.UNARY["abs"]
    found["__invert__"] = pointwise.UNARY["bitwise_not"]
    found |= elementwise_methods.operators(_operator, _reflected, _inplace)
    found["__getitem__"] = indexing.getitem
    found["__setitem__"] = indexing.setitem
    return found


def attach() -> None:
    """Give `Tensor` its methods. Called once, when the front end is imported."""
    for name, method in (_methods() | _operators()).items():
        setattr(Tensor, name, method)
