"""One kernel as a program of its own on a GPU.

In: a `KernelCase`, a device, and what the kernel's operands hold.  Out: what the GPU makes of its
results, and how long it takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from braze.ir.loops_cost import kernel_cost
from braze.runtime.artifact import FailureSite, Figures
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.compiling import kept_cubin
from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.cuda.memory import copy_storage, new_storage
from braze.runtime.cuda.timing import TimedCudaExecutable
from braze.runtime.kept_objects import disk_cache
from braze.runtime.kernel_cases import Array, KernelCase
from braze.runtime.kernel_program import KernelProgram, slots_in
from braze.runtime.storage import Storage
from braze.runtime.timing import KernelFacts


class CudaKernelProgram(KernelProgram):
    """A kernel, compiled for a device."""

    def __init__(self, case: KernelCase, device: CudaDevice) -> None:
        self._device = device
        super().__init__(case, device.target)

    def seconds(self, values: Mapping[str, Array], least: float = 0.5) -> tuple[float, int]:
        """The time on the GPU of the quickest of some runs, and of how many."""
        storages = self._storages(values)
        best, count = np.inf, 0
        until = time.perf_counter() + least
        while count < 5 or time.perf_counter() < until:
            self._call(storages)
            best, count = min(best, self._executable.times()[0].seconds), count + 1
        return best, count

    def _made(self) -> Any:
        from braze.codegen.cuda.generate import generate

        program, kernel = self._program, self.case.kernel
        made = generate(program, self.target)
        cubin, _ = kept_cubin(made, self.target, disk_cache())
        inputs, outputs = slots_in(program)
        failures = tuple(FailureSite(c.message, c.low, c.high) for c in program.checks)
        calls = tuple(-1 for _ in program.host_calls())
        code = CudaCode(made, cubin, inputs, outputs, failures, calls, Figures())
        kind = str(self.case.node.attributes["kind"])
        facts = KernelFacts(kernel.name, 0, kind, (), kernel_cost(kernel))
        return TimedCudaExecutable(code, self._device, [(facts, len(made.steps))])

    def _stored(self, array: Array) -> Storage:
        copy = new_storage(f"cuda:{self._device.index}", array.nbytes, "an operand")
        copy_storage(Storage.from_numpy(array), copy)
        return copy

    def _array(self, storage: Storage, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        array = np.empty(shape, dtype)
        copy_storage(storage, Storage.from_numpy(array))
        return array
