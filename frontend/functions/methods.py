"""Attach the functions to `Tensor` as methods and operators, and derive the in-place methods.

The in-place form of a function replaces the tensor's value by the function's result, cast to the
tensor's dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from braze.capture import Call, call_of
from braze.devices import Used, place_of
from braze.functions import (
    comparison,
    complex_numbers,
    decompositions,
    distinct,
    elementwise_methods,
    fourier,
    gradient_hooks,
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
    segments,
    short_time,
    signatures,
    sorting,
    splitting,
    tensor_questions,
    top_level,
    views,
)
from braze.functions.arguments import count_tensors, explained
from braze.functions.creation import as_tensor, full, ones, tensor, zeros
from braze.functions.inplace import inplace_form as _inplace
from braze.functions.promotion import cast, scalar, single
from braze.functions.spellings import with_spellings
from braze.ir import dtypes
from braze.ir.dtypes import DType
from braze.ir.op import op_named
from braze.placing import beside, moved
from braze.shared_updates import is_update, updating
from braze.sparse import methods as sparse_methods
from braze.tensors import Tensor, apply
from braze.views import fill_repeated, instead, shows_repeats

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

# Methods of any number of sizes or dimensions, and the keyword for all of them as one tuple.
SIZES = {
    "reshape": "shape",
    "view": "size",
    "permute": "dims",
    "expand": "size",
    "repeat": "repeats",
    "tile": "dims",
    "flip": "dims",
    "new_zeros": "size",
    "new_ones": "size",
    "new_empty": "size",
}
# What the loops below would make a method although PyTorch has it as a function only.
NOT_METHODS = frozenset(
    """
fmax_ fmin_ maximum_ minimum_ isfinite_ isinf_ isnan_ isneginf_ isposinf_ logaddexp_ logaddexp2_
signbit_ log_sigmoid log_sigmoid_ silu silu_ std_mean var_mean
""".split()
)

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
# Of these, the operations of the same names.
PLAIN = ("add", "sub", "mul", "div")
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


def _invert(self: Tensor) -> Tensor:
    if self.dtype.is_differentiable:
        raise TypeError("~ (operator.invert) is only implemented on integer and bool tensors")
    return pointwise.UNARY["bitwise_not"](self)


def _sized(function: Callable[..., Tensor], keyword: str) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def method(self: Tensor, *sizes: Any, **named: Any) -> Tensor:
        if keyword in named:
            sizes = (*sizes, named.pop(keyword))
        if not sizes and not named and self.ndim:
            raise TypeError(
                f"{function.__name__}() missing 1 required positional arguments: {keyword!r}"
            )
        return function(self, *sizes, **named)

    return method


def _reflected(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, other: function(other, self)


def _operator(function: Callable[..., Tensor], plain: Call | None = None) -> Callable[..., Any]:
    """Operators give other types a chance to handle what a tensor cannot.

    Args:
        plain: what the function comes to for two tensors of one dtype that has gradients, and for
            a floating-point tensor and a real number.
    """

    def method(self: Tensor, other: Any) -> Any:
        if plain is not None:
            dtype, kind = self._handle.type.dtype, other.__class__
            if kind is float or kind is int:
                if dtype.is_floating_point:
                    return apply(plain, self, scalar(other, dtype))
            elif isinstance(other, Tensor):
                if dtype is other._handle.type.dtype and dtype.is_differentiable:
                    return apply(plain, self, other)
        if not isinstance(other, (Tensor, int, float, complex)):
            if not isinstance(other, (np.ndarray, np.generic)):
                return NotImplemented
            other = other.item() if isinstance(other, np.generic) else as_tensor(other)
        return function(self, other)

    return method


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Take over the elements of another tensor, cast and broadcast, in place."""
    source = beside(self, src if isinstance(src, Tensor) else tensor(src))
    if source.is_sparse:
        raise RuntimeError(
            "copy_() between dense and sparse Tensors is not implemented! Found self type = "
            f"{self.type()} and src type = {source.type()}"
        )
    shaped = movement.expand(cast(source, self.dtype), self._handle.type.shape)
    return self._replace(instead(self, movement.clone(shaped)))


def fill_(self: Tensor, value: float | Tensor) -> Tensor:
    """Set every element to a number, or to the element of a tensor of no dimensions, in place.

    Raises:
        RuntimeError: a tensor that has dimensions.
    """
    filled = movement.expand(single("fill_", value, self.dtype), self._handle.type.shape)
    if shows_repeats(self):
        return fill_repeated(self, movement.clone(filled))
    return self._replace(instead(self, movement.clone(filled)))


def zero_(self: Tensor) -> Tensor:
    """Set every element to zero, in place."""
    if shows_repeats(self):
        return fill_(self, 0)
    new = zeros(self._handle.type.shape, dtype=self.dtype)
    return self._replace(moved(new, self._handle.type.device))


