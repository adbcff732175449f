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
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.errors import BrazeError, LinAlgError
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.ir.rounding import Difference
from braze.runtime.check_reports import blame, comparison, told
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
            self._check(case, run, failed=failed)
        if self._looks_around and not failed:
            fault = memory.fault([case])
            if fault is not None:
                known = memory.copies.keys() & case.operands
                values = {name: memory.copies[name] for name in known}
                raise self._error(run, case, values, fault[1], is_of_plan=fault[2])
        memory.keep([case])

    def _check(self, case: KernelCase, run: Run, *, failed: bool) -> None:
        """Compare a kernel's results.

        Args:
            failed: a check in the program has reported an error, which the user will be told of.
        """
        values = {name: self._memory.copies[name] for name in case.operands}
        try:
            expected = case.expected(values)
        except (IndexError, BrazeError, LinAlgError, np.linalg.LinAlgError) as error:
            if failed:
                return
            what = f"ran, where the interpreter raises: {error}"
            raise self._error(run, case, values, what) from error
        if failed:
            return  # kernels behind a failed check do nothing
        found = {name: self._memory.now(name) for name in expected}
        differing = case.differing(found, expected)
        if differing is not None:
            name, differs = differing
            what = comparison(case, name, differs, expected[name]) + blame(case, values, expected)
            raise self._error(run, case, values, what, name, differs)

    def _error(
        self,
        run: Run,
        case: KernelCase,
        values: dict[str, Array],
        what: str,
        result: str = "",
        difference: Difference | None = None,
        *,
        is_of_plan: bool = False,
    ) -> KernelDifference:
        how: dict[str, Any] = {"is_of_plan": is_of_plan, "device": f"cuda:{self.device.index}"}
        error = KernelDifference("", self._graph, case, values, result, difference, **how)
        return told(error, what, self._origin, run.sites)


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
