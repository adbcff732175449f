"""`braze.sparse.FloatTensor` and its like, in early PyTorch's words.

They construct, and `isinstance(x, braze.sparse.FloatTensor)` asks for layout and dtype.
"""

from __future__ import annotations

from typing import Any

from braze.functions import tensor_types
from braze.ir.dtypes import DType
from braze.sizes import Size
from braze.sparse.construction import empty_sparse, sparse_coo_tensor
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor


def construct(arguments: tuple[Any, ...], dtype: DType) -> Tensor:
    """What a legacy constructor makes: of indices, values and a size, or of sizes.

    Raises:
        TypeError: the values have another dtype.
    """
    if len(arguments) >= 2 and isinstance(arguments[0], Tensor):
        indices, values, *size = arguments
        if isinstance(values, Tensor) and values.dtype is not dtype:
            raise TypeError(
                f"expected values of {dtype!r} (got {values.dtype!r}); use .to() to cast"
            )
        return sparse_coo_tensor(indices, values, *size, dtype=dtype)
    if len(arguments) == 1 and isinstance(arguments[0], (Size, tuple, list)):
        arguments = tuple(arguments[0])
    sizes = tuple(int(n) for n in arguments) or (0,)
    return empty_sparse(sizes, dtype)


class _SparseType(type):
    """The class of `braze.sparse.FloatTensor` and its like."""

    dtype: DType

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, SparseTensor) and instance.dtype is cls.dtype

    def __call__(cls, *arguments: Any) -> Tensor:
        return construct(arguments, cls.dtype)

    def __repr__(cls) -> str:
        return f"<class 'braze.sparse.{cls.__name__}'>"


def _sparse_type(name: str, dtype: DType) -> Any:
    doc = f"Sparse tensors of {dtype!r}: construct one, or ask with `isinstance`."
    return _SparseType(name, (), {"dtype": dtype, "__doc__": doc, "__module__": "braze.sparse"})


TYPES: dict[str, Any] = {
    name: _sparse_type(name, kind.dtype) for name, kind in tensor_types.TYPES.items()
}


def type_name(tensor: Tensor) -> str:
    """As in ``"braze.sparse.FloatTensor"``, or on a GPU ``"braze.cuda.sparse.FloatTensor"``."""
    type = tensor._handle.type
    package, _, name = tensor_types.type_name(type.dtype, type.device).rpartition(".")
    return f"{package}.sparse.{name}"
