"""Arrays of pointers that a `main` makes for the programs and kernels that it calls.

They are laid out as the one that it gets itself: inputs, outputs, arena, scratch, status.

Where a pointer comes from is a row of a constant table, (slot, bytes to add), and a loop goes over
the rows: thousands of pointers written out one by one would take the compiler seconds.

    void copy(ptr buffers, ptr array, ptr rows, i64 count)
"""

from __future__ import annotations

from collections.abc import Iterable

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.loops import Buffer, Program

BYTE = ir.IntType(8)


Row = tuple[int, int]


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

    def word(self, number: int) -> ir.Value:
        """A word of a symbolic program, behind the status."""
        at = self.builder.gep(
            self.builder.function.args[0],
            [ir.Constant(I64, self.count + 3 + number)],
            source_etype=I64,
        )
        return self.builder.load(at, typ=I64, align=8)

    def arena(self) -> ir.Value:
        return self.slot(self.count)

    def row(self, buffer: Buffer, start: int = 0) -> Row:
        """Where an element of a buffer is: bytes behind a pointer of the array."""
        place = self.program.placements[buffer.name]
        offset = start * buffer.dtype.itemsize
        if place.kind == "arena":
            return self.count, offset + place.offset
        return place.slot + (self.program.inputs if place.kind == "output" else 0), offset

    def address(self, buffer: Buffer) -> ir.Value:
        """Where a buffer begins."""
        slot, offset = self.row(buffer)
        return self.builder.gep(self.slot(slot), [constant(I64, offset)], source_etype=BYTE)

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

    def rest(self) -> list[Row]:
        """The rows of what follows the buffers: arena, scratch, status."""
        return [(self.count + i, 0) for i in range(3)]


class PlaceTable:
    """The rows of all arrays that a module's functions fill."""

    def __init__(self, module: ir.Module, name: str) -> None:
        self._module, self._name = module, name
        self._words: list[int] = []
        self._rows: ir.GlobalVariable | None = None
        self._copy: ir.Function | None = None

    def fill(self, builder: ir.IRBuilder, array: ir.Value, rows: Iterable[Row]) -> None:
        """Write the pointers of some rows into an array."""
        first = len(self._words)
        self._words += [word for row in rows for word in row]
        if self._rows is None or self._copy is None:
            # Its type is known in the end; what is behind an opaque pointer does not matter.
            self._rows = ir.GlobalVariable(self._module, I64, f"{self._name}_rows")
            self._copy = _copy_function(self._module, f"{self._name}_copy")
        rows_here = builder.gep(self._rows, [constant(I64, first)], source_etype=I64)
        count = constant(I64, (len(self._words) - first) // 2)
        builder.call(self._copy, [builder.function.args[0], array, rows_here, count])

    def finish(self) -> None:
        """Write the table into the module, if anything uses it."""
        if self._rows is not None:
            rows = self._rows
            rows.value_type = ir.ArrayType(I64, len(self._words))
            rows.initializer = ir.Constant(rows.value_type, self._words)
            rows.linkage, rows.global_constant = "internal", True


def _copy_function(module: ir.Module, name: str) -> ir.Function:
    signature = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, I64])
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    for attribute in ("nounwind", "noinline"):
        function.attributes.add(attribute)
    buffers, array, rows, count = function.args
    entry, loop, done = map(function.append_basic_block, ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    number = builder.phi(I64)
    number.add_incoming(constant(I64, 0), entry)
    at = builder.shl(number, constant(I64, 1))
    place = builder.gep(rows, [at], source_etype=I64)
    slot = builder.load(place, typ=I64, align=8)
    place = builder.gep(rows, [builder.or_(at, constant(I64, 1))], source_etype=I64)
    offset = builder.load(place, typ=I64, align=8)
    place = builder.gep(buffers, [slot], source_etype=POINTER)
    pointer = builder.gep(builder.load(place, typ=POINTER, align=8), [offset], source_etype=BYTE)
    builder.store(pointer, builder.gep(array, [number], source_etype=POINTER), align=8)
    following = builder.add(number, constant(I64, 1))
    number.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    ir.IRBuilder(done).ret_void()
    return function
