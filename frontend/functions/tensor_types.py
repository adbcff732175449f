"""Early PyTorch's names for tensor types: `FloatTensor` and its like.

They construct (`FloatTensor(2, 3)`, `LongTensor([1, 2])`), convert (`x.type(DoubleTensor)`), and
`isinstance(x, FloatTensor)` asks for the dtype. No tensor is an instance of them otherwise: all are
`braze.Tensor`. Those of GPUs are names only, as in `x.type("torch.cuda.FloatTensor")`.
"""

from __future__ import annotations

from typing import Any

from braze.devices import place_of
from braze.functions.creation import empty, tensor
from braze.functions.promotion import cast, set_default_dtype
from braze.ir import dtypes
from braze.ir.dtypes import DType
from braze.placing import moved
from braze.sizes import Size
from braze.tensors import Tensor

_NAMES = {
    dtypes.bool_: "Bool",
    dtypes.u8: "Byte",
    dtypes.u16: "UInt16",
    dtypes.u32: "UInt32",
    dtypes.u64: "UInt64",
    dtypes.i8: "Char",
    dtypes.i16: "Short",
    dtypes.i32: "Int",
    dtypes.i64: "Long",
    dtypes.f16: "Half",
    dtypes.bf16: "BFloat16",
    dtypes.f32: "Float",
    dtypes.f64: "Double",
    dtypes.c64: "ComplexFloat",
    dtypes.c128: "ComplexDouble",
}


def construct(arguments: tuple[Any, ...], dtype: DType) -> Tensor:
    """What a legacy constructor makes: of sizes, of a `Size`, or of data.

    Raises:
        TypeError: the data are one number that is not a size, or a tensor of another dtype.
    """
    if len(arguments) == 1:
        (data,) = arguments
        if isinstance(data, Size):
            return empty(data, dtype=dtype)
        if isinstance(data, Tensor):
            if data.dtype is not dtype:
                raise TypeError(
                    f"expected a tensor of {dtype!r} (got one of {data.dtype!r}); use .to() to cast"
                )
            return data.detach()
        if not isinstance(data, int):
            if not hasattr(data, "__len__"):
                raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
            return tensor(data, dtype=dtype)
    return empty(*arguments, dtype=dtype) if arguments else empty(0, dtype=dtype)


class _TensorType(type):
    """The class of `FloatTensor` and its like."""

    dtype: DType

    def __instancecheck__(cls, instance: object) -> bool:
        return (
            isinstance(instance, Tensor) and instance.dtype is cls.dtype and not instance.is_sparse
        )

    def __call__(cls, *arguments: Any) -> Tensor:
        return construct(arguments, cls.dtype)

    def __repr__(cls) -> str:
        return f"<class 'braze.{cls.__name__}'>"


def _tensor_type(dtype: DType) -> Any:
    name = f"{_NAMES[dtype]}Tensor"
    doc = f"Tensors of {dtype!r}: construct one, or ask with `isinstance`."
    return _TensorType(name, (), {"dtype": dtype, "__doc__": doc, "__module__": "braze"})


TYPES: dict[str, Any] = {f"{_NAMES[dtype]}Tensor": _tensor_type(dtype) for dtype in dtypes.ALL}


def type_name(dtype: DType, place: str = "cpu") -> str:
    """As in ``"braze.FloatTensor"``, or on a GPU ``"braze.cuda.FloatTensor"``."""
    return f"braze.{'' if place == 'cpu' else 'cuda.'}{_NAMES[dtype]}Tensor"


def dtype_of(kind: Any) -> DType:
    """The dtype that a dtype, a tensor type or the name of one means.

    Raises:
        ValueError: the name is not known. TypeError: it is something else.
    """
    if isinstance(kind, DType):
        return kind
    dtype = getattr(kind, "dtype", None)
    if isinstance(kind, type) and isinstance(dtype, DType):  # a dense or sparse tensor type
        return dtype
    if kind is Tensor:
        return dtypes.f32
    if isinstance(kind, str):
        module, _, name = kind.rpartition(".")
        package, _, part = module.partition(".")
        if module in ("braze", "torch") and name == "Tensor":
            return dtypes.f32
        if package in ("braze", "torch") and part in _PARTS and name in TYPES:
            return dtype_of(TYPES[name])
        raise ValueError(f"invalid type: '{kind}'")
    raise TypeError(f"a dtype, a tensor type or its name was expected, given {kind!r}")


_PARTS = ("", "cuda", "sparse", "cuda.sparse")


def placed_as(tensor: Tensor, kind: Any) -> Tensor:
    """A tensor where those of a type are: a GPU's say so, a dtype says nothing.

    Raises:
        RuntimeError: there is no GPU.
    """
    if isinstance(kind, str) and ".cuda." in kind:
        on_gpu = tensor._handle.type.device != "cpu"
        return tensor if on_gpu else moved(tensor, place_of("cuda"))
    return tensor if isinstance(kind, DType) else moved(tensor, "cpu")


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by a floating-point tensor type or its name."""
    set_default_dtype(dtype_of(t))


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor cast to a dtype, a tensor type or its name, and
    moved to where tensors of the type are."""
    if dtype is None:
        return type_name(self.dtype, self._handle.type.device)
    return placed_as(cast(self, dtype_of(dtype)), dtype)


def new(self: Tensor, *arguments: Any) -> Tensor:
    """A tensor of this dtype, on this device, of the given sizes or with the given data."""
    return moved(construct(arguments, self.dtype), self._handle.type.device)


METHODS = {"type": type_, "new": new}
