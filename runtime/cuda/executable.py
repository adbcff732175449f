"""A compiled graph on one GPU, and its launches.

In: a `CudaCode` and a device.  Out: a `CudaExecutable`, whose `run` enqueues everything on the
calling thread's current stream and returns: results are there when the stream is done. The host
waits only for calls of NumPy in between. With `config.cuda_graphs`, what runs often is launched as
one CUDA graph (`braze.runtime.cuda.launch_graph`).

A check that fails is found when somebody waits for the stream, by then with the line of its call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from braze.ir.cuda_program import (
    SHARED_BYTES,
    BufferArgument,
    CollectiveStep,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Repeat,
)
from braze.ir.dtypes import DType, dtype_named
from braze.ir.errors import BrazeError, failed_check
from braze.ir.graph import Location
from braze.ir.host import evaluate_call
from braze.ir.scalars import narrowed
from braze.ir.target import FAILED, STATUS_WORDS, VALUE
from braze.runtime.config import config
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.collectives import Collectives
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import CudaError, driver
from braze.runtime.cuda.graph_nodes import root_of
from braze.runtime.cuda.memory import DeviceStorage
from braze.runtime.executable import Input, Sites, place, site_of
from braze.runtime.object_loader import ObjectError
from braze.runtime.stats import stats
from braze.runtime.storage import Storage

if TYPE_CHECKING:
    from braze.runtime.cuda.graph_calls import GraphModule
    from braze.runtime.cuda.launch_graph import GraphOnStream, Graphs

_WORD = 16  # bytes from one number to the next: memory of an input begins at such a multiple
Base = Callable[[str], int]


class CubinError(CudaError, ObjectError):
    """The driver refuses machine code."""


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turns what the driver says of code that it cannot load into a `CubinError`."""
    cuda = driver()
    try:
        yield
    except (cuda.LogicError, cuda.RuntimeError) as error:
        raise CubinError(f"the GPU's driver refuses {what}: {error}") from error


class _Kernel:
    """A launch with its function, ready to be given addresses."""

    __slots__ = ("arguments", "block", "call", "grid", "shared")

    def __init__(self, launch: Launch, function: Any) -> None:
        self.call = function.prepared_async_call
        self.grid, self.block = launch.grid, launch.block
        self.shared = launch.shared_bytes
        self.arguments = launch.arguments


class _Module:
    """The functions of a cubin, loaded once for all graphs and sizes that use it."""

    def __init__(self, cubin: bytes, device: CudaDevice) -> None:
        self._cubin = cubin
        self._device = device
        with _refusals("machine code"):
            self._loaded = driver().module_from_buffer(cubin)
        self._for_graphs: GraphModule | None = None
        self._functions: dict[str, Any] = {}
        self._shared: dict[str, int] = {}

    def function(self, launch: Launch) -> Any:
        """The function of a launch, ready to be given its arguments."""
        name = launch.kernel
        found = self._functions.get(name)
        if found is None:
            with _refusals(f"function {name!r}"):
                found = self._functions[name] = self._loaded.get_function(name)
            found.prepare("".join("q" if type(a) is int else "P" for a in launch.arguments))
        if launch.shared_bytes > self._shared.get(name, SHARED_BYTES):
            most = driver().function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            with _refusals(f"{launch.shared_bytes} bytes of shared memory for {name!r}"):
                found.set_attribute(most, launch.shared_bytes)
            self._shared[name] = launch.shared_bytes
        return found

    def for_graphs(self) -> GraphModule:
        """The functions by their handles."""
        if self._for_graphs is None:
            from braze.runtime.cuda.graph_calls import GraphModule

            self._for_graphs = GraphModule(self._cubin, self._device)
        return self._for_graphs


# By device and cubin, as long as anything uses them.
_modules: WeakValueDictionary[tuple[int, bytes], _Module] = WeakValueDictionary()


def _module_of(cubin: bytes, device: CudaDevice) -> _Module:
    key = device.index, cubin
    found = _modules.get(key)
    if found is None:
        found = _modules[key] = _Module(cubin, device)
    return found


