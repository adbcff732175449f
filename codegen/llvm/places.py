"""Arrays of pointers that a `main` makes for the programs and kernels that it calls.

They are laid out as the one that it gets itself: inputs, outputs, arena, scratch, status.
"""

from __future__ import annotations

from llvmlite import ir

from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.loops import Buffer, Program

BYTE = ir.IntType(8)


class Places:
    """Finds addresses in the array that a function got, and writes others.

    Args:
        builder: of the function, whose first argument is the array.
        program: what the array is laid out for.
    """

    def __init__(self, builder: ir.IRBuilder, program: Program) -> None:
        self.builder, self.program = builder, program
        self.count = program.inputs + program.outputs

    def slot(self, number: int) -> ir.Value:
        """A pointer of the array."""
        buffers = self.builder.function.args[0]
        place = self.builder.gep(buffers, [constant(I64, number)], source_etype=POINTER)
        return self.builder.load(place, typ=POINTER, align=8)

    def arena(self) -> ir.Value:
        return self.slot(self.count)

    def address(self, buffer: Buffer, start: int = 0) -> ir.Value:
        """Where an element of a buffer is."""
        place = self.program.placements[buffer.name]
        offset = start * buffer.dtype.itemsize
        if place.kind == "arena":
            base, offset = self.arena(), offset + place.offset
        else:
            base = self.slot(place.slot + (self.program.inputs if place.kind == "output" else 0))
        return self.builder.gep(base, [constant(I64, offset)], source_etype=BYTE)

    def array(self, count: int, name: str) -> ir.Value:
        """Memory for pointers, on the function's stack."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(POINTER, size=constant(I64, count), name=name)

    def put(self, array: ir.Value, number: int, pointer: ir.Value) -> None:
        """Write a pointer into an array."""
        place = self.builder.gep(array, [constant(I64, number)], source_etype=POINTER)
        self.builder.store(pointer, place, align=8)

    def put_rest(self, array: ir.Value, count: int, arena: ir.Value | None = None) -> None:
        """Write what follows the buffers, of which there are so many: arena, scratch, status."""
        self.put(array, count, self.arena() if arena is None else arena)
        self.put(array, count + 1, self.slot(self.count + 1))
        self.put(array, count + 2, self.slot(self.count + 2))
