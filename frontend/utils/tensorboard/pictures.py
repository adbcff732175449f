"""Pictures and graphs in TensorBoard's messages.

In: pixels, or an IR graph.  Out: messages of tensorboardX. Pictures are written as PNG here, so
that no imaging library is needed.

Source: PNG specification, second edition, sections 5.3, 9.2 and 11.2.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from braze.ir.dtypes import DType
from braze.ir.graph import Graph, Node, Value

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
# TensorFlow's numbers for dtypes (`types.proto`).
_DTYPES = {
    "f32": 1, "f64": 2, "i32": 3, "u8": 4, "i16": 5, "i8": 6, "c64": 8, "i64": 9, "bool": 10,
    "bf16": 14, "u16": 17, "c128": 18, "f16": 19, "u32": 22, "u64": 23,
}  # fmt: skip


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of bytes [height, width, channels], 1, 3 or 4 of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">2I5B", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    data = zlib.compress(rows.tobytes())
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def image_summary(tag: str, pixels: np.ndarray) -> Any:
    """A picture [height, width, channels], of bytes or of numbers in [0, 1]."""
    from tensorboardX.proto.summary_pb2 import Summary

    if pixels.dtype != np.uint8:
        pixels = (pixels.astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
    height, width, channels = pixels.shape
    image = Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=png(pixels)
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def graph_definition(graph: Graph) -> Any:
    """A graph as TensorFlow's `GraphDef`: inputs and operations, under their modules' names."""
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.versions_pb2 import VersionDef

    names: dict[Value, str] = {}
    made: list[Any] = []
    for i, value in enumerate(graph.inputs):
        names[value] = f"{graph.input_role(value)}/{value.name or i}".replace(".", "/")
        made.append(_definition(names[value], "Placeholder", [], [value], ""))
    for i, node in enumerate(graph.nodes):
        scope = node.location.scope if node.location is not None else ""
        name = "/".join([*_path(scope), f"{node.op.name}_{i}"])
        operands = [names[operand] for operand in node.operands]
        made.append(_definition(name, node.op.name, operands, node.results, _described(node)))
        for at, result in enumerate(node.results):
            names[result] = f"{name}:{at}" if at else name
    for i, value in enumerate(graph.outputs):
        made.append(_definition(f"output/{i}", "Output", [names[value]], [value], ""))
    return GraphDef(node=made, versions=VersionDef(producer=22))


def _path(scope: str) -> list[str]:
    """`net.head (Linear(8, 2))` as its parts."""
    return [part for part in scope.partition(" ")[0].split(".") if part]


def _described(node: Node) -> str:
    return ", ".join(f"{name}={value}" for name, value in node.attributes.items())


def _definition(name: str, op: str, inputs: list[str], results: Any, text: str) -> Any:
    from tensorboardX.proto.attr_value_pb2 import AttrValue
    from tensorboardX.proto.node_def_pb2 import NodeDef
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

    shapes = [
        TensorShapeProto(dim=[TensorShapeProto.Dim(size=n) for n in value.shape])
        for value in results
    ]
    attributes = {
        "_output_shapes": AttrValue(list=AttrValue.ListValue(shape=shapes)),
        "dtype": AttrValue(type=_dtype(results[0].dtype) if results else 0),
    }
    if text:
        attributes["attr"] = AttrValue(s=text.encode())
    return NodeDef(name=name, op=op, input=inputs, attr=attributes)


def _dtype(dtype: DType) -> Any:
    return _DTYPES[dtype.name]
