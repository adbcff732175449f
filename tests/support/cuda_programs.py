"""Run CUDA programs through PyCUDA, on the emulated driver where there is no GPU.

Imports `cuda_device` first, so a test file that imports this one is skipped where neither works.
The machine code is the device's own, whatever GPU the CUDA C was generated for.
Every buffer has device memory of its own size, between guards: the emulated driver finds what
touches anything else.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cuda_device  # (comes before PyCUDA)
import numpy as np
import pycuda.driver as cuda
import pytest
from pycuda.compiler import SourceModule

from braze.codegen.cuda.generate import generate
from braze.ir.cuda_program import (
    ALIGNMENT,
    SHARED_BYTES,
    BufferArgument,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Repeat,
    Step,
)
from braze.ir.graph import Graph
from braze.ir.host import evaluate_call
from braze.ir.interpreter import interpret
from braze.ir.loops import Program
from braze.ir.target import STATUS_WORDS, Target, named_target
from braze.passes import compile_graph
from braze.runtime.cuda.devices import target_of


@functools.cache
def own_target() -> Target:
    """The first device's."""
    cuda.init()
    return target_of(cuda.Device(0).compute_capability())


TARGET = named_target("sm_80") if cuda_device.EMULATED else own_target()
Array = np.ndarray[Any, np.dtype[Any]]


@functools.cache
def context() -> Any:
    """The first device's context, current from now on."""
    cuda.init()
    made = cuda.Device(0).retain_primary_context()
    made.push()
    atexit.register(cuda.Context.pop)
    return made


