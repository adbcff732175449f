"""Kernels of a program that do the same at other places: one function for all of them.

In: a program.  Out: for each kernel that has its like, a program of its own to generate the
function from, and which buffer each of that program's pointers is.

Unrolled loops, such as the steps of a recurrence that is written in Python, and equal layers give
the same kernels again and again; compiling takes far longer than running them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from braze.ir.loops import (
    Buffer,
    Check,
    Contraction,
    Kernel,
    Loop,
    Nest,
    Placement,
    Program,
    Statement,
)
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_text import print_anywhere

Place = tuple[Buffer, int]

FEWEST = 2


@dataclass(frozen=True, eq=False, slots=True)
class Shared:
    """The function that a kernel is a call of.

    Attributes:
        program: of one kernel, whose buffers are its inputs and outputs.
        places: the caller's buffers and the first elements that are used of them, in the order of
            the program's pointers.
    """

    program: Program
    places: tuple[Place, ...]

    @property
    def kernel(self) -> Kernel:
        return self.program.waves[0][0]

    @property
    def pointers(self) -> int:
        """How many pointers the function expects: its buffers, arena, scratch and status."""
        return len(self.places) + 3


def may_fail(kernel: Kernel) -> bool:
    """Does the kernel hold a run-time check? Its code is the number of the failed operation."""

    def within(statements: Sequence[Statement]) -> bool:
        return any(
            isinstance(s, Check) or (isinstance(s, Loop) and within(s.body)) for s in statements
        )

    return isinstance(kernel, Nest) and within(kernel.body)


def shared_kernels(program: Program) -> dict[str, Shared]:
    """What to call, by the names of the kernels that have their like: the first of them gives the
    function its name."""
    alike: dict[str, list[tuple[Kernel, list[Place]]]] = {}
    for kernel in program.kernels():
        if isinstance(kernel, (Nest, Contraction)) and not may_fail(kernel):
            roles = _roles(kernel, program.placements)
            if roles is not None:
                text, places = _anywhere(kernel, roles)
                alike.setdefault(text, []).append((kernel, places))
    found: dict[str, Shared] = {}
    for text, kernels in alike.items():
        if len(kernels) >= FEWEST:
            own = _program(text, kernels[0][0].name)
            found.update((k.name, Shared(own, tuple(places))) for k, places in kernels)
    return found


def _roles(kernel: Kernel, placements: Mapping[str, Placement]) -> str | None:
    """For each buffer "o", or "i" if it shares memory with one that is "o"; None for what no
    program of its own could tell apart.

    Outputs of a program are never the same memory, an input may be that of an output: see
    `Aliasing`.
    """
    written = [buffer for buffer in kernel.buffers if buffer.access != "in"]
    if any(_overlap(a, b, placements) for a in written for b in written if a is not b):
        return None
    alone = [
        buffer.access != "in" or not any(_overlap(buffer, other, placements) for other in written)
        for buffer in kernel.buffers
    ]
    return "".join("o" if free else "i" for free in alone)


def _overlap(left: Buffer, right: Buffer, placements: Mapping[str, Placement]) -> bool:
    a, b = placements[left.name], placements[right.name]
    if a.kind == b.kind == "arena":
        a_end = a.offset + left.numel * left.dtype.itemsize
        b_end = b.offset + right.numel * right.dtype.itemsize
        return not (a_end <= b.offset or b_end <= a.offset)
    if "arena" in (a.kind, b.kind):
        return False
    return not (a.kind == b.kind == "output" and a.slot != b.slot)


def _anywhere(kernel: Kernel, roles: str) -> tuple[str, list[Place]]:
    """The kernel's text without what is its own, and its places by their pointers' numbers."""
    by_role = [
        [buffer for buffer, role in zip(kernel.buffers, roles, strict=True) if role == wanted]
        for wanted in "io"
    ]
    names = {
        buffer.name: f"{role}{number}"
        for role, buffers in zip("io", by_role, strict=True)
        for number, buffer in enumerate(buffers)
    }
    text, starts = print_anywhere(kernel, names)
    return text, [(b, starts[names[b.name]]) for buffers in by_role for b in buffers]


def _program(text: str, name: str) -> Program:
    """The program of a kernel's text."""
    kernel = parse_kernel(text)
    kernel.name = name
    inputs = sum(buffer.name[0] == "i" for buffer in kernel.buffers)
    placements = {
        buffer.name: Placement("input" if buffer.name[0] == "i" else "output", int(buffer.name[1:]))
        for buffer in kernel.buffers
    }
    return Program(name, inputs, len(kernel.buffers) - inputs, [[kernel]], placements, 0)
