"""NCCL by way of nccl4py: the library, its datatypes, and its reductions.

In: NumPy dtypes and names of reductions.  Out: the numbers that NCCL's calls take. Only the
package's bindings are used, which take addresses and streams' handles as they are.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from braze.runtime.distributed.errors import DistBackendError

INSTALL = (
    "install Braze with its extra for it, pip install 'braze[nccl]', and NCCL itself, "
    "pip install nvidia-nccl-cu13"
)

_TYPES = {
    "int8": "Int8", "uint8": "Uint8", "int32": "Int32", "uint32": "Uint32", "int64": "Int64",
    "uint64": "Uint64", "float16": "Float16", "bfloat16": "Bfloat16", "float32": "Float32",
    "float64": "Float64", "bool": "Uint8",
}  # fmt: skip
_OPERATIONS = {"sum": "Sum", "avg": "Avg", "product": "Prod", "min": "Min", "max": "Max"}
# What sums and products of truth values are, which are 0 or 1.
_LOGICAL = {"sum": "Max", "max": "Max", "product": "Min", "min": "Min"}


@functools.cache
def nccl() -> Any:
    """nccl4py's bindings, with NCCL loaded.

    Raises: ImportError if the package or NCCL is missing, saying what to install.
    """
    try:
        bindings = importlib.import_module("nccl.bindings.nccl")
    except ImportError as error:
        raise ImportError(f"the nccl backend needs nccl4py ({error}); {INSTALL}") from None
    try:
        bindings.get_version()
    except Exception as error:  # its finder of libraries has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImportError(f"the nccl backend finds no NCCL ({reason}); {INSTALL}") from None
    return bindings


def element(dtype: np.dtype[Any]) -> tuple[int, int]:
    """NCCL's type for elements that are only moved, and how many of its elements one is: what it
    does not know goes as bytes."""
    name = _TYPES.get(dtype.name)
    if name is None:
        return int(nccl().DataType.Uint8), dtype.itemsize
    return int(getattr(nccl().DataType, name)), 1


def reduced(reduction: str, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """NCCL's type for elements that are reduced, how many of its elements one is, and its number
    of the reduction.

    Raises:
        TypeError: NCCL does not know the dtype.
        ValueError: it has no such reduction of it.
    """
    library, operations, size = nccl(), _OPERATIONS, 1
    name = _TYPES.get(dtype.name)
    if dtype.kind == "c" and reduction in ("sum", "avg"):  # of both parts
        name, size = {8: "Float32", 16: "Float64"}[dtype.itemsize], 2
    if dtype.kind == "b":
        operations = _LOGICAL
    if reduction not in operations:
        kind = " with boolean inputs" if reduction in _OPERATIONS else ""
        raise ValueError(f"Cannot use ReduceOp.{reduction.upper()} with NCCL{kind}")
    if name is None:
        raise TypeError(
            f"Input tensor data type is not supported for NCCL process group: {dtype.name}"
        )
    return (
        int(getattr(library.DataType, name)),
        size,
        int(getattr(library.RedOp, operations[reduction])),
    )


def told(error: BaseException, communicator: Any = None) -> str:
    """What NCCL says of an error of a call."""
    if communicator is None:
        return str(error)
    return f"{error}: {nccl().get_last_error(communicator)}".rstrip(": ")


def is_under_way(communicator: Any) -> bool:
    """Whether a call of a communicator has not come to its end, as all return at once. Until then
    it takes no other, and what the call is to enqueue may not be there."""
    return bool(nccl().comm_get_async_error(communicator) == int(nccl().Result.InProgress))


def require_sound(communicator: Any, refused: str) -> None:
    """
    Args:
        refused: what an error begins with.

    Raises:
        OSError: a communicator has failed, and a rank may be gone.
        DistBackendError: it has, and that is all there is to say.
    """
    result = nccl().Result
    state = int(nccl().comm_get_async_error(communicator))
    if state in (int(result.Success), int(result.InProgress)):
        return
    said = f"{nccl().get_error_string(state)}: {nccl().get_last_error(communicator)}"
    text = f"NCCL says: {said.rstrip(': ')}"
    if state in (int(result.RemoteError), int(result.SystemError), int(result.UnhandledCudaError)):
        raise OSError(text)
    raise DistBackendError(f"{refused}: {text}")