class CudaExecutable:
    """Machine code of one graph on a device.

    Raises: CubinError, a CudaError, if the code cannot be loaded.
    """

    def __init__(self, code: CudaCode, device: CudaDevice) -> None:
        self.code = code
        self.device = device
        program = code.program
        self._kernels: dict[int, _Kernel] = {}
        self._module: _Module | None = None
        if code.cubin:
            with device.lock, device.active():
                self._module = module = _module_of(code.cubin, device)
                self._kernels = {
                    id(launch): _Kernel(launch, module.function(launch))
                    for launch in program.launches()
                }
        self._scalars = [
            (position, dtype_named(slot.dtype))
            for position, slot in enumerate(code.inputs)
            if slot.role == "scalar"
        ]
        self._reports = bool(program.checks)
        self._graphs: Graphs | None = None

    def run(
        self, inputs: Sequence[Input], outputs: Sequence[Storage], sites: Sites | None = None
    ) -> None:
        """Enqueue the computation of the outputs.

        Args:
            inputs: a storage of this device for each input, a Python number for those of role
                "scalar".
            outputs: a storage for each output; an aliased one is its input's storage.
            sites: the user's lines in this call, for an error's message.

        Raises:
            What a host call raises, or a check before it found. (Other checks report later.)
        """
        program, device = self.code.program, self.device
        if (len(inputs), len(outputs)) != (program.inputs, program.outputs):
            raise ValueError(
                f"graph @{program.name} takes {program.inputs} inputs and {program.outputs} "
                f"outputs, given {len(inputs)} and {len(outputs)}"
            )
        with device.lock, device.active():
            stream = device.stream
            graph = self._graph_on(stream) if config.cuda_graphs else None
            run = Run(self, stream, inputs, outputs, sites, graph)
            try:
                self.enqueue(run)
            except BaseException:
                run.collectives.leave()
                raise
            run.keep_status()
            if run.status is not None:
                run.numbers = None  # what comes next in this stream may have the memory
                device.failures.append(run.failure)
        stats.native_calls += 1

    def enqueue(self, run: Run) -> None:
        """All steps of a call, in order."""
        module, graph = self._module, run.graph
        if module is None or graph is None or not graph.launch(module, run.roots):
            run.clear_status()
            run.steps(self.code.program.steps, run.base)

    def _graph_on(self, stream: Stream) -> GraphOnStream | None:
        """What may launch a stream's runs as a graph."""
        if self._graphs is None:
            from braze.runtime.cuda.launch_graph import Graphs

            numbers = _WORD * len(self._scalars)
            self._graphs = Graphs(self.code.program, numbers, self.device)
        return self._graphs.on(stream)

    def numbers(
        self, inputs: Sequence[Input], stream: Stream, memory: DeviceStorage | None
    ) -> tuple[DeviceStorage, list[int]]:
        """A call's Python numbers in memory of the device, that which is given or else some of its
        own, and the addresses of all inputs."""
        block = bytearray(_WORD * len(self._scalars))
        for index, (position, dtype) in enumerate(self._scalars):
            struct.pack_into("16s", block, _WORD * index, _bytes_of(inputs[position], dtype))
        if memory is None:
            memory = DeviceStorage.on(self.device, len(block), stream, "numbers")
        source = np.frombuffer(bytes(block), np.uint8)
        driver().memcpy_htod_async(memory.address, source, stream=stream.handle)
        where = {p: memory.address + _WORD * i for i, (p, _) in enumerate(self._scalars)}
        return memory, [
            where[p] if p in where else item.address  # type: ignore[union-attr]
            for p, item in enumerate(inputs)
        ]

    @property
    def kernels(self) -> dict[int, _Kernel]:
        return self._kernels

    @property
    def reports(self) -> bool:
        """Whether it can fail."""
        return self._reports

    @property
    def scalars(self) -> list[tuple[int, DType]]:
        return self._scalars


def _bytes_of(number: Input, dtype: DType) -> bytes:
    if not isinstance(number, (int, float, np.generic)):
        raise TypeError(f"a scalar input must be a Python number, given {type(number).__name__}")
    return narrowed(number, dtype).tobytes()


