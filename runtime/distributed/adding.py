"""Adding up arrays that lie in memory of several processes.

In: arrays of one dtype and size.  Out: their sum, or average, in each of them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.ir.dtypes import from_numpy
from braze.runtime.kept_objects import kept_object
from braze.runtime.object_loader import LoadedObject

Array = np.ndarray[Any, np.dtype[Any]]

_C_TYPES = {"f32": ctypes.c_float, "f64": ctypes.c_double}


@functools.cache
def adding() -> Adding:
    """The one of this process, made when something is to be added up."""
    return Adding()


class Adding:
    """Compiled code for f32 and f64, made or loaded at once; NumPy's for other dtypes."""

    def __init__(self) -> None:
        from braze.codegen.llvm.rank_sums import symbol

        loaded = LoadedObject(kept_object("sums of ranks", _compile))
        self._loaded = loaded  # the code's memory is its
        self._functions: dict[tuple[str, str], Callable[..., None]] = {}
        for name, number in _C_TYPES.items():
            kind = ctypes.CFUNCTYPE(
                None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, number
            )
            for last in ("mul", "div"):
                self._functions[name, last] = kind(loaded.address(symbol(name, last)))

    def add_up(self, arrays: Sequence[Array], *, is_average: bool) -> None:
        """Let each array become the sum, in their order, or that divided by how many they are.
        They lie side by side each, and do not overlap."""
        count = len(arrays)
        # Multiplying by a power of two gives the same numbers as dividing, and is much quicker.
        last = "div" if is_average and count & (count - 1) else "mul"
        by = (count if last == "div" else 1 / count) if is_average else 1
        function = self._functions.get((from_numpy(arrays[0].dtype).name, last))
        if function is not None:
            addresses = (ctypes.c_size_t * count)(*[array.ctypes.data for array in arrays])
            function(ctypes.addressof(addresses), count, arrays[0].size, by)
            return
        total, *others = arrays
        for array in others:
            np.add(total, array, out=total)
        if is_average:
            ufunc = np.divide if last == "div" else np.multiply
            ufunc(total, by, out=total, casting="unsafe")
        for array in others:
            array[...] = total


def _compile() -> bytes:
    from braze.codegen.llvm.compile import compile_object
    from braze.codegen.llvm.rank_sums import sums_module
    from braze.runtime.cpu import host_target

    return compile_object(sums_module(), host_target())
