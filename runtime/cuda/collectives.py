"""The collectives of a program's run.

In: calls of `collective_start` and `collective_wait`, and where their buffers lie.  Out: what they
come to is enqueued, by the processes that there are (`braze.ir.collectives`).

A collective in place reads and writes the arena, where the memory plan keeps its operands and its
result for it from its start until its result has been waited for. Others have copies, made in the
stream of the program, so that memory which they do not own may be used for something else. Only
these may be waited for by another program, which is given the ticket in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.collectives import WHOLE, current
from braze.ir.cuda_program import CollectiveStep, CudaProgram
from braze.ir.loops import HostArray
from braze.runtime.cuda.block import Block
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import driver
from braze.runtime.cuda.memory import DeviceStorage

if TYPE_CHECKING:
    from braze.runtime.cuda.executable import Base


class Collectives:
    """Those of one run, on its stream; the device's context is active."""

    def __init__(self, program: CudaProgram, device: CudaDevice, stream: Stream) -> None:
        self._program = program
        self._device = device
        self._stream = stream
        self._tickets: dict[str, int] = {}  # by the names of their buffers

    def enqueue(self, step: CollectiveStep, base: Base) -> None:
        """Begin one, or have what is enqueued next wait for it.

        Raises: DistBackendError if a rank is missing.
        """
        if step.call.op.is_awaited:
            self._wait(step, base)
        else:
            self._start(step, base)

    def leave(self) -> None:
        """The run ends early: what others do with the stream comes behind what was begun."""
        for ticket in self._tickets.values():
            try:
                current().order(ticket)
            except Exception:  # which is what the run ends with, or will be told of
                continue
        self._tickets = {}

    def _start(self, step: CollectiveStep, base: Base) -> None:
        how: dict[str, Any] = dict(step.call.attributes)
        how.pop("in_place", None)
        operands = step.call.operands[1:]
        address = _joined(operands, base) if step.kept else None
        given = self._block(operands, address)
        if address is None:
            _copy_together(operands, base, given)
        kept, ranks = given, current().ranks(how["group"])
        if how["kind"] not in WHOLE:
            size = given.size * ranks if how["kind"] == "all_gather" else given.size // ranks
            kept = self._at(base(step.kept) if step.kept else None, given.dtype, size)
        ticket = current().enqueue(given, kept, **how)
        (result,) = step.call.results
        assert result.buffer is not None
        self._tickets[result.buffer.name] = ticket
        if self._program.placements[result.buffer.name].kind == "output":
            number = np.array([ticket], np.int64)
            driver().memcpy_htod_async(
                base(result.buffer.name), number, stream=self._stream.handle
            )

    def _wait(self, step: CollectiveStep, base: Base) -> None:
        name = _buffer_of(step.call.operands[0])
        ticket = self._tickets.pop(name, None)
        if ticket is None:  # another program has begun it
            number = np.empty(1, np.int64)
            driver().memcpy_dtoh_async(number, base(name), stream=self._stream.handle)
            self._stream.synchronize()
            ticket = int(number[0])
        kept = current().order(ticket)
        address = base(_buffer_of(step.call.results[0]))
        if kept.address != address:
            kept.copy_to(self._block(step.call.results, address))

    def _block(self, arrays: Sequence[HostArray], address: int | None) -> Block:
        """As many elements as arrays have, at an address or in memory of their own."""
        dtype = arrays[0].type.dtype.numpy
        size = sum(array.type.numel for array in arrays)
        return self._at(address, dtype, size)

    def _at(self, address: int | None, dtype: np.dtype[Any], size: int) -> Block:
        if address is not None:
            return Block(self._device, address, dtype, (size,))
        nbytes = size * dtype.itemsize
        storage = DeviceStorage.on(self._device, nbytes, self._stream, "a collective")
        return Block.of(storage, storage.address, dtype, (size,))


def _buffer_of(array: HostArray) -> str:
    assert array.buffer is not None
    return array.buffer.name


def _joined(arrays: Sequence[HostArray], base: Base) -> int | None:
    """Where arrays lie one behind the other; None if they do not."""
    first = end = base(_buffer_of(arrays[0]))
    for array in arrays:
        if base(_buffer_of(array)) != end:
            return None
        end += array.type.nbytes
    return first


def _copy_together(arrays: Sequence[HostArray], base: Base, target: Block) -> None:
    """Enqueue copies of arrays, one behind the other."""
    end = target.address
    for array in arrays:
        dtype, numel = array.type.dtype.numpy, array.type.numel
        own = Block(target.device, base(_buffer_of(array)), dtype, (numel,))
        own.copy_to(Block(target.device, end, dtype, (numel,)))
        end += own.nbytes