def zero_gradient(gradient: Tensor) -> None:
    """Set a gradient to zero for the next backward pass, without the history it may have."""
    if gradient.grad_fn is not None:
        gradient.detach_()
    else:
        gradient.requires_grad_(False)
    gradient.zero_()


def to(
    self: Tensor,
    *args: Any,
    dtype: DType | None = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The tensor with another dtype and/or on another device (itself if nothing changes, unless
    `copy`).

    Accepts a dtype, a device, or a tensor to be like; then `non_blocking` and `copy`.

    Raises:
        TypeError: other arguments.
    """
    places = list(args)
    if places and isinstance(places[0], Tensor):
        like = places.pop(0)
        dtype, device = like.dtype, like._handle.type.device
    else:
        if places and not isinstance(places[0], (DType, bool)):
            device = places.pop(0)
        if places and isinstance(places[0], DType):
            dtype = places.pop(0)
    if len(places) > 2 or not all(isinstance(flag, bool) for flag in places):
        raise TypeError(f"to() received an invalid combination of arguments: {args}")
    if len(places) == 2:
        copy = places[1]
    result = self
    if device is not None:
        result = moved(self, place_of(device))
    result = result if dtype is None else cast(result, dtype)
    return movement.clone(result) if copy and result is self else result


def split(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of a dimension in pieces of one size, or of the sizes given."""
    return movement.split(self, split_size, dim)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """Cast to the dtype of another tensor, and moved to its device."""
    return cast(beside(other, self), other.dtype)


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor on the CPU, itself if it is there."""
    return moved(self, "cpu")


def _cast_method(dtype: DType) -> Callable[..., Tensor]:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return cast(self, dtype)

    method.__name__ = dtype.public_name
    method.__doc__ = f"The tensor as {dtype.public_name}."
    return method


def _new(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
        if Used.devices and kwargs.get("device") is None:
            kwargs["device"] = self._handle.type.device
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
    own = (copy_, fill_, zero_, to, type_as, cpu, split)
    found |= {function.__name__: function for function in own}
    found |= elementwise_methods.methods(_inplace)
    found |= complex_numbers.METHODS
    found |= {
        f"{name}_": _inplace(getattr(complex_numbers, name)) for name in ("sgn", "conj_physical")
    }
    found |= {name: _cast_method(dtype) for name, dtype in CASTS.items()}
    found |= {"new_zeros": _new(zeros), "new_ones": _new(ones), "new_full": _new(full)}
    found["new_tensor"] = lambda self, data, **kw: tensor(data, **{"dtype": self.dtype, **kw})
    found |= {name: signatures.FUNCTIONS[name] for name in ("softmax", "log_softmax")}
    found["where"] = lambda self, condition, other: pointwise.where(condition, self, other)
    found |= interchange.METHODS | gradient_hooks.METHODS
    found |= sorting.METHODS | searching.METHODS | distinct.METHODS
    found |= splitting.METHODS | segments.METHODS | top_level.METHODS | sparse_methods.METHODS
    found["index_reduce_"] = _inplace(segments.index_reduce)
    found |= views.METHODS | rearrangement.METHODS | scattering.METHODS | tensor_questions.METHODS
    found |= {name: _sized(found[name], keyword) for name, keyword in SIZES.items()}
    return {name: method for name, method in found.items() if name not in NOT_METHODS}


def _operators() -> dict[str, Any]:
    """Every operator by the name of its method."""
    found: dict[str, Any] = {}
    for symbol, name in ARITHMETIC.items():
        function = getattr(pointwise, name)
        plain = call_of(op_named(name)) if name in PLAIN else None
        found[f"__{symbol}__"] = _operator(function, plain)
        found[f"__r{symbol}__"] = _operator(_reflected(function))
        found[f"__i{symbol}__"] = _operator(_inplace(function))
    for symbol in ("eq", "ne", "lt", "le", "gt", "ge"):
        found[f"__{symbol}__"] = _operator(getattr(pointwise, symbol))
    found["__matmul__"] = _operator(linalg.matmul)
    found["__rmatmul__"] = _operator(_reflected(linalg.matmul))
    found["__neg__"] = pointwise.neg
    found["__abs__"] = pointwise.UNARY["abs"]
    found["__invert__"] = _invert
    found |= elementwise_methods.operators(_operator, _reflected, _inplace)
    found["__getitem__"] = indexing.getitem
    found["__setitem__"] = indexing.setitem
    return found


def attach() -> None:
    """Give `Tensor` its methods. Called once, when the front end is imported."""
    for name, method in (_spoken(_methods()) | _operators()).items():
        setattr(Tensor, name, updating(method) if is_update(name) else method)


def _spoken(methods: dict[str, Any]) -> dict[str, Any]:
    """Methods know NumPy's keywords; those that take tensors besides their own say so when they
    fail for want of one."""
    found = {name: with_spellings(method) for name, method in methods.items()}
    return {
        name: explained(method, name)
        if isinstance(method, FunctionType) and count_tensors(method) > 1
        else method
        for name, method in found.items()
    }
