"""One kernel as a program of its own: compiled, and run on arrays.

In: a `KernelCase` and what its operands hold.  Out: what native code makes of its results.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from braze.ir.loops import (
    Check,
    CheckSite,
    HostCall,
    Kernel,
    Loop,
    Nest,
    Placement,
    Program,
    Statement,
)
from braze.ir.loops_recurrence import Recurrence
from braze.ir.target import Target
from braze.runtime.artifact import Artifact, CallSite, FailureSite, Slot
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable
from braze.runtime.kernel_cases import Array, KernelCase
from braze.runtime.storage import Storage


class KernelProgram:
    """A kernel, compiled.

    Results that lie where operands lie in the kernel's graph lie there here, too.
    """

    def __init__(self, case: KernelCase, target: Target | None = None) -> None:
        self.case = case
        self.target = target or host_target()
        self._program = program_of(case.kernel)
        self._executable = self._made()
        buffers = {buffer.name: buffer for buffer in case.kernel.buffers}
        places = self._program.placements
        self._inputs = [buffers[n] for n in buffers if places[n].kind == "input"]
        self._outputs = [buffers[n] for n in buffers if places[n].kind == "output"]

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """What the kernel makes of its results.

        Raises: IndexError and what else a check or a host call of the kernel raises.
        """
        storages = self._storages(values)
        self._call(storages)
        types = dict(zip(self.case.results, self.case.node.results, strict=True))
        return {
            b.name: self._array(storages[b.name], b.dtype.numpy, types[b.name].shape)
            for b in self._outputs
            if b.name in types
        }

    def seconds(self, values: Mapping[str, Array], least: float = 0.5) -> tuple[float, int]:
        """The time of the quickest of some runs, and of how many.

        Args:
            least: for how many seconds to go on.
        """
        storages = self._storages(values)
        best, count = np.inf, 0
        until = time.perf_counter() + least
        while count < 5 or time.perf_counter() < until:
            start = time.perf_counter()
            self._call(storages)
            best, count = min(best, time.perf_counter() - start), count + 1
        return best, count

    def _storages(self, values: Mapping[str, Array]) -> dict[str, Storage]:
        arrays = self.case.buffers(values, self.case.kernel)
        found = {name: self._stored(array) for name, array in arrays.items()}
        for result, operand in self.case.overwritten.items():
            fits = result in found and operand in found
            if fits and found[result].nbytes <= found[operand].nbytes:
                found[result] = found[operand]
        return found

    def _call(self, storages: Mapping[str, Storage]) -> None:
        self._executable.run(
            [storages[b.name] for b in self._inputs], [storages[b.name] for b in self._outputs]
        )

    # Another device has its own code and memory.

    def _made(self) -> Any:
        """What runs the program."""
        return _executable(self._program, self.target)

    def _stored(self, array: Array) -> Storage:
        """An array where the program takes it."""
        return Storage.from_numpy(array)

    def _array(self, storage: Storage, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """What is there now."""
        return storage.array(dtype, shape).copy()


def program_of(kernel: Kernel) -> Program:
    """A program of one kernel. What it only reads are inputs, the rest are outputs."""
    if isinstance(kernel, HostCall):
        kernel = replace(kernel, number=0)
    placements: dict[str, Placement] = {}
    inputs = outputs = arena = 0
    for buffer in kernel.buffers:
        if buffer.access == "in":
            placements[buffer.name] = Placement("input", inputs)
            inputs += 1
        else:
            placements[buffer.name] = Placement("output", outputs)
            outputs += 1
    if isinstance(kernel, Recurrence) and kernel.arena is not None:
        placements[kernel.arena.name] = Placement("arena")
        arena = kernel.arena.numel * kernel.arena.dtype.itemsize
    checks = [CheckSite("check", 0, 0, None)] * _codes(kernel)
    return Program(kernel.name, inputs, outputs, [[kernel]], placements, arena, checks)


def slots_in(program: Program) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    """The inputs and outputs of a program of one kernel."""
    (kernel,) = program.kernels()
    inputs, outputs = (
        tuple(
            Slot(b.name, b.dtype.name, (b.numel,))
            for b in kernel.buffers
            if program.placements[b.name].kind == kind
        )
        for kind in ("input", "output")
    )
    return inputs, outputs


def _codes(kernel: Kernel) -> int:
    """The largest number of a kernel's checks."""
    waiting: list[Statement] = list(kernel.body) if isinstance(kernel, Nest) else []
    most = 0
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, Check):
            most = max(most, statement.code)
        elif isinstance(statement, Loop):
            waiting += statement.body
    return most


def _executable(program: Program, target: Target) -> Executable:
    from braze.codegen.llvm.program import generate
    from braze.runtime.compiler import ModuleCompiler
    from braze.runtime.kept_objects import pool_object
    from braze.runtime.pool import get_pool

    with ModuleCompiler(target) as compiler:
        generated: Any = generate(program, target, compiler.start)
        objects = compiler.objects(generated.modules)
    get_pool(compile=pool_object)
    inputs, outputs = slots_in(program)
    return Executable(
        Artifact(
            name=program.name,
            target=target.to_text(),
            main=generated.main,
            objects=tuple(objects),
            inputs=inputs,
            outputs=outputs,
            arena_bytes=program.arena_bytes,
            scratch_bytes=generated.scratch_bytes,
            failures=tuple(FailureSite(c.message, c.low, c.high) for c in program.checks),
            calls=tuple(CallSite(str(call)) for call in program.host_calls()),
        )
    )
