"""What ONNX's messages say, as NumPy arrays, Python values and Braze's dtypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from braze.ir import dtypes
from braze.ir.dtypes import DType

_T = onnx.TensorProto

# ONNX's element types that Braze has.
DTYPES: dict[int, DType] = {
    _T.BOOL: dtypes.bool_,
    _T.UINT8: dtypes.u8,
    _T.UINT16: dtypes.u16,
    _T.UINT32: dtypes.u32,
    _T.UINT64: dtypes.u64,
    _T.INT8: dtypes.i8,
    _T.INT16: dtypes.i16,
    _T.INT32: dtypes.i32,
    _T.INT64: dtypes.i64,
    _T.FLOAT16: dtypes.f16,
    _T.BFLOAT16: dtypes.bf16,
    _T.FLOAT: dtypes.f32,
    _T.DOUBLE: dtypes.f64,
    _T.COMPLEX64: dtypes.c64,
    _T.COMPLEX128: dtypes.c128,
}
FLOATS = frozenset(number for number, dtype in DTYPES.items() if dtype.is_floating_point)
ELEMENT_TYPES = {dtype: number for number, dtype in DTYPES.items()}


def dtype_of(element_type: int, what: str) -> DType:
    """Braze's dtype for an element type.

    Raises:
        TypeError: there is none; the message begins with `what`.
    """
    if element_type not in DTYPES:
        given = _T.DataType.Name(element_type)
        known = ", ".join(_T.DataType.Name(number) for number in DTYPES)
        raise TypeError(f"{what} has elements of type {given}; supported are {known}")
    return DTYPES[element_type]


def array_of(tensor: onnx.TensorProto, directory: str = "", what: str = "") -> np.ndarray:
    """A tensor's elements, from an external file in `directory` if they are there."""
    what = what or f"tensor {tensor.name!r}"
    wanted = dtype_of(tensor.data_type, what)
    try:
        array = numpy_helper.to_array(tensor, directory)
    except (OSError, onnx.checker.ValidationError) as error:
        raise OSError(f"{what}: its external data cannot be read: {error}") from error
    return np.ascontiguousarray(array, dtype=wanted.numpy).reshape(tensor.dims)


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: the model's name for it.
        dtype: of its elements; None for what is no tensor (a sequence, an optional value).
        shape: a number, or the name of a dimension that is open ("" if it has none) for each
            dimension; None if their number is open.
    """

    name: str
    dtype: DType | None
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        if self.dtype is None:
            return self.name
        if self.shape is None:
            return f"{self.name}: {self.dtype.name}"
        return f"{self.name}: {self.dtype.name}[{','.join(str(d) or '?' for d in self.shape)}]"


def port(info: onnx.ValueInfoProto) -> Port:
    """What is declared of an input or output."""
    if not info.type.HasField("tensor_type"):
        return Port(info.name, None, None)
    kind = info.type.tensor_type
    dtype = dtype_of(kind.elem_type, f"{info.name!r}") if kind.elem_type else None
    if not kind.HasField("shape"):
        return Port(info.name, dtype, None)
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
    # Some exporters write -1 or 0 where they mean that a size is open.
    return Port(info.name, dtype, tuple("" if d in (0, -1, "?") else d for d in shape))


def attributes_of(node: onnx.NodeProto, directory: str = "") -> dict[str, Any]:
    """A node's attributes by name: numbers, strings, lists, arrays and graphs."""
    return {a.name: attribute_value(a, directory) for a in node.attribute if not a.ref_attr_name}


def attribute_value(attribute: onnx.AttributeProto, directory: str = "") -> Any:
    """An attribute's value; bytes become str, tensors arrays."""
    if attribute.type == onnx.AttributeProto.TENSOR:
        return array_of(attribute.t, directory, f"attribute {attribute.name!r}")
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (str, int, float, onnx.GraphProto)) or not hasattr(value, "__iter__"):
        return value
    return [v.decode() if isinstance(v, bytes) else v for v in value]
