"""Run a loop program natively: generate, compile, load, call, with guard bytes around every buffer.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from braze.codegen.llvm.compile import compile_object
from braze.codegen.llvm.program import generate
from braze.ir.dtypes import DType
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Load, Loop, Nest, Placement, Program, Statement, Store
from braze.ir.op import Op
from braze.ir.target import HOST, STATUS_WORDS, TARGET_NAMES, Target, can_run, named_target
from braze.runtime.artifact import CallSite
from braze.runtime.cpu import host_target
from braze.runtime.host_calls import HostCalls
from braze.runtime.object_loader import LoadedObject
from braze.runtime.pool import get_pool

GUARD = 256
GUARD_BYTE = 0xA5


def defined(text: str) -> list[str]:
    """The functions of a module's text that are not private to it, in its order."""
    return re.findall(r"^define (?!internal)\S+ @(\w+)", text, re.M)


class GuardedMemory:
    """`nbytes` bytes at a 64-byte boundary, between guards that must keep their value."""

    def __init__(self, nbytes: int) -> None:
        self._memory = np.full(nbytes + 2 * GUARD + 64, GUARD_BYTE, np.uint8)
        start = GUARD + (-(self._memory.ctypes.data + GUARD)) % 64
        self.bytes = self._memory[start : start + nbytes]
        self._before = self._memory[:start]
        self._after = self._memory[start + nbytes :]

    @property
    def address(self) -> int:
        return int(self._memory.ctypes.data + self._before.size)

    def check(self, what: str) -> None:
        assert (self._before == GUARD_BYTE).all(), f"{what}: written before its beginning"
        assert (self._after == GUARD_BYTE).all(), f"{what}: written beyond its end"


class Native:
    """A compiled program. `call` may be repeated; memory is kept between calls.

    status: the words of the status block after a call.
    words: of a symbolic program; set them, and an arena and scratch of their size, before a call.
    """

    def __init__(self, program: Program, target: Target | None = None, threads: int = 2) -> None:
        self.program = program
        self.target = target or host_target()
        generated = generate(program, self.target)
        with ThreadPoolExecutor(2) as workers:
            objects = list(
                workers.map(lambda m: compile_object(m[1], self.target), generated.modules)
            )
        self._loaded = LoadedObject(objects)
        signature = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self._main = signature(self._loaded.address(generated.main))
        self._pointers = generated.pointers
        self.words = [0] * program.words
        self.threads = threads
        self.scratch_bytes = generated.scratch_bytes
        self._pool = get_pool(threads)
        self.arena = GuardedMemory(program.arena_bytes)
        self.scratch = GuardedMemory(generated.scratch_bytes * threads)
        self.status = np.zeros(STATUS_WORDS, np.int64)
        self.host_calls = HostCalls([CallSite(str(call)) for call in program.host_calls()])

    def call(self, addresses: Sequence[int]) -> int:
        """Run on the given input and output addresses; returns the status code."""
        assert len(addresses) == self._pointers - 3 - len(self.words)
        self.status[:] = 0
        if self.host_calls.calls:
            self.status[HOST] = self.host_calls.address
        array = (ctypes.c_void_p * self._pointers)(
            *addresses,
            self.arena.address,
            self.scratch.address,
            self.status.ctypes.data,
            *self.words,
        )
        code = self._main(ctypes.addressof(array), self._pool.address)
        self.arena.check("arena")
        self.scratch.check("scratch")
        assert code == self.status[0]
        return int(code)

    def run(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        aliases: dict[int, int] | None = None,
    ) -> list[np.ndarray]:
        """Copies the arrays into guarded memory, runs, and returns new output arrays.

        Args:
            outputs: arrays that give the outputs' dtypes, shapes and initial contents.
            aliases: output number -> number of the input whose memory it shares.
        """
        blocks: list[GuardedMemory] = []
        for array in inputs:
            block = GuardedMemory(array.nbytes)
            block.bytes[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            blocks.append(block)
        for number, array in enumerate(outputs):
            if aliases and number in aliases:
                blocks.append(blocks[aliases[number]])
                continue
            block = GuardedMemory(array.nbytes)
            block.bytes[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            blocks.append(block)
        self.call([block.address for block in blocks])
        for number, block in enumerate(blocks):
            block.check(f"buffer {number}")
        return [
            block.bytes.view(array.dtype).reshape(array.shape).copy()
            for block, array in zip(blocks[len(inputs) :], outputs, strict=True)
        ]


def run_native(
    program: Program,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    *,
    target: Target | None = None,
    aliases: dict[int, int] | None = None,
) -> list[np.ndarray]:
    """Compile and run a program once. `outputs` gives dtypes, shapes and initial contents."""
    return Native(program, target).run(inputs, outputs, aliases)


@functools.cache
def runnable_targets() -> tuple[Target, ...]:
    """The named targets that this machine can run."""
    named = [named_target(name) for name in TARGET_NAMES]
    return tuple(target for target in named if can_run(target, host_target()) is None)


def elementwise(op: Op, operands: Sequence[DType], result: DType, numel: int) -> Program:
    """out[i] = op(x0[i], x1[i], ...) for i < numel, as a program of one vector loop."""
    inputs = tuple(Buffer(f"x{n}", dtype, numel, "in") for n, dtype in enumerate(operands))
    out = Buffer("out", result, numel, "out")
    var = LoopVar("i", numel)
    index = Index.of(var)
    value = Apply(op, tuple(Load(buffer, index) for buffer in inputs), result)
    body: list[Statement] = [Loop(var, [Store(out, index, value)], "vector")]
    placements = {b.name: Placement("input", n) for n, b in enumerate(inputs)}
    placements["out"] = Placement("output", 0)
    kernel = Nest(f"map_{op.name}", (*inputs, out), body)
    return Program("elementwise", len(inputs), 1, [[kernel]], placements, 0)
