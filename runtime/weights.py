"""Named arrays as the bytes of a safetensors file, and back.

In: arrays by name, or bytes.  Out: bytes that any safetensors reader takes, or the arrays as views
of them.  Written out here, since reading without a copy matters for large weights and the library
loads slower than the rest of a package; it is tested against the library.

Source: the format's description, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

import numpy as np

from braze.ir.dtypes import dtype_named, from_numpy

# The dtypes' names in the file, by ours. The library does not know `C128`.
_NAMES = {
    "bool": "BOOL", "u8": "U8", "u32": "U32", "i8": "I8", "i16": "I16", "i32": "I32", "i64": "I64",
    "u16": "U16", "u64": "U64", "c64": "C64", "c128": "C128",
    "f16": "F16", "bf16": "BF16", "f32": "F32", "f64": "F64",
}  # fmt: skip
_DTYPES = {theirs: dtype_named(ours) for ours, theirs in _NAMES.items()}
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 64  # of where the arrays begin


def pack_weights(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes.  Raises: TypeError for a dtype that no tensor has."""
    header: dict[str, object] = {}
    pieces: list[bytes] = []
    offset = 0

    # Whole cache lines first, so that as many arrays as can be begin on one; then wide items first,
    # as the library does, so that every array is aligned to its items.
    def order(name: str) -> tuple[bool, int, str]:
        array = arrays[name]
        return array.nbytes % _ALIGNMENT != 0, -array.itemsize, name

    for name in sorted(arrays, key=order):
        array = arrays[name]
        dtype = from_numpy(array.dtype)
        data = np.ascontiguousarray(array, dtype.numpy).tobytes()
        header[name] = {
            "dtype": _NAMES[dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        pieces.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH.size + len(text)) % _ALIGNMENT)
    return b"".join((_LENGTH.pack(len(text)), text, *pieces))


def unpack_weights(data: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, as views of `data`.  Raises: ValueError if it is not such a file."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        header = json.loads(bytes(data[_LENGTH.size : start]))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            shape, dtype = tuple(entry["shape"]), _DTYPES[entry["dtype"]].numpy
            if any(type(extent) is not int or extent < 0 for extent in shape):
                raise ValueError(f"array {name} has the shape {list(shape)}")
            if not 0 <= first <= last <= len(data) - start:
                raise ValueError(f"array {name} lies outside the file")
            # The dtype comes second: NumPy reads no bfloat16 from a buffer.
            raw = np.frombuffer(data, np.uint8, last - first, start + first)
            yield name, raw.view(dtype).reshape(shape)
    except (struct.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a safetensors file: {error!r}") from None
