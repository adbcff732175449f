"""How long each kernel of a compiled graph takes on a GPU.

In: a graph without devices, and a device.  Out: a `TimedCudaExecutable`, whose runs leave the times
of their kernels: CUDA's events stand before and behind each kernel's launches in the stream. They
are counted in half microseconds (CUDA driver API, `cuEventElapsedTime`), and a kernel's time holds
the gap before its launch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from braze.ir.fingerprint import fingerprint
from braze.ir.gpu_limits import nearest
from braze.ir.graph import Graph
from braze.ir.loops import Kernel
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.cuda.driver import driver
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.cuda.memory import new_storage
from braze.runtime.cuda.precision import target_for
from braze.runtime.executable import Input
from braze.runtime.limits import Limits
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Keeper
from braze.runtime.storage import Storage
from braze.runtime.timing import Chunk, KernelFacts, KernelTime, duration, kernel_facts

if TYPE_CHECKING:
    from braze.ir.cuda_program import Step
    from braze.runtime.cuda.executable import Run

# Multiply-adds of f32 that a multiprocessor starts in a clock (CUDA C++ programming guide,
# "Throughput of native arithmetic instructions"), by compute capability.
_FMAS = {75: 64, 80: 64, 86: 128, 89: 128, 90: 128, 100: 128, 120: 128}


class TimedCudaExecutable(CudaExecutable):
    """Machine code that times its kernels.

    Args:
        kernels: each with how many of the program's steps are its own, in their order.
    """

    def __init__(
        self, code: CudaCode, device: CudaDevice, kernels: Sequence[tuple[KernelFacts, int]]
    ) -> None:
        super().__init__(code, device)
        self._timed_kernels = kernels
        self._events: list[Any] = []
        self._began = 0.0

    def enqueue(self, run: Run) -> None:
        """All steps, each launched by itself, with events in between."""
        run.clear_status()
        stream, steps, at = run.stream.handle, self.code.program.steps, 0
        self._events = [driver().Event() for _ in range(len(self._timed_kernels) + 1)]
        self._began = time.perf_counter()
        self._events[0].record(stream)
        for event, (_, count) in zip(self._events[1:], self._timed_kernels, strict=True):
            run.steps(steps[at : at + count], run.base)
            event.record(stream)
            at += count

    def times(self) -> list[KernelTime]:
        """Of the latest run, which is waited for."""
        if not self._events:
            return []
        with self.device.active():
            self._events[-1].synchronize()
            passed = [self._events[0].time_till(event) / 1e3 for event in self._events]
        found = []
        for number, (kernel, _) in enumerate(self._timed_kernels):
            start, end = (self._began + seconds for seconds in passed[number : number + 2])
            found.append(
                KernelTime(kernel, start, end, end - start, end - start, (Chunk(start, end, 0),))
            )
        return found


def timed_cuda_executable(graph: Graph, device: CudaDevice) -> TimedCudaExecutable:
    """Compile a graph for its own sizes, with its kernels told apart.

    Raises: what `braze.runtime.cuda.compiling.compile_cuda` raises.
    """
    from braze.runtime.cuda.compiling import compile_cuda
    from braze.runtime.kept_objects import disk_cache

    record = Keeper(graph, fingerprint(graph))
    made: list[tuple[Kernel, int]] = []
    origin = Provenance(graph)

    def told(kernel: Kernel, steps: Sequence[Step]) -> None:
        made.append((kernel, len(steps)))

    target = target_for(graph, device.target)
    code = compile_cuda(graph, target, disk_cache(), origin=origin, keep=record, told=told)
    one_by_one = ([kernel] for kernel, _ in made)
    facts = kernel_facts(one_by_one, record.scheduled, origin)
    steps = [count for _, count in made]
    return TimedCudaExecutable(code, device, list(zip(facts, steps, strict=True)))


def measure_on_device(
    executable: TimedCudaExecutable,
    graph: Graph,
    inputs: Sequence[Input],
    rounds: int,
    seconds: float = 0.0,
) -> list[KernelTime]:
    """The times of the quickest of several runs.

    Args:
        inputs: a storage of the device for each input of the graph, which the graph may overwrite;
            a Python number for those of role "scalar".
        rounds: how many runs at least.
        seconds: for how long at least.
    """
    device = f"cuda:{executable.device.index}"
    outputs: list[Storage] = []
    for position, value in enumerate(graph.outputs):
        source = graph.aliases.get(position)
        own = new_storage(device, value.type.nbytes, str(value.type)) if source is None \
            else inputs[source]
        assert isinstance(own, Storage)
        outputs.append(own)
    best: list[KernelTime] = []
    number, until = 0, time.perf_counter() + seconds
    while number < rounds or time.perf_counter() < until:
        number += 1
        executable.run(inputs, outputs)
        found = executable.times()
        if not best or duration(found) < duration(best):
            best = found
    return best


def device_limits(device: CudaDevice) -> Limits:
    """What a GPU can do at most by its driver's figures: multiply-adds of f32 outside of tensor
    cores, and bytes of its memory. Nothing is measured."""
    facts = device.properties()
    processors = facts["multiprocessor_count"]
    fmas = _FMAS[nearest(device.target.capability, _FMAS)]
    flops = 2.0 * fmas * processors * facts["clock_rate"] * 1e3
    # Memory transfers twice in a clock; its bus is given in bits.
    moved = 2.0 * facts["memory_clock_rate"] * 1e3 * facts["global_memory_bus_width"] / 8
    return Limits(processors, flops, moved)
