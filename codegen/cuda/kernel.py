"""One `__global__` function while it is written, and its launch.

In: lines of its body, and which buffers and library functions they use.  Out: a `Function` and a
`Launch`. Parameters are called after what the kernel does with them (``in0``, ``out0``), not after
the graph's values, so that equal kernels of equal layers are the same text. Numbers that depend on
sizes which calls choose are parameters, too (``size0``): the host computes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.indices import wide
from braze.codegen.cuda.text import Writer
from braze.codegen.cuda.types import memory_type
from braze.ir.cuda_program import Argument, BufferArgument, Launch, Size
from braze.ir.index import LoopVar
from braze.ir.loops import Buffer
from braze.ir.symint import Form, SymInt
from braze.ir.target import Target

STATUS = "status"


@dataclass(frozen=True, slots=True)
class Function:
    """A `__global__` function.

    Attributes:
        text: of the definition, with `NAME` where its name stands.
        functions: of the library that it calls.
        headers: of CUDA that it includes by itself.
    """

    text: str
    functions: tuple[str, ...]
    headers: tuple[str, ...] = ()


NAME = "@NAME@"
MayOverlap = Callable[[Buffer, Buffer], bool]


class KernelWriter:
    """Writes one function.

    Args:
        buffers: what the kernel may touch, in the order of the parameters.
        threads: of a block, at most.
        may_overlap: whether two buffers can lie in the same memory.
        alignment: of a buffer's first byte.
        stops: whether to return at once if a check has failed before.
    """

    def __init__(
        self,
        buffers: Mapping[str, Buffer],
        target: Target,
        threads: int,
        may_overlap: MayOverlap,
        alignment: Callable[[Buffer], int],
        *,
        stops: bool = False,
    ) -> None:
        self.writer = Writer()
        self.target = target
        self.threads = threads
        self.alignment = alignment
        self.stops = stops
        self.blocks = 0  # that should fit on a multiprocessor at a time, if that is known
        self.checks = False
        self.has_barriers = False
        self._buffers = dict(buffers)
        self._may_overlap = may_overlap
        self._functions: dict[str, None] = {}
        self._used: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._sizes: dict[Form | int, tuple[str, SymInt]] = {}

    def use(self, function: str) -> None:
        """Take note of a function of the library."""
        self._functions[function] = None

    def pointer(self, buffer: Buffer) -> str:
        """The name of a buffer's parameter."""
        if buffer.name not in self._used:
            stem = {"in": "in", "out": "out", "inout": "io"}[self._buffers[buffer.name].access]
            number = self._numbers.get(stem, 0)
            self._numbers[stem] = number + 1
            self._used[buffer.name] = f"{stem}{number}"
        return self._used[buffer.name]

    def number(self, value: int) -> str:
        """An integer in C: its digits, or the name of the parameter whose value it is."""
        if not isinstance(value, SymInt):
            return str(value)
        return self._sizes.setdefault(value.form, (f"size{len(self._sizes)}", value))[0]

    def wide(self, value: int) -> str:
        """An integer in C, in 64 bits."""
        return wide(value, self.number(value))

    def expressions(
        self, variables: Mapping[LoopVar, str], refs: Mapping[str, str] | None = None
    ) -> Expressions:
        return Expressions(self.writer, self.pointer, self.number, self.use, variables, refs)

    def barrier(self) -> None:
        self.has_barriers = True
        self.writer.line("__syncthreads();")

    def function(self) -> Function:
        """What has been written."""
        if self.stops or self.checks:
            self.use("check")
        body = self.writer.text()
        # Of some numbers only others were computed.
        self._sizes = {
            form: own for form, own in self._sizes.items() if re.search(rf"\b{own[0]}\b", body)
        }
        text = "\n".join([*self._head(), body, "}"])
        return Function(text, tuple(self._functions))

    def _head(self) -> list[str]:
        """The lines before the body."""
        bounds = f"{self.threads}, {self.blocks}" if self.blocks else f"{self.threads}"
        head = [f'extern "C" __global__ void __launch_bounds__({bounds}) {NAME}(']
        head += [f"    {text}," for text in self._parameters()]
        head[-1] = head[-1].removesuffix(",") + ") {"
        if self.stops and not self.checks:  # a kernel with checks overwrites nothing
            head.append(f"  if (has_failed({STATUS})) return;")
        for name, value in self._sizes.values():
            if _is_int(value):
                head.append(f"  const int {name} = (int)given_{name};")
        return head

    def _parameters(self) -> list[str]:
        found = []
        for name, pointer in self._used.items():
            buffer = self._buffers[name]
            type = memory_type(buffer.dtype)
            constant = "const " if buffer.access == "in" else ""
            restrict = "" if self._overlaps(buffer) else " __restrict__"
            found.append(f"{constant}{type}*{restrict} {pointer}")
        for name, value in self._sizes.values():
            found.append(f"long long {'given_' if _is_int(value) else ''}{name}")
        if self.stops or self.checks:
            found.append(f"long long* {STATUS}")
        return found

    def _overlaps(self, buffer: Buffer) -> bool:
        """May it share memory with another buffer of the function, so that order matters?"""
        others = (self._buffers[name] for name in self._used if name != buffer.name)
        return any(
            self._may_overlap(buffer, other)
            for other in others
            if "in" != buffer.access or other.access != "in"
        )

    def launch(self, name: str, grid: Size, block: Size, shared_bytes: int = 0) -> Launch:
        arguments: list[Argument] = [BufferArgument(buffer) for buffer in self._used]
        arguments += [value for _, value in self._sizes.values()]
        if self.stops or self.checks:
            arguments.append("status")
        return Launch(name, grid, block, shared_bytes, tuple(arguments))


def _is_int(value: int) -> bool:
    """Does it fit into 32 bits?"""
    return -(2**31) <= value < 2**31
