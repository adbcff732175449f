"""The names in a file: what PyTorch calls its dtypes, storages and functions that rebuild tensors.

Files are PyTorch's, hence they name PyTorch's things. Writing needs a name for each of ours, and
reading the way back; neither imports PyTorch.
"""

from __future__ import annotations

from pickle import UnpicklingError
from typing import Any, NamedTuple

from braze.ir import dtypes
from braze.ir.dtypes import DType

_STORAGES: dict[str, DType] = {
    "DoubleStorage": dtypes.f64,
    "FloatStorage": dtypes.f32,
    "HalfStorage": dtypes.f16,
    "BFloat16Storage": dtypes.bf16,
    "LongStorage": dtypes.i64,
    "IntStorage": dtypes.i32,
    "ShortStorage": dtypes.i16,
    "CharStorage": dtypes.i8,
    "ByteStorage": dtypes.u8,
    "BoolStorage": dtypes.bool_,
    "ComplexDoubleStorage": dtypes.c128,
    "ComplexFloatStorage": dtypes.c64,
}


class StorageKind(NamedTuple):
    """What a storage class's name says: the numbers' dtype (None: bytes)."""

    dtype: DType | None

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return 1 if self.dtype is None else self.dtype.itemsize


def described(description: Any, length: int) -> tuple[StorageKind, str, str, int]:
    """Kind, key, location and number of elements of a storage.

    Raises:
        UnpicklingError: it describes none.
    """
    if type(description) is tuple and len(description) >= length and description[0] == "storage":
        _, kind, key, location, numel = description[:5]
        right = type(kind) is StorageKind and type(location) is str and type(numel) is int
        if right and isinstance(key, (str, int)) and 0 <= numel < 1 << 62:
            return kind, str(key), location, numel
    raise UnpicklingError("the pickle refers to something that is no storage")


class TorchName:
    """A global of PyTorch as an object that the pickler writes by its name.

    Attributes:
        text: module and name, as the pickle has them.
    """

    __slots__ = ("text",)

    def __init__(self, module: str, name: str) -> None:
        self.text = f"{module} {name}"

    def __call__(self, *args: Any) -> Any:
        """There only for `pickle`, which wants to write functions that can be called."""
        raise TypeError(f"{self.text} is a name in a file")


UNTYPED = TorchName("torch.storage", "UntypedStorage")
STORAGE_NAMES: dict[DType, TorchName] = {
    dtype: TorchName("torch", name) for name, dtype in _STORAGES.items()
}
DTYPE_NAMES: dict[DType, str] = {dtype: f"torch {dtype.public_name}" for dtype in dtypes.ALL}

# Storages by the two names that a file has for each of them, also as they were on a GPU.
STORAGE_KINDS: dict[str, StorageKind] = {
    f"{module}.{name}": StorageKind(dtype)
    for name, dtype in _STORAGES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
STORAGE_KINDS |= {
    f"torch.{name}": StorageKind(None)
    for name in ("UntypedStorage", "storage.UntypedStorage", "storage._UntypedStorage")
}
TORCH_DTYPES: dict[str, DType] = {f"torch.{dtype.public_name}": dtype for dtype in dtypes.ALL}

# The tensor classes of the oldest format.
TENSOR_KINDS: dict[str, StorageKind] = {
    f"{module}.{name.removesuffix('Storage')}Tensor": StorageKind(dtype)
    for name, dtype in _STORAGES.items()
    for module in ("torch", "torch.cuda")
}


def _utility(name: str) -> TorchName:
    return TorchName("torch._utils", name)


REBUILD_TENSOR = _utility("_rebuild_tensor_v2")
REBUILD_TENSOR_OF_BYTES = _utility("_rebuild_tensor_v3")
REBUILD_PARAMETER = _utility("_rebuild_parameter")
REBUILD_PARAMETER_WITH_STATE = _utility("_rebuild_parameter_with_state")
REBUILD_SPARSE = _utility("_rebuild_sparse_tensor")
REBUILD_FROM_TYPE = TorchName("torch._tensor", "_rebuild_from_type_v2")
TENSOR = TorchName("torch", "Tensor")
SIZE = TorchName("torch", "Size")
DEVICE = TorchName("torch", "device")
GET_LAYOUT = TorchName("torch.serialization", "_get_layout")
