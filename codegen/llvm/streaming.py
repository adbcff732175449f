"""Stores past the caches, for results that no cache would keep.

An ordinary store to a line of memory that is in no cache reads the line first, and pushes another
out.  Where a kernel goes through more memory than the caches hold, a third or more of its traffic
goes away if whole lines of its results are sent to memory at once ("non-temporal" stores).  Whoever
reads a result next would find little of it in a cache in any case.

In: the vectors of a store, side by side.  Out: the store in two versions, of which the address
chooses: such an instruction needs one that is a multiple of the vector's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction, disjoint
from braze.codegen.llvm.types import I1, I64, constant, intrinsic
from braze.ir.loops import Buffer, Nest, Placement, Store
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

# Measured with 32 MiB of last-level cache: where a kernel reads and writes three times as much,
# streaming is faster even if the result is read next, by a fifth; alone, up to twice as fast.
STREAMING_KERNEL_BYTES = 96 << 20
# Smaller results are likely to be in a cache when they are read, and save little.
STREAMED_BYTES = 16 << 20


class Streaming:
    """The streaming stores of one kernel; made while the builder is in the entry block."""

    def __init__(
        self,
        nest: Nest,
        kernel: KernelFunction,
        placements: Mapping[str, Placement],
        target: Target,
    ) -> None:
        self.builder = kernel.builder
        self.target = target
        self._used = False
        # Lines of an operand that is overwritten are in the cache already.
        self._apart: dict[str, ir.Value] = {}
        if target.architecture != "x86_64" or not _goes_through_much(nest):
            return
        inputs = [buffer for buffer in nest.buffers if buffer.access == "in"]
        for buffer in nest.buffers:
            if buffer.access == "out" and _known_bytes(buffer) >= STREAMED_BYTES:
                apart = self._where_apart(buffer, inputs, kernel, placements)
                if apart is not None:
                    self._apart[buffer.name] = apart

    def _where_apart(
        self,
        buffer: Buffer,
        inputs: list[Buffer],
        kernel: KernelFunction,
        placements: Mapping[str, Placement],
    ) -> ir.Value | None:
        """Whether the buffer lies over none of the inputs; None if it does."""
        apart: ir.Value = constant(I1, 1)
        b = self.builder
        for other in inputs:
            if disjoint(buffer, other, placements):
                continue
            if placements[buffer.name].kind == "arena":
                return None
            same = b.icmp_unsigned("==", kernel.pointer(buffer), kernel.pointer(other))
            apart = b.and_(apart, b.not_(same))
        return apart

    def takes(self, store: Store, copies: Sequence[ExpressionEmitter]) -> bool:
        """Whether a store of these vectors can go past the caches."""
        copy, size = copies[0], store.buffer.dtype.itemsize
        return (
            store.buffer.name in self._apart
            and not store.guard
            and copy.mask is None
            and copy.width > 1
            and copy.width * size * 8 == self.target.vector_bits
            and copy.indices.place(store.index).is_contiguous
        )

    def store(self, store: Store, copies: Sequence[ExpressionEmitter]) -> None:
        """Emit the store; its values are known."""
        self._used = True
        b = self.builder
        size = copies[0].width * store.buffer.dtype.itemsize
        address = b.ptrtoint(copies[0].address(store), I64)
        even = b.icmp_unsigned("==", b.and_(address, constant(I64, size - 1)), constant(I64, 0))
        streams = b.and_(even, self._apart[store.buffer.name])
        with b.if_else(streams) as (yes, no):
            with yes:
                for copy in copies:
                    copy.stream(store)
            with no:
                for copy in copies:
                    copy.store(store)

    def finish(self) -> None:
        """Make what was stored visible to others before they hear of it."""
        if self._used:
            intrinsic(self.builder, "x86.sse.sfence", ir.VoidType(), [], ())


def _goes_through_much(nest: Nest) -> bool:
    """Is what the kernel reads and writes too much for the caches? What is not known is not."""
    return sum(_known_bytes(buffer) for buffer in nest.buffers) >= STREAMING_KERNEL_BYTES


def _known_bytes(buffer: Buffer) -> int:
    return 0 if is_symbolic(buffer.numel) else buffer.numel * buffer.dtype.itemsize
