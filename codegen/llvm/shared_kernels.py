"""Kernels of a program that do the same at other places: one function for all of them.

In: a program.  Out: for each kernel that has its like, a program of its own to generate the
function from, and which buffer each of that program's pointers is.

Unrolled loops, such as the steps of a recurrence that is written in Python, and equal layers give
the same kernels again and again; compiling takes far longer than running them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, combinations

from braze.codegen.llvm.checks import has_check
from braze.codegen.llvm.kernel import disjoint
from braze.ir.loops import Buffer, Contraction, Kernel, Loop, Nest, Placement, Program
from braze.ir.loops_attention import Attention
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


def shared_kernels(program: Program) -> dict[Kernel, Shared]:
    """What to call for each kernel that has its like: the first of them gives the function its
    name."""
    alike: dict[str, list[tuple[Kernel, list[Place]]]] = {}
    outlines: dict[object, list[Kernel]] = {}
    for kernel in program.kernels():
        # A check's code is the number of the operation, no two have the same.
        plain = isinstance(kernel, Nest) and not has_check(kernel.body)
        if plain or isinstance(kernel, (Contraction, Attention)):
            outlines.setdefault(_outline(kernel), []).append(kernel)
    # Texts take long to write, and most kernels of a small program differ at a glance.
    for kernel in chain.from_iterable(k for k in outlines.values() if len(k) >= FEWEST):
        roles = _roles(kernel, program.placements)
        if roles is not None:
            text, places = _anywhere(kernel, roles)
            alike.setdefault(text, []).append((kernel, places))
    found: dict[Kernel, Shared] = {}
    for text, kernels in alike.items():
        if len(kernels) >= FEWEST:
            own = _program(text, kernels[0][0].name)
            found.update((k, Shared(own, tuple(places))) for k, places in kernels)
    return found


def _outline(kernel: Kernel) -> object:
    """What kernels of equal texts have in common: some of what is in them."""
    buffers = tuple((buffer.dtype, buffer.access) for buffer in kernel.buffers)
    extents: list[int] = []
    if isinstance(kernel, Contraction):
        extents = [dim.extent for dim in kernel.dims]
    elif isinstance(kernel, Nest):
        waiting = list(kernel.body)
        while waiting:
            statement = waiting.pop()
            if isinstance(statement, Loop):
                extents.append(statement.var.extent)
                waiting += statement.body
    return type(kernel), buffers, tuple(extents)


def _roles(kernel: Kernel, placements: Mapping[str, Placement]) -> str | None:
    """For each buffer "o", or "i" if it shares memory with one that is "o"; None for what no
    program of its own could tell apart.

    Outputs of a program are never the same memory, an input may be that of an output: see
    `disjoint`.
    """
    written = [buffer for buffer in kernel.buffers if buffer.access != "in"]
    if any(not disjoint(a, b, placements) for a, b in combinations(written, 2)):
        return None
    alone = [
        buffer.access != "in" or all(disjoint(buffer, other, placements) for other in written)
        for buffer in kernel.buffers
    ]
    return "".join("o" if free else "i" for free in alone)


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
