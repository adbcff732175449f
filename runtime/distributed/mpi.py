"""MPI by way of mpi4py: the library, its datatypes, and its reductions.

In: NumPy dtypes and names of reductions.  Out: what mpi4py's nonblocking calls take.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

REDUCTIONS = ("sum", "product", "min", "max", "band", "bor", "bxor", "avg")

_TYPES = {
    "bool": "C_BOOL", "int8": "INT8_T", "int16": "INT16_T", "int32": "INT32_T", "int64": "INT64_T",
    "uint8": "UINT8_T", "uint16": "UINT16_T", "uint32": "UINT32_T", "uint64": "UINT64_T",
    "float32": "FLOAT", "float64": "DOUBLE",
    "complex64": "C_FLOAT_COMPLEX", "complex128": "C_DOUBLE_COMPLEX",
}  # fmt: skip
_HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_OPERATIONS = {
    "sum": "SUM", "avg": "SUM", "product": "PROD", "min": "MIN", "max": "MAX",
    "band": "BAND", "bor": "BOR", "bxor": "BXOR",
}  # fmt: skip
# What sums and products of truth values are.
_LOGICAL = {"sum": "LOR", "max": "LOR", "bor": "LOR", "product": "LAND", "min": "LAND",
            "band": "LAND", "bxor": "LXOR"}  # fmt: skip
_COMBINED: dict[str, Callable[..., Any]] = {
    "sum": np.add, "avg": np.add, "product": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


@functools.cache
def library() -> Any:
    """mpi4py's module `MPI`, with MPI initialised.

    Whether MPI is finalised at the end is this package's business, if nobody has imported it
    before: with a rank gone, MPI_Finalize would wait for it.

    Raises: ImportError if mpi4py or an MPI library is missing.
    """
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.finalize = False
    try:
        from mpi4py import MPI
    except RuntimeError as error:  # what mpi4py raises where it finds no library
        raise ImportError(f"mpi4py finds no MPI library: {error}") from error
    return MPI


def finalises_itself() -> bool:
    """Whether mpi4py calls MPI_Finalize as Python ends."""
    import mpi4py

    return mpi4py.rc.finalize is not False


def datatype(dtype: np.dtype[Any]) -> Any:
    """MPI's datatype for elements of this dtype. Those of two bytes that MPI lacks go as integers
    of that size; `operation` knows what they mean.

    Raises: TypeError for other dtypes.
    """
    name = "UINT16_T" if dtype.name in _HALVES else _TYPES.get(dtype.name)
    if name is None:
        raise TypeError(f"MPI has no datatype for elements of dtype {dtype.name}")
    return getattr(library(), name)


@functools.cache
def operation(reduction: str, dtype: np.dtype[Any]) -> Any:
    """MPI's operation for a reduction of elements of this dtype; "avg" is a sum.

    Raises: TypeError if there is none.
    """
    if dtype.name in _HALVES:
        if reduction not in _COMBINED:
            raise TypeError(f"cannot use ReduceOp.{reduction.upper()} with {dtype.name} elements")
        return _half_operation(_COMBINED[reduction], dtype)
    if dtype.kind == "b":
        name = _LOGICAL.get(reduction)
    elif reduction.startswith("b") and dtype.kind not in "iu":
        name = None
    elif reduction in ("min", "max") and dtype.kind == "c":
        name = None
    else:
        name = _OPERATIONS[reduction]
    if name is None or (reduction == "avg" and dtype.kind not in "fc"):
        raise TypeError(f"cannot use ReduceOp.{reduction.upper()} with {dtype.name} elements")
    return getattr(library(), name)


def _half_operation(combine: Callable[..., Any], dtype: np.dtype[Any]) -> Any:
    """A reduction of two-byte floating-point numbers, rounded after each step."""

    def reduce(given: Any, kept: Any, _: Any) -> None:
        left, right = np.frombuffer(given, dtype), np.frombuffer(kept, dtype)
        with np.errstate(all="ignore"):
            right[:] = combine(left.astype(np.float32), right.astype(np.float32))

    return library().Op.Create(reduce, commute=True)
