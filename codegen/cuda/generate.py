"""From a program of the loop IR to CUDA C and steps.

In: a `Program` and a GPU's `Target`.  Out: a `CudaProgram`. Each kernel of the program becomes one
launch or several; those whose text is equal are one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from braze.codegen.cuda.attention import emit_attention
from braze.codegen.cuda.contraction import emit_contraction
from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.grid import is_multiple
from braze.codegen.cuda.kernel import NAME, Function, KernelWriter
from braze.codegen.cuda.library import headers, library
from braze.codegen.cuda.nests import emit_nest
from braze.codegen.cuda.sorts import emit_sort
from braze.codegen.cuda.sweeps import Member, emit_sweep, groups_of
from braze.codegen.cuda.text import identifier
from braze.ir.arena import aligned
from braze.ir.cuda_program import (
    ALIGNMENT,
    BufferArgument,
    CollectiveStep,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Place,
    Repeat,
    Size,
    Step,
)
from braze.ir.dtypes import DType
from braze.ir.loops import Buffer, Contraction, HostCall, Kernel, Nest, Placement, Program, Sort
from braze.ir.loops_attention import Attention
from braze.ir.loops_recurrence import Recurrence, slot_sizes
from braze.ir.symint import SymInt, form_of, greatest
from braze.ir.target import Target

T = TypeVar("T")
_UNDECIDED: Any = object()


class Decisions:
    """What is decided by sizes, such as numbers of threads: kept in order, for the same program of
    other sizes.

    Args:
        earlier: those of another size, which are taken as they are.
    """

    def __init__(self, earlier: Decisions | None = None) -> None:
        self._earlier = iter([] if earlier is None else earlier._made)
        self._made: list[Any] = []

    def decide(self, make: Callable[[], T]) -> T:
        """What was decided at this point, or is now."""
        made = next(self._earlier, _UNDECIDED)
        if made is _UNDECIDED:
            made = make()
        self._made.append(made)
        return made  # type: ignore[no-any-return]


def generate(
    program: Program,
    target: Target,
    decisions: Decisions | None = None,
    told: Callable[[Kernel, Sequence[Step]], None] | None = None,
    *,
    one_by_one: bool = False,
) -> CudaProgram:
    """CUDA C for a program of the loop IR; the same program gives the same text.

    Args:
        program: may be symbolic; then the result's numbers are, too (`CudaProgram.at`).
        target: a GPU. Its feature "tf32" allows products of f32 on tensor cores, rounded to 10
            bits of mantissa.
        decisions: are taken from there, and kept there.
        told: called with each kernel and its steps, in order. Kernels that one launch does have
            the same step.
        one_by_one: each kernel has launches of its own.

    Raises:
        CodegenError: the program holds something that has no form on a GPU.
    """
    if not target.is_gpu:
        raise CodegenError(f"[cuda] {target.name} is not a GPU")
    source = _Source()
    nbytes = aligned(program.arena_bytes)
    if program.words:
        nbytes = SymInt.word(program.words, nbytes)
    arena = _Arena(dict(program.placements), nbytes)
    made = _Generator(
        program, target, source, arena, dict(program.placements), decisions or Decisions()
    )
    steps = made.run(told, one_by_one=one_by_one)
    return CudaProgram(
        program.name,
        target,
        source.text(program, target),
        tuple(steps),
        program.inputs,
        program.outputs,
        arena.placements,
        arena.end,
        tuple(program.checks),
    )


class _Source:
    """The functions of a source, each once, below the user's lines and the graph that the first
    kernel of its text comes from."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._functions: dict[str, Function] = {}
        self._places: dict[str, list[str]] = {}
        self._graphs: dict[str, list[str]] = {}

    def add(self, name: str, function: Function, comment: str) -> str:
        """The name of a function of this text: the first that was added with it."""
        if function.text not in self._names:
            own, number = name, 1
            while own in self._functions:
                number += 1
                own = f"{name}_{number}"
            self._names[function.text] = own
            self._functions[own] = function
            self._places[own] = []
            self._graphs[own] = comment.splitlines()[1:]
        own = self._names[function.text]
        place = comment.partition("\n")[0]
        if place and place not in self._places[own]:
            self._places[own].append(place)
        return own

    def text(self, program: Program, target: Target) -> str:
        if not self._functions:
            return ""
        used = [f for function in self._functions.values() for f in function.functions]
        includes = {h for f in self._functions.values() for h in f.headers} | set(headers(used))
        bodies = [f.text for f in self._functions.values()]
        if any("__half" in text for text in bodies):
            includes.add("cuda_fp16.h")
        if any("__nv_bfloat16" in text for text in bodies):
            includes.add("cuda_bf16.h")
        parts = [f"// Made by Braze from graph @{program.name}, for {target.name}."]
        parts += ["\n".join(f"#include <{header}>" for header in sorted(includes))]
        parts += [library(used)]
        for name, function in self._functions.items():
            lines = self._places[name][:8] + self._graphs[name]
            comment = "".join(f"// {line}\n" for line in lines)
            parts.append(comment + function.text.replace(NAME, name))
        return "\n\n".join(part for part in parts if part) + "\n"


