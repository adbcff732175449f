"""The frame of a kernel function: signature, pointers, and what may alias what.

A kernel is ``void symbol(ptr buffers, i64 chunk, i64 thread)``. `buffers` holds the addresses of
the program's inputs, outputs, its arena, the threads' scratch memory and the status block, in this
order; behind them are the words of a symbolic program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.symbolic import enter_function
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.errors import BrazeError
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Buffer, Placement, Program

_LINE_BYTES = 64

KERNEL_TYPE = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64])


class CodegenError(BrazeError, ValueError):
    """A kernel asks for what the generator has no code for; the message says what."""


@dataclass(frozen=True, slots=True)
class EmittedKernel:
    """A kernel in an LLVM module.

    Attributes:
        symbol: the function's name; what it has to itself in the module begins with it.
        chunks: it must be called once with each chunk number below this.
        scratch_bytes: of memory that a thread needs while it runs.
    """

    symbol: str
    module: ir.Module
    chunks: int
    scratch_bytes: int = 0

    @property
    def ir_text(self) -> str:
        """The module as it is now."""
        return str(self.module)


def symbol_of(name: str) -> str:
    """The linker symbol for a kernel's name."""
    return "braze_kernel_" + re.sub(r"\W", "_", name, flags=re.ASCII)


class KernelFunction:
    """A kernel's function while it is written; `builder` stands at the end of the entry block.

    Args:
        own: small buffers that only the kernel knows, on the stack.

    Attributes:
        chunk, thread: the arguments.
        aliasing: notes for loads and stores (see `Aliasing`).
    """

    def __init__(
        self,
        name: str,
        buffers: Iterable[Buffer],
        placements: Mapping[str, Placement],
        program: Program,
        module: ir.Module,
        own: Iterable[Buffer] = (),
    ) -> None:
        self.symbol = symbol_of(name)
        self.module = module
        self.function = ir.Function(
            self.module, KERNEL_TYPE, self.symbol, ("buffers", "chunk", "thread")
        )
        self.function.attributes.add("nounwind")
        self.buffers, self.chunk, self.thread = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self._inputs = program.inputs
        self._inputs_and_outputs = program.inputs + program.outputs
        self._slots: dict[int, ir.Value] = {}
        self._words: dict[int, ir.Value] = {}
        if program.words:
            for number in range(program.sizes):
                self._word(number)
            enter_function(self.builder, self._word, program.sizes)
        self._placements = placements
        self._pointers = {buffer.name: self._locate(buffer) for buffer in buffers}
        for buffer in own:
            lines = -(-buffer.numel * buffer.dtype.itemsize // _LINE_BYTES)
            line = ir.VectorType(ir.IntType(8), _LINE_BYTES)  # aligned as it is large
            self._pointers[buffer.name] = self.builder.alloca(ir.ArrayType(line, lines))

    def _slot(self, slot: int) -> ir.Value:
        """The pointer in a slot; call it only while the builder is in the entry block."""
        if slot not in self._slots:
            place = self.builder.gep(self.buffers, [constant(I64, slot)], source_etype=POINTER)
            loaded = self.builder.load(place, typ=POINTER, align=8)
            loaded.set_metadata("invariant.load", self.module.add_metadata([]))
            self._slots[slot] = loaded
        return self._slots[slot]

    def _word(self, number: int) -> ir.Value:
        """A word of the program; the first call for each is while the builder is in the entry
        block."""
        if number not in self._words:
            place = self._inputs_and_outputs + 3 + number
            at = self.builder.gep(self.buffers, [ir.Constant(I64, place)], source_etype=I64)
            self._words[number] = self.builder.load(at, typ=I64, align=8)
        return self._words[number]

    def _locate(self, buffer: Buffer) -> ir.Value:
        place = self._placements[buffer.name]
        if place.kind != "arena":
            return self._slot(place.slot + (self._inputs if place.kind == "output" else 0))
        arena = self._slot(self._inputs_and_outputs)
        if place.offset == 0:
            return arena
        offset = [constant(I64, place.offset)]
        return self.builder.gep(arena, offset, inbounds=True, source_etype=ir.IntType(8))

    def pointer(self, buffer: Buffer) -> ir.Value:
        """The address of a buffer's first element."""
        return self._pointers[buffer.name]

    def scratch(self) -> ir.Value:
        """The program's scratch memory (all threads'); the status block's pointer is `status`."""
        return self._slot(self._inputs_and_outputs + 1)

    def status(self) -> ir.Value:
        """The status block."""
        return self._slot(self._inputs_and_outputs + 2)


class Aliasing:
    """Tells LLVM which loads cannot see which stores, so that it may hoist and reorder them.

    Buffers of one kernel overlap only where a result takes over an operand's memory, which the
    planner allows only if each element is read at the index at which it is then written. A load
    with an index of another form than all stores to memory that might be its own is therefore
    independent of them.
    """

    def __init__(self, module: ir.Module, placements: Mapping[str, Placement]) -> None:
        self._module = module
        self._placements = placements
        self._domain: ir.Metadata | None = None
        self._stored: dict[str, tuple[Buffer, set[object], ir.Metadata]] = {}
        self._lists: dict[tuple[str, ...], ir.Metadata] = {}

    def declare_store(self, buffer: Buffer, index: Index) -> None:
        """Announce a store. Every store must be announced before the first is emitted."""
        if buffer.name not in self._stored:
            if self._domain is None:
                self._domain = self._module.add_metadata(["kernel"])
            scope = self._module.add_metadata([f"{buffer.name}", self._domain])
            self._stored[buffer.name] = (buffer, set(), scope)
        self._stored[buffer.name][1].add(index_form(index))

    def mark_load(self, instruction: ir.Instruction, buffer: Buffer, index: Index) -> None:
        form = index_form(index)
        independent = [
            name
            for name, (stored, forms, _) in self._stored.items()
            if name != buffer.name
            and (
                disjoint(buffer, stored, self._placements)
                or (form is not None and form not in forms)
            )
        ]
        self._attach(instruction, "noalias", independent)

    def mark_store(self, instruction: ir.Instruction, buffer: Buffer) -> None:
        self._attach(instruction, "alias.scope", [buffer.name])
        others = [
            name
            for name, (stored, _, _) in self._stored.items()
            if name != buffer.name and disjoint(buffer, stored, self._placements)
        ]
        self._attach(instruction, "noalias", others)

    def _attach(self, instruction: ir.Instruction, kind: str, names: list[str]) -> None:
        if names:
            key = tuple(names)
            if key not in self._lists:
                scopes = [self._stored[name][2] for name in names]
                self._lists[key] = self._module.add_metadata(scopes)
            instruction.set_metadata(kind, self._lists[key])


def disjoint(left: Buffer, right: Buffer, placements: Mapping[str, Placement]) -> bool:
    """True if the two certainly share no memory."""
    if left.name not in placements or right.name not in placements:
        return left.name != right.name  # a kernel has it to itself
    a, b = placements[left.name], placements[right.name]
    if a.kind == b.kind == "arena":
        a_end = a.offset + left.numel * left.dtype.itemsize
        b_end = b.offset + right.numel * right.dtype.itemsize
        return a_end <= b.offset or b_end <= a.offset
    if a.kind == "arena" or b.kind == "arena":
        return True
    # An output may be the same storage as an input (in-place update), never as another output.
    return a.kind == b.kind == "output" and a.slot != b.slot


def index_form(index: Index) -> object:
    """What is the same for equal indices over other loops' variables; None if that cannot be told.
    """
    if not index.is_affine:
        return None
    strides = sorted((c, atom.extent) for atom, c in index.terms if isinstance(atom, LoopVar))
    return (*strides, index.constant)
