"""Programs given as text for any size, made symbolic, and run natively at many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from kernels import assert_close, buffers_of, program_of, sample
from native import GuardedMemory, Native, runnable_targets

from braze.codegen.llvm.symbolic_check import require_same_code
from braze.ir.loops import Program
from braze.ir.loops_interpreter import run_program
from braze.ir.symint import value_at
from braze.passes.symbolic import SymbolicProgram, symbolic_program


def check_symbolic(
    text_at: Callable[[int], str] | Callable[[int], Program],
    sizes: Iterable[int],
    *,
    like: int = 20,
    tolerance: float = 1e-5,
    reference: Callable[..., np.ndarray] | None = None,
) -> SymbolicProgram:
    """Compare one code for all sizes with the loops interpreter, for every target that can run.

    Args:
        text_at: the kernel's text (or the program) for a size.
        like: the size that the code is planned for.
        reference: what the only output is, of the inputs' arrays; by default what the interpreter
            makes of them.
    """

    def program_at(size: int) -> Program:
        made = text_at(size)
        return program_of(made) if isinstance(made, str) else made

    sizes = list(sizes)
    found = symbolic_program(program_at, like, sizes)
    assert found.lowest <= min(sizes) and max(sizes) <= found.highest, found
    for target in runnable_targets():
        require_same_code(found.program, [found.at(min(sizes)), found.at(max(sizes))], target)
        native = Native(found.program, target)
        for size in sizes:
            program = program_at(size)
            ins, outs = buffers_of(program)
            rng = np.random.default_rng(size)
            arrays = [sample(buffer, rng) for buffer in ins]
            expected = [np.ones(buffer.numel, buffer.dtype.numpy) for buffer in outs]
            before = [array.copy() for array in expected]
            if reference is None:
                run_program(program, arrays, expected)
            else:
                expected[0][:] = reference(*arrays).reshape(-1)
            offsets, arena = found.layout.offsets([size])
            native.words = [size, *offsets]
            native.arena = GuardedMemory(arena)
            scratch = value_at(native.scratch_bytes, native.words)
            native.scratch = GuardedMemory(scratch * native.threads)
            for buffer, result, right in zip(
                outs, native.run(arrays, before), expected, strict=True
            ):
                what = f"{buffer.name} at {size} on {target.name}"
                assert_close(result, right, tolerance, what)
    return found