class _Arena:
    """The arena and what it holds; workspaces come behind the planned values."""

    def __init__(self, placements: dict[str, Placement], nbytes: int) -> None:
        self.placements = placements
        self.start = nbytes
        self.end = nbytes
        self._count = 0

    def workspace(self, dtype: DType, numel: int, used: int) -> tuple[Buffer, int]:
        """A buffer for one kernel, `used` bytes behind the planned values, and what it ends at."""
        self._count += 1
        buffer = Buffer(f"workspace.{self._count}", dtype, numel, "inout")
        self.placements[buffer.name] = Placement("arena", offset=self.start + used)
        end = aligned(used + numel * dtype.itemsize)
        self.end = greatest(self.end, self.start + end)
        return buffer, end


class Unit:
    """What the emitter of one kernel works with: it makes functions, workspaces and steps.

    Args:
        others: kernels that the same launches do.
    """

    def __init__(
        self, kernel: Kernel, generator: _Generator, others: Sequence[Kernel] = ()
    ) -> None:
        self.name = identifier(kernel.name)
        self.target = generator.target
        self.steps: list[Step] = []
        self._kernel = kernel
        self._others = others
        self._generator = generator
        self._buffers = {buffer.name: buffer for buffer in kernel.buffers}
        self._used = 0

    def workspace(self, dtype: DType, numel: int) -> Buffer:
        """Memory that only this kernel uses; what is in it is unknown."""
        buffer, self._used = self._generator.arena.workspace(dtype, numel, self._used)
        self._buffers[buffer.name] = buffer
        self._generator.workspaces.append(buffer)
        return buffer

    def decide(self, make: Callable[[], T]) -> T:
        """Decide something by sizes, once for all sizes that the code is for."""
        return self._generator.decisions.decide(make)

    def writer(
        self,
        threads: int,
        access: Mapping[str, Buffer] | None = None,
        kind: type[KernelWriter] = KernelWriter,
    ) -> KernelWriter:
        """A new function over the kernel's buffers and workspaces.

        Args:
            access: buffers with another access than the kernel's, by name.
        """
        buffers = {**self._buffers, **(access or {})}
        g = self._generator
        return kind(buffers, self.target, threads, g.may_overlap, g.alignment, stops=g.has_checks)

    def launch(
        self,
        made: KernelWriter,
        grid: Size,
        block: Size,
        *,
        shared_bytes: int = 0,
        suffix: str = "",
    ) -> None:
        """Launch a function that has been written."""
        name = f"{self.name}_{suffix}" if suffix else self.name
        function = made.function()
        own = self._generator.source.add(name, function, self._kernel.comment)
        for other in self._others:
            self._generator.source.add(name, function, other.comment)
        self.steps.append(made.launch(own, grid, block, shared_bytes))

    def pad(self, buffer: Buffer, size: int) -> None:
        """Write what lies between a buffer's end and the next multiple of `size` bytes."""
        nbytes = buffer.numel * buffer.dtype.itemsize
        if not is_multiple(nbytes, size):
            self.steps.append(Fill(buffer.name, nbytes, 0, -nbytes % size))

    def fill(self, buffer: Buffer, value: int) -> None:
        """Set all bytes of a buffer."""
        self.steps.append(Fill(buffer.name, 0, value, buffer.numel * buffer.dtype.itemsize))


