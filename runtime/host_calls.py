"""Calls of NumPy from compiled code.

In: the text of a program's host calls.  Out: the address of a function ``i64 host(i64 number,
ptr addresses)`` that evaluates them on the memory that compiled code points at.

A call runs on the thread that runs the program. An exception must not unwind native code: it is
kept, compiled code ends the program, and the executable raises it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

import braze.ir.ops  # noqa: F401  (the parser looks operations up)
from braze.ir.collectives import current
from braze.ir.host import evaluate_call
from braze.ir.loops import HostCall
from braze.ir.loops_parser import parse_kernel
from braze.runtime.artifact import CallSite
from braze.runtime.storage import Storage

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
        starts = (call for call in self.calls if call.op.name == "collective_start")
        self._starts = {call.number: _Start(call) for call in starts}
        self.error: BaseException | None = None
        self._function = _Host(self._run)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0

    def _run(self, number: int, addresses: int) -> int:
        try:
            start = self._starts.get(number)
            if start is not None:
                start.run(addresses)
                return 0
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


class _Start:
    """The start of a collective. It comes in the middle of a graph, when the caches hold anything
    but Python's code: so it does with one array, however many operands there are."""

    def __init__(self, call: HostCall) -> None:
        types = [operand.type for operand in call.operands[1:]]
        self._how: dict[str, Any] = {"in_place": False, **call.attributes}
        self._dtype = types[0].dtype.numpy
        self._sizes = [type.nbytes for type in types]
        self._offsets = [sum(self._sizes[:place]) for place in range(len(types))]
        self._has_ticket = call.results[0].buffer is not None
        self._pointers = ctypes.c_size_t * (len(call.operands) + self._has_ticket)

    def run(self, addresses: int) -> None:
        pointers = self._pointers.from_address(addresses)[:]
        operands = pointers[1 : len(self._sizes) + 1]
        first, nbytes = operands[0], self._offsets[-1] + self._sizes[-1]
        if self._how["in_place"] and [p - first for p in operands] == self._offsets:
            ticket = current().start([_array(first, nbytes, self._dtype)], **self._how)
        else:
            data = Storage(nbytes)
            for offset, address, size in zip(self._offsets, operands, self._sizes, strict=True):
                ctypes.memmove(data.address + offset, address, size)
            copied = data.array(self._dtype, (nbytes // self._dtype.itemsize,))
            how = {**self._how, "in_place": False, "is_copy": True}
            ticket = current().start([copied], **how)
        if self._has_ticket:
            ctypes.c_int64.from_address(pointers[-1]).value = ticket


def _array(address: int, nbytes: int, dtype: np.dtype) -> np.ndarray:
    """Memory that compiled code owns as a flat array."""
    if nbytes == 0:
        return np.empty(0, dtype)
    memory = memoryview((ctypes.c_char * nbytes).from_address(address))
    return np.frombuffer(memory, dtype=dtype)