class Run:
    """One call: where everything lies, and what keeps it there until all is enqueued."""

    def __init__(
        self,
        executable: CudaExecutable,
        stream: Stream,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None,
        graph: GraphOnStream | None = None,
    ) -> None:
        program = executable.code.program
        self.executable = executable
        self.device = executable.device
        self.stream = stream
        self.program: CudaProgram = program
        self.numbers: DeviceStorage | None = None
        self.graph = graph
        if executable.scalars:
            memory = None if graph is None else graph.numbers
            self.numbers, given = executable.numbers(inputs, stream, memory)
        else:
            given = [item.address for item in inputs]  # type: ignore[union-attr]
        made = [item.address for item in outputs]
        arena = self.device.arena(stream, program.arena_bytes) if program.arena_bytes else 0
        self.sites = sites
        self.status: DeviceStorage | None = None
        self.lines: list[Location | None] = []
        if executable.reports:
            self.status = DeviceStorage.on(self.device, 8 * STATUS_WORDS, stream, "status")
            self.lines = [
                site_of(sites, f.node) if sites is not None and f.node >= 0 else None
                for f in executable.code.failures
            ]
        self._written = self.status if graph is None else graph.status
        status = 0 if self._written is None else self._written.address
        self.roots = (*given, *made, arena, status)  # as in `braze.runtime.cuda.graph_nodes`

    @cached_property
    def base(self) -> Base:
        """Where the program's buffers lie, by their names."""
        addresses = {
            name: self.roots[root_of(self.program, p)] + (p.offset if p.kind == "arena" else 0)
            for name, p in self.program.placements.items()
        }
        return addresses.__getitem__

    @cached_property
    def collectives(self) -> Collectives:
        """Those that have been begun."""
        return Collectives(self.program, self.device, self.stream)

    def clear_status(self) -> None:
        """Enqueue what comes before the steps: no check has failed yet."""
        if self._written is not None:
            stream = self.stream.handle
            driver().memset_d8_async(self._written.address, 0, 8 * STATUS_WORDS, stream)

    def keep_status(self) -> None:
        """Enqueue what comes behind the steps: the next run may write to the status block."""
        if self.status is not None and self._written is not self.status:
            own, written = self.status.address, self.roots[-1]
            driver().memcpy_dtod_async(own, written, 8 * STATUS_WORDS, stream=self.stream.handle)

    def steps(self, steps: Sequence[Any], base: Base) -> None:
        """Enqueue steps, whose buffers are where `base` says."""
        kernels, stream = self.executable.kernels, self.stream.handle
        for step in steps:
            if isinstance(step, Launch):
                kernel = kernels[id(step)]
                arguments = [self._argument(a, base) for a in kernel.arguments]
                kernel.call(
                    kernel.grid, kernel.block, stream, *arguments, shared_size=kernel.shared
                )
            elif isinstance(step, Fill):
                address = base(step.name) + step.offset
                if step.nbytes:
                    driver().memset_d8_async(address, step.value, step.nbytes, stream)
            elif isinstance(step, Repeat):
                for turn in range(step.times):
                    self._turn(step, turn, base)
            elif isinstance(step, CollectiveStep):
                self.collectives.enqueue(step, base)
            else:
                self._call_host(step, base)

    def _turn(self, step: Repeat, turn: int, base: Base) -> None:
        inner = {}
        for where in step.places:
            at = where.at(turn)
            inner[where.name] = base(at.name) + at.offset
        self.steps(step.steps, inner.__getitem__)

    def _argument(self, argument: Any, base: Base) -> int:
        if isinstance(argument, BufferArgument):
            return base(argument.name) + argument.offset
        if argument == "status":
            return self.roots[-1]
        return int(argument)

    # The host -------------------------------------------------------------------------------------

    def _call_host(self, step: HostStep, base: Base) -> None:
        """Wait, have NumPy compute, and go on."""
        cuda, stream, call = driver(), self.stream.handle, step.call
        error = self.failure()  # waits
        if error is not None:
            self.status = None  # is reported now
            raise error
        operands = []
        for operand in call.operands:
            assert operand.buffer is not None
            array = np.empty(operand.type.shape, operand.type.dtype.numpy)
            if array.nbytes:
                cuda.memcpy_dtoh_async(array, base(operand.buffer.name), stream=stream)
            operands.append(array)
        self.wait()
        try:
            results = evaluate_call(call, operands)
        except BaseException as failure:
            raise self._host_failure(call, failure) from failure
        for result, target in zip(results, call.results, strict=True):
            if result is not None and result.nbytes:
                assert target.buffer is not None
                source = np.ascontiguousarray(result)
                cuda.memcpy_htod_async(base(target.buffer.name), source, stream=stream)

    def wait(self) -> None:
        """Wait for the stream, whatever programs have to report."""
        if self.stream.handle is None:
            self.device.context.synchronize()
        else:
            self.stream.handle.synchronize()

    def _host_failure(self, call: Any, error: BaseException) -> BaseException:
        location = call.location
        node = self.executable.code.calls[call.number]
        if self.sites is not None and node >= 0:
            location = site_of(self.sites, node) or location
        if isinstance(error, BrazeError):
            return type(error)(f"{error}{place(location)}")
        error.add_note(f"in host call {call.number} of graph @{self.program.name}{place(location)}")
        return error

    def failure(self) -> BaseException | None:
        """What a check found, once the stream is done."""
        if self.status is None:
            return None
        words = np.zeros(STATUS_WORDS, np.int64)
        with self.device.active():
            driver().memcpy_dtoh_async(words, self.status.address, stream=self.stream.handle)
            self.wait()
        code = int(words[FAILED])
        if not code:
            return None
        failures = self.executable.code.failures
        if not 1 <= code <= len(failures):
            return RuntimeError(f"graph @{self.program.name} reported unknown failure {code}")
        site = failures[code - 1]
        error = failed_check(site.message, int(words[VALUE]), site.low, site.high)
        return type(error)(f"{error}{place(self.lines[code - 1] or site.location)}")
