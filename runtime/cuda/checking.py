"""Graphs on a GPU run kernel by kernel beside the interpreter: `config.check`.

In: a graph without devices, and a device.  Out: a `CheckedCudaExecutable`, whose runs raise
`KernelDifference` at the first kernel that does not compute what the interpreter makes of the very
same operands.

The code is that of a graph of these sizes. Kernels are launched one at a time, and the stream is
waited for: before each, what it reads has been copied to the host, and behind it its results are
compared there, as well as all else that is still needed (`braze.runtime.checked_memory`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.runtime.check_reports import Wrong, wrong_place, wrong_result
from braze.runtime.checked_memory import CheckedMemory
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import driver
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.kernel_cases import Array, KernelCase, kernel_cases
from braze.runtime.kernel_difference import KernelDifference
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Keeper

if TYPE_CHECKING:
    from braze.ir.cuda_program import Step
    from braze.runtime.cuda.executable import Run


class _DeviceMemory(CheckedMemory):
    """The same of a device's memory, which is read and written by copies."""

    run: Run

    def now(self, name: str) -> Array:
        """A copy of what a buffer holds, once its stream is done."""
        type = self.types[name]
        array = np.empty(type.shape, type.dtype.numpy)
        if array.nbytes:
            stream = self.run.stream.handle
            driver().memcpy_dtoh_async(array, self.span(name)[0], stream=stream)
            self.run.wait()
        return array

    def _put(self, name: str, array: Array) -> None:
        if array.nbytes:
            stream = self.run.stream.handle
            source = np.ascontiguousarray(array)
            driver().memcpy_htod_async(self.span(name)[0], source, stream=stream)
            self.run.wait()  # before the array is gone


class CheckedCudaExecutable(CudaExecutable):
    """Machine code whose runs are checked, and waited for.

    Args:
        cases: its kernels in order, each with how many of the program's steps are its own.

    Attributes:
        cases: its kernels.
    """

    def __init__(
        self,
        code: CudaCode,
        device: CudaDevice,
        cases: Sequence[tuple[KernelCase, int]],
        memory: _DeviceMemory,
        graph: Graph,
        origin: Provenance,
    ) -> None:
        super().__init__(code, device)
        self.cases = [case for case, _ in cases]
        self._counts = [count for _, count in cases]
        self._memory = memory
        self._graph = graph
        self._origin = origin
        # What is begun may write to its operands' memory while later kernels run.
        self._looks_around = not any(case.is_collective for case in self.cases)

    def _graph_on(self, stream: Stream) -> None:
        """None: each kernel is launched by itself."""

    def enqueue(self, run: Run) -> None:
        """All steps, waiting behind each kernel's; the caller holds the device's lock.

        Raises: KernelDifference. Outputs may be partly written then; what the graph overwrites is
            as it was before.
        """
        memory = self._memory
        memory.run = run
        run.clear_status()
        try:
            memory.begin(run.roots)
            at = 0
            for case, count in zip(self.cases, self._counts, strict=True):
                memory.need([case])
                memory.spoil([case])
                run.steps(self.code.program.steps[at : at + count], run.base)
                run.wait()
                self._look(case, run)
                at += count
        except KernelDifference:
            memory.restore()
            raise
        finally:
            memory.forget()
            del memory.run

    def _look(self, case: KernelCase, run: Run) -> None:
        """Look at what a kernel has done."""
        memory = self._memory
        failed = run.failure() is not None
        if not case.is_collective:
            wrong = wrong_result(case, memory, failed=failed)
            if wrong is not None:
                self._raise(wrong, run)
        if self._looks_around and not failed:
            fault = memory.fault([case])
            if fault is not None:
                self._raise(wrong_place(fault, memory), run)
        memory.keep([case])

    def _raise(self, wrong: Wrong, run: Run) -> NoReturn:
        device = f"cuda:{self.device.index}"
        raise wrong.error(self._graph, self._origin, run.sites, device) from wrong.cause


def checked_cuda_executable(graph: Graph, device: CudaDevice) -> CheckedCudaExecutable:
    """Compile a graph for its own sizes, to be checked when it runs.

    Raises: what `braze.runtime.cuda.compiling.compile_cuda` raises.
    """
    from braze.runtime.cuda.compiling import compile_cuda
    from braze.runtime.kept_objects import disk_cache

    record = Keeper(graph, fingerprint(graph))
    counts: dict[str, int] = {}
    origin = Provenance(graph)

    def count(kernel: Kernel, steps: Sequence[Step]) -> None:
        counts[kernel.name] = len(steps)

    code = compile_cuda(graph, device.target, disk_cache(), origin=origin, keep=record, told=count)
    program = next(made for made in record.results if isinstance(made, Program))
    # A GPU runs one kernel at a time, and has no form that computes several results of a product
    # together.
    cases = [
        replace(case, wave=number, mixed=False)
        for number, case in enumerate(kernel_cases(program, record.scheduled))
    ]
    memory = _DeviceMemory(program, record.scheduled, cases)
    numbered = [(case, counts[case.name]) for case in cases]
    return CheckedCudaExecutable(code, device, numbered, memory, graph, origin)
