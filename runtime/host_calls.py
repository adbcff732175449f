"""Calls of NumPy from compiled code.

In: the text of a program's host calls.  Out: the address of a function ``i64 host(i64 number,
ptr addresses)`` that evaluates them on the memory that compiled code points at.

A call runs on the thread that runs the program. An exception must not unwind native code: it is
kept, compiled code ends the program, and the executable raises it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

import braze.ir.ops  # noqa: F401  (the parser looks operations up)
from braze.ir.collectives import current
from braze.ir.host import evaluate_call
from braze.ir.loops import HostCall
from braze.ir.loops_parser import parse_kernel
from braze.runtime.artifact import CallSite

_Host = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class HostCalls:
    """The calls of one program.

    Attributes:
        address: of the function for compiled code.
        error: what the last failed call raised.

    Raises: ValueError if a text is not that of a host call.
    """

    def __init__(self, sites: Sequence[CallSite]) -> None:
        self.calls: list[HostCall] = []
        for number, site in enumerate(sites):
            call = parse_kernel(site.text)
            if not isinstance(call, HostCall) or call.number != number:
                raise ValueError(f"[host] {call.name} is not host call {number}")
            self.calls.append(call)
        self.error: BaseException | None = None
        self._function = _Host(self._run)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0

    def _run(self, number: int, addresses: int) -> int:
        try:
            call = self.calls[number]
            needed = [a for a in (*call.operands, *call.results) if a.buffer is not None]
            pointers = (ctypes.c_size_t * len(needed)).from_address(addresses)
            arrays = [
                _array(pointer, a.type.nbytes, a.type.dtype.numpy)
                for pointer, a in zip(pointers, needed, strict=True)
            ]
            operands = arrays[: len(call.operands)]
            for array in operands:
                array.flags.writeable = False
            results = [r for r in evaluate_call(call, operands) if r is not None]
            for target, result in zip(arrays[len(operands) :], results, strict=True):
                if result.ctypes.data != target.ctypes.data:  # else it is there already
                    target[:] = result.reshape(-1)
        except BaseException as error:  # an interrupt too: nothing may pass through native code
            self.error = error
            return 1
        return 0

    def leave_memory(self) -> bool:
        """The program has ended early: what it began must not use its memory any longer. Whether
        other processes may, so that the arena must be left to them."""
        return current().leave_memory()

    def take_error(self) -> BaseException:
        """The error of the call that just failed; it is not kept any longer."""
        error, self.error = self.error, None
        assert error is not None
        return error


def _array(address: int, nbytes: int, dtype: np.dtype) -> np.ndarray:
    """Memory that compiled code owns as a flat array."""
    if nbytes == 0:
        return np.empty(0, dtype)
    memory = memoryview((ctypes.c_char * nbytes).from_address(address))
    return np.frombuffer(memory, dtype=dtype)