class _Generator:
    """Steps of one program, which may be that of a recurrence's step.

    Args:
        known: where its buffers live, as far as that is known.
        alignments: of buffers whose first byte is aligned to less than `ALIGNMENT`.
    """

    def __init__(
        self,
        program: Program,
        target: Target,
        source: _Source,
        arena: _Arena,
        known: Mapping[str, Placement],
        decisions: Decisions,
        alignments: Mapping[str, int] | None = None,
        *,
        is_step: bool = False,
    ) -> None:
        self.program = program
        self.target = target
        self.source = source
        self.arena = arena
        self.known = known
        self.decisions = decisions
        self.alignments = alignments or {}
        self.is_step = is_step
        self.has_checks = bool(program.checks)
        self.workspaces: list[Buffer] = []

    def run(
        self,
        told: Callable[[Kernel, Sequence[Step]], None] | None = None,
        *,
        one_by_one: bool = False,
    ) -> list[Step]:
        steps: list[Step] = []
        for wave in self.program.waves:
            for group in list(wave) if one_by_one or self.is_step else groups_of(wave):
                kernels: list[Kernel]
                if isinstance(group, list):
                    kernels = [member.kernel for member in group]
                    own = self._sweep(group)
                else:
                    kernels, own = [group], self._kernel(group)
                if told is not None:
                    for kernel in kernels:
                        told(kernel, own)
                steps += own
        return steps

    def _sweep(self, members: Sequence[Member]) -> list[Step]:
        first, *others = (member.kernel for member in members)
        unit = Unit(first, self, others)
        emit_sweep(members, unit)
        return unit.steps

    def _kernel(self, kernel: Kernel) -> list[Step]:
        if isinstance(kernel, HostCall):
            return [self._collective(kernel) if kernel.op.is_collective else HostStep(kernel)]
        if isinstance(kernel, Recurrence):
            return [self._recurrence(kernel)]
        unit = Unit(kernel, self)
        emit = EMITTERS.get(type(kernel))
        if emit is None:
            raise CodegenError(f"[cuda] there is no code for {type(kernel).__name__}")
        emit(kernel, unit)
        return unit.steps

    def _collective(self, call: HostCall) -> CollectiveStep:
        """One that works in place writes to its result's memory from the start."""
        if not call.attributes.get("in_place"):
            return CollectiveStep(call)
        ticket = call.results[0].buffer
        for other in self.program.host_calls():
            given, result = other.operands[0].buffer, other.results[0].buffer
            if other.op.is_awaited and given and result and ticket and given.name == ticket.name:
                return CollectiveStep(call, result.name)
        raise CodegenError(f"[cuda] nobody waits for what {call.name} does in place")

    def alignment(self, buffer: Buffer) -> int:
        """A power of two that divides the address of a buffer's first byte."""
        return self.alignments.get(buffer.name, ALIGNMENT)

    def may_overlap(self, x: Buffer, y: Buffer) -> bool:
        """Can two buffers lie in the same memory?"""
        one, other = self.known.get(x.name), self.known.get(y.name)
        if one is None or other is None:  # a workspace
            return False
        if self.is_step:
            return True
        sizes = [b.numel * b.dtype.itemsize for b in (x, y)]
        if one.kind != other.kind:
            is_alike = form_of(sizes[0]) == form_of(sizes[1])  # whatever the sizes are
            return is_alike and "arena" not in (one.kind, other.kind)
        if one.kind != "arena":
            return one.slot == other.slot
        return one.offset < other.offset + sizes[1] and other.offset < one.offset + sizes[0]

    def _recurrence(self, kernel: Recurrence) -> Repeat:
        """A step's program, whose buffers lie within those of this one."""
        program = kernel.program
        places: list[Place] = []
        alignments: dict[str, int] = {}
        prefix = f"{kernel.name}."
        sizes = slot_sizes(program)
        for name, placement in program.placements.items():
            if placement.kind == "arena":
                assert kernel.arena is not None
                places.append(Place(prefix + name, kernel.arena.name, placement.offset))
                continue
            slot = placement.slot + program.inputs * (placement.kind == "output")
            if slot not in sizes:
                continue
            array = kernel.arrays[slot]
            size = array.buffer.dtype.itemsize
            edge = None if array.edge is None else (array.edge[0], array.edge[1].name)
            offset, stride = array.offset * size, array.stride * size
            places.append(Place(prefix + name, array.buffer.name, offset, stride, edge))
            alignments[name] = _power_of_two(offset, stride)
        inner = _Generator(
            program, self.target, self.source, self.arena, program.placements, self.decisions,
            alignments, is_step=True,
        )  # fmt: skip
        inner.has_checks = self.has_checks
        workspaces = inner.workspaces
        steps = [_prefixed(step, prefix, workspaces) for step in inner.run()]
        places += [Place(buffer.name, buffer.name) for buffer in workspaces]
        self.workspaces += workspaces
        return Repeat(kernel.count, tuple(steps), tuple(places))


def _power_of_two(*numbers: int) -> int:
    """The largest power of two up to `ALIGNMENT` that divides all of them."""
    size = ALIGNMENT
    while not all(is_multiple(number, size) for number in numbers):
        size //= 2
    return size


def _prefixed(step: Step, prefix: str, workspaces: list[Buffer]) -> Step:
    """A step of a recurrence, in which the names of the inner program's buffers begin so."""
    own = {buffer.name for buffer in workspaces}

    def renamed(name: str) -> str:
        return name if name in own else prefix + name

    if isinstance(step, Fill):
        return replace(step, name=renamed(step.name))
    if isinstance(step, Launch):
        arguments = tuple(
            BufferArgument(renamed(a.name), a.offset) if isinstance(a, BufferArgument) else a
            for a in step.arguments
        )
        return replace(step, arguments=arguments)
    raise CodegenError(f"[cuda] a recurrence's step cannot hold a {type(step).__name__}")


EMITTERS: dict[type, Callable[..., None]] = {
    Nest: emit_nest,
    Contraction: emit_contraction,
    Sort: emit_sort,
    Attention: emit_attention,
}