class Memory:
    """Device memory of an array: its bytes rounded up to a multiple of `ALIGNMENT`."""

    def __init__(self, array: Array | None, nbytes: int) -> None:
        size = max(-(-nbytes // ALIGNMENT) * ALIGNMENT, ALIGNMENT)
        self.nbytes = nbytes
        self.allocation = cuda.mem_alloc(size)
        self.address = int(self.allocation)
        if array is not None and nbytes:
            cuda.memcpy_htod(self.address, np.ascontiguousarray(array).view(np.uint8).reshape(-1))

    def read(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        raw = np.empty(self.nbytes, np.uint8)
        if self.nbytes:
            cuda.memcpy_dtoh(raw, self.address)
        return raw.view(dtype).reshape(shape)


class Device:
    """A CUDA program, compiled and ready to run."""

    def __init__(self, program: CudaProgram) -> None:
        context()
        self.program = program
        self.status = np.zeros(STATUS_WORDS, np.int64)
        self._functions: dict[str, Any] = {}
        if program.source:
            own = own_target()
            if program.target.capability > own.capability and not cuda_device.EMULATED:
                pytest.skip(f"code generated for {program.target.cpu}, this GPU is {own.cpu}")
            module = SourceModule(
                program.source, no_extern_c=True, arch=own.cpu, options=["-std=c++17"]
            )
            for launch in program.launches():
                self._functions[launch.kernel] = module.get_function(launch.kernel)

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
        aliases: Mapping[int, int] | None = None,
    ) -> list[Array]:
        """What the program makes of some inputs.

        Args:
            outputs: their shapes and dtypes.
            aliases: output -> the input whose memory it has.
        """
        memories = [Memory(array, array.nbytes) for array in inputs]
        made = []
        for number, (shape, dtype) in enumerate(outputs):
            if aliases and number in aliases:
                made.append(memories[aliases[number]])
            else:
                made.append(Memory(None, int(np.prod(shape)) * dtype.itemsize))
        arena = Memory(None, self.program.arena_bytes)
        status = Memory(np.zeros(STATUS_WORDS, np.int64), 8 * STATUS_WORDS)

        def address(name: str) -> int:
            place = self.program.placements[name]
            if place.kind == "arena":
                return arena.address + place.offset
            return (memories if place.kind == "input" else made)[place.slot].address

        self._run(self.program.steps, address, status)
        cuda.Context.synchronize()
        self.status = status.read((STATUS_WORDS,), np.dtype(np.int64))
        return [m.read(s, d) for m, (s, d) in zip(made, outputs, strict=True)]

    def _run(self, steps: Sequence[Step], address: Callable[[str], int], status: Memory) -> None:
        for step in steps:
            if isinstance(step, Launch):
                self._launch(step, address, status)
            elif isinstance(step, Fill):
                cuda.memset_d8(address(step.name) + step.offset, step.value, step.nbytes)
            elif isinstance(step, HostStep):
                _call(step, address)
            else:
                assert isinstance(step, Repeat)
                for turn in range(step.times):
                    places = {place.name: place.at(turn) for place in step.places}
                    inner = functools.partial(_within, places, address)
                    self._run(step.steps, inner, status)

    def _launch(self, launch: Launch, address: Callable[[str], int], status: Memory) -> None:
        arguments: list[Any] = []
        for argument in launch.arguments:
            if isinstance(argument, BufferArgument):
                arguments.append(np.uint64(address(argument.name) + argument.offset))
            elif argument == "status":
                arguments.append(np.uint64(status.address))
            else:
                arguments.append(np.int64(argument))
        function = self._functions[launch.kernel]
        if launch.shared_bytes > SHARED_BYTES:
            limit = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(limit, launch.shared_bytes)
        function(*arguments, grid=launch.grid, block=launch.block, shared=launch.shared_bytes)


def _within(places: Mapping[str, BufferArgument], address: Callable[[str], int], name: str) -> int:
    return address(places[name].name) + places[name].offset


def _call(step: HostStep, address: Callable[[str], int]) -> None:
    operands = []
    for operand in step.call.operands:
        assert operand.buffer is not None
        raw = np.empty(operand.buffer.numel, operand.buffer.dtype.numpy)
        cuda.memcpy_dtoh(raw, address(operand.buffer.name))
        operands.append(raw)
    for array, result in zip(evaluate_call(step.call, operands), step.call.results, strict=True):
        if array is not None and result.buffer is not None:
            cuda.memcpy_htod(address(result.buffer.name), np.ascontiguousarray(array))


def run_cuda(
    program: Program,
    inputs: Sequence[Array],
    outputs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
    target: Target = TARGET,
) -> list[Array]:
    """Generate, compile and run a program of the loop IR."""
    return Device(generate(program, target)).run(inputs, outputs)


def run_graph(graph: Graph, inputs: Sequence[Any], target: Target = TARGET) -> list[Array]:
    """What a graph's compiled form makes of inputs, in the interpreter's form: complex numbers are
    as they were, and an output that is an input is that input."""
    program, _ = compile_graph(graph, target)
    device = Device(generate(program, target))
    shapes = []
    for value in graph.outputs:
        real = value.dtype.to_real()
        parts = (2,) if value.dtype.is_complex else ()
        shapes.append(((*value.shape, *parts), real.numpy))
    arrays = [_as_parts(np.asarray(x)) for x in inputs]
    found = device.run(arrays, shapes, graph.aliases)
    results = []
    for number, (value, array) in enumerate(zip(graph.outputs, found, strict=True)):
        if value in graph.inputs and number not in graph.aliases:
            results.append(np.asarray(inputs[graph.inputs.index(value)]))
        elif value.dtype.is_complex:
            results.append(array.view(value.dtype.numpy)[..., 0])
        else:
            results.append(array)
    return results


def _as_parts(array: Array) -> Array:
    if array.dtype.kind != "c":
        return np.ascontiguousarray(array).reshape(array.shape)
    return np.ascontiguousarray(array)[..., None].view(array.real.dtype)


def check_graph(
    graph: Graph, inputs: Sequence[Any], tolerance: float = 1e-5, target: Target = TARGET
) -> None:
    """Compare a graph on the device with the interpreter."""
    wanted = interpret(graph, inputs)
    for number, (x, y) in enumerate(zip(run_graph(graph, inputs, target), wanted, strict=True)):
        y = np.asarray(y)
        if y.dtype.kind in "iub":
            np.testing.assert_array_equal(x, y, err_msg=f"output {number}")
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        scale = max(1.0, np.abs(y[np.isfinite(y)]).max(initial=0.0))
        np.testing.assert_allclose(
            x, y, rtol=tolerance, atol=tolerance * scale, err_msg=f"output {number}"
        )
