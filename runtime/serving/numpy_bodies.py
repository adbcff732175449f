"""Bodies in NumPy's formats: one array (NPY), or a zip archive of several (NPZ).

A body is somebody else's: no pickles, headers of bounded length, and a declared shape is compared
with the bytes that are there before anything is made of it. Arrays are views of the body.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.lib import format as npy

from braze.runtime.serving.faults import RequestFault
from braze.runtime.serving.signature import Signature

MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"

_MOST_HEADER_BYTES = 1024
_MOST_DIMENSIONS = 32
_KINDS = "biufcV"
# The signature of an entry in a zip archive's directory, which is read as a whole.
_DIRECTORY_ENTRY = b"PK\x01\x02"
_SPARE_ENTRIES = 16
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What NumPy's parser of headers and zipfile raise for bodies that are damaged or made to harm.
_BAD_HEADER = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError)
_BAD_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
    NotImplementedError, OverflowError, KeyError, IndexError, TypeError, AttributeError,
)  # fmt: skip


def read_npy(body: bytes, signature: Signature) -> list[np.ndarray]:
    """The array for a model of one input.  Raises: RequestFault."""
    (argument,) = signature.in_order([body])
    return [_typed(_array(argument, "the body"), signature, 0)]


def read_npz(body: bytes, signature: Signature, most_bytes: int) -> list[np.ndarray]:
    """The arrays, by the names of inputs or in order as arr_0, arr_1, ….  Raises: RequestFault."""
    most = len(signature.inputs) + _SPARE_ENTRIES
    if body.count(_DIRECTORY_ENTRY) > most:
        raise RequestFault(422, f"the NPZ archive has more entries than inputs: at most {most}")
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for info in archive.infolist():
                if info.compress_type not in _COMPRESSIONS:
                    raise RequestFault(
                        400, f"NPZ entry {info.filename!r} must be stored or deflated"
                    )
                with archive.open(info) as entry:
                    content = entry.read(most_bytes + 1)
                most_bytes -= len(content)
                if most_bytes < 0:
                    raise RequestFault(413, "the NPZ archive unpacks to too many bytes")
                found[info.filename.removesuffix(".npy")] = content
    except _BAD_ARCHIVE as error:
        raise RequestFault(400, f"the body is not an NPZ archive: {_line(error)}") from None
    names = [f"arr_{i}" for i in range(len(found))]
    # In order, unless these are the names of inputs.
    if found.keys() == set(names) and "arr_0" not in [a.name for a in signature.inputs]:
        contents = signature.in_order([found[name] for name in names])
    else:
        contents = signature.by_name(found)
    return [
        _typed(_array(content, f"NPZ entry {argument.name}"), signature, i)
        for i, (argument, content) in enumerate(zip(signature.inputs, contents, strict=True))
    ]


def write_npy(array: np.ndarray) -> bytes:
    """An array as NPY."""
    file = io.BytesIO()
    npy.write_array(file, _plain(array), allow_pickle=False)
    return file.getvalue()


def write_npz(arrays: Sequence[np.ndarray], signature: Signature) -> bytes:
    """The outputs as NPZ, by their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for argument, array in zip(signature.outputs, arrays, strict=True):
            archive.writestr(f"{argument.name}.npy", write_npy(array))
    return file.getvalue()


def _array(data: bytes, place: str) -> np.ndarray:
    """The array that NPY data describe, without a copy."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        if version == (1, 0):
            header = npy.read_array_header_1_0(file, max_header_size=_MOST_HEADER_BYTES)
        elif version == (2, 0):
            header = npy.read_array_header_2_0(file, max_header_size=_MOST_HEADER_BYTES)
        else:
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, is_fortran, dtype = header
    except _BAD_HEADER as error:
        raise RequestFault(400, f"{place} is not an NPY array: {_line(error)}") from None
    if dtype.hasobject or dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
        raise RequestFault(400, f"{place} must be an array of numbers, given dtype {dtype}")
    if len(shape) > _MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise RequestFault(400, f"{place} has no valid shape: {_line(shape)}")
    start, expected = file.tell(), prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        raise RequestFault(
            400,
            f"{place} must have {expected} bytes behind its header, as dtype {dtype} and shape "
            f"{_line(list(shape))} say, given {len(data) - start}",
        )
    flat = np.frombuffer(data, dtype, prod(shape), start) if expected else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, OverflowError) as error:  # sizes beside a 0 may be of any length
        raise RequestFault(400, f"{place} has no valid shape: {_line(error)}") from None


def _typed(array: np.ndarray, signature: Signature, number: int) -> np.ndarray:
    """With the dtype that NumPy's format has no name for."""
    expected = signature.inputs[number].numpy
    if array.dtype.kind == "V" and expected.kind == "V":
        if array.dtype.itemsize == expected.itemsize:
            return array.view(expected)
    return array


def _plain(array: np.ndarray) -> np.ndarray:
    """As NumPy's format can name it: bfloat16 is written as bytes, as `numpy.save` does."""
    if array.dtype.kind == "V":
        return np.ascontiguousarray(array).view(f"V{array.dtype.itemsize}")
    return array


def _line(value: object) -> str:
    """The first line of a text, and not more than fits into a message."""
    text = str(value).partition("\n")[0] or type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."
