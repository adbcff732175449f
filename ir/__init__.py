"""The two intermediate representations: graphs of tensor operations and loops over buffers.

`graph` and `builder` hold the typed SSA graph, `op` and `ops` the declarations of its operations,
`printer`, `parser`, `verifier`, `interpreter` and `fingerprint` what can be done with one. `index`
and `loops` hold the second IR, which both code generators read. Nothing here imports another part
of Braze.

Names are loaded when they are first used: a program that runs a package needs few of them, and the
declarations of the operations only if its code calls NumPy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from braze.ir import ops
    from braze.ir.builder import Builder, Rewriter
    from braze.ir.dtypes import (
        DType,
        bf16,
        bool_,
        c64,
        c128,
        f16,
        f32,
        f64,
        from_numpy,
        i8,
        i16,
        i32,
        i64,
        promote,
        u8,
        u16,
        u32,
        u64,
    )
    from braze.ir.errors import (
        AttributeTypeError,
        BrazeError,
        DeviceError,
        DimensionError,
        DTypeError,
        LinAlgError,
        ParseError,
        ShapeError,
        VerifyError,
    )
    from braze.ir.graph import Graph, Location, Node, Role, Value
    from braze.ir.interpreter import interpret
    from braze.ir.op import AttributeValue, Op, all_ops, gradient_of, op_named
    from braze.ir.parser import parse_graph
    from braze.ir.printer import print_graph
    from braze.ir.types import Shape, TensorType, broadcast_shapes, tensor_type
    from braze.ir.verifier import verify

__all__ = [
    "AttributeTypeError",
    "AttributeValue",
    "BrazeError",
    "Builder",
    "DType",
    "DTypeError",
    "DeviceError",
    "DimensionError",
    "Graph",
    "LinAlgError",
    "Location",
    "Node",
    "Op",
    "ParseError",
    "Rewriter",
    "Role",
    "Shape",
    "ShapeError",
    "TensorType",
    "Value",
    "VerifyError",
    "all_ops",
    "bf16",
    "bool_",
    "c64",
    "c128",
    "broadcast_shapes",
    "f16",
    "f32",
    "f64",
    "from_numpy",
    "gradient_of",
    "i8",
    "i16",
    "i32",
    "i64",
    "interpret",
    "op_named",
    "ops",
    "parse_graph",
    "print_graph",
    "promote",
    "tensor_type",
    "u8",
    "u16",
    "u32",
    "u64",
    "verify",
]

# The names of each module.
_HOMES = {
    "builder": "Builder Rewriter",
    "dtypes": "DType bf16 bool_ c64 c128 f16 f32 f64 from_numpy i8 i16 i32 i64 promote "
    "u8 u16 u32 u64",
    "errors": "AttributeTypeError BrazeError DeviceError DimensionError DTypeError LinAlgError "
    "ParseError ShapeError VerifyError",
    "graph": "Graph Location Node Role Value",
    "interpreter": "interpret",
    "op": "AttributeValue Op all_ops gradient_of op_named",
    "parser": "parse_graph",
    "printer": "print_graph",
    "types": "Shape TensorType broadcast_shapes tensor_type",
    "verifier": "verify",
}


def _load(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            value = getattr(importlib.import_module(f"braze.ir.{home}"), name)
            break
    else:
        if name != "ops":
            raise AttributeError(f"module 'braze.ir' has no attribute {name!r}")
        value = importlib.import_module("braze.ir.ops")
    globals()[name] = value
    return value


if not TYPE_CHECKING:
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
