"""Stores past the caches, for results that no cache would keep.

An ordinary store to a line of memory that is in no cache reads the line first, and pushes another
out.  Where a kernel goes through more memory than the caches hold, a third or more of its traffic
goes away if whole lines of its results are sent to memory at once ("non-temporal" stores).  Whoever
reads a result next would find little of it in a cache in any case.

In: the vectors of a store, side by side.  Out: the store in two versions, of which the address
chooses: such an instruction needs one that is a multiple of the vector's size.

Rows that are stored and read again before they are done wait on the stack (`waiting_rows`), and the
next row is fetched while one is computed, since such stores leave nothing to be written meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.kernel import KernelFunction, disjoint
from braze.codegen.llvm.types import I1, I64, SECOND_LEVEL, constant, intrinsic, prefetch
from braze.codegen.llvm.waiting_rows import with_waiting_row
from braze.ir.loops import Buffer, Load, Loop, Nest, Placement, Store
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
        rows: Sequence[Buffer] = (),
    ) -> None:
        """
        Args:
            rows: of `with_waiting_rows`.
        """
        self.builder = kernel.builder
        self.target = target
        self._rows = {row.name for row in rows}
        self._each = nest.body[0].var if rows and isinstance(nest.body[0], Loop) else None
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

    @staticmethod
    def with_waiting_rows(nest: Nest, target: Target) -> tuple[Nest, list[Buffer]]:
        """The nest with rows of its large results waiting elsewhere, see `waiting_rows`, and the
        buffers for them, which the kernel has to itself."""
        rows: list[Buffer] = []
        if target.architecture != "x86_64" or not _goes_through_much(nest):
            return nest, rows
        for buffer in nest.buffers:
            if buffer.access == "inout" and _known_bytes(buffer) >= STREAMED_BYTES:
                found = with_waiting_row(nest, buffer, target.l1_bytes)
                if found is not None:
                    nest, row = found
                    rows.append(row)
        return nest, rows

    def fetch_ahead(self, store: Store, copies: Sequence[ExpressionEmitter]) -> None:
        """While a row is computed that waits, have the next row's operands fetched: memory would
        have nothing to do until it is stored."""
        each, copy = self._each, copies[0]
        if each is None or store.buffer.name not in self._rows or copy.width == 1:
            return
        for load in store.value.walk():
            if not isinstance(load, Load) or load.buffer.name in self._rows:
                continue
            further = load.index.coefficient(each) if load.index.is_affine else 0
            if not further or not copy.indices.place(load.index).is_contiguous:
                continue
            next_row = Store(load.buffer, load.index + further, load)
            for emitter in copies:
                prefetch(self.builder, emitter.address(next_row), SECOND_LEVEL)

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
