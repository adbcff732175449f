"""Programs given as text for any size, made symbolic, and run natively at many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from kernels import assert_close, buffers_of, program_of, sample
from native import GuardedMemory, Native, runnable_targets

from braze.codegen.llvm.symbolic_check import SameCode
from braze.ir.loops import Buffer, Program
from braze.ir.loops_interpreter import run_program
from braze.ir.polynomials import Point, corners
from braze.ir.symint import value_at
from braze.passes.symbolic import SymbolicProgram, symbolic_program
from braze.runtime.symbolic_code import are_within

TextAt = Callable[..., str] | Callable[..., Program]


def programs_of(text_at: TextAt) -> Callable[[Point], Program]:
    """What gives the program for sizes, of a kernel's text or the program itself."""

    def program_at(point: Point) -> Program:
        made = text_at(*point)
        return program_of(made) if isinstance(made, str) else made

    return program_at


def point_of(size: int | Point) -> Point:
    return (size,) if isinstance(size, int) else size


def drawn(
    program: Program, size: Point, reference: Callable[..., np.ndarray] | None
) -> tuple[list[Buffer], list[np.ndarray], list[np.ndarray]]:
    """The outputs of a program, values for its inputs, and what it makes of them; what it leaves
    out are ones."""
    ins, outs = buffers_of(program)
    rng = np.random.default_rng(size)
    arrays = [sample(buffer, rng) for buffer in ins]
    expected = [np.ones(buffer.numel, buffer.dtype.numpy) for buffer in outs]
    if reference is None:
        run_program(program, arrays, expected)
    else:
        expected[0][:] = reference(*arrays).reshape(-1)
    return outs, arrays, expected


def check_symbolic(
    text_at: TextAt,
    sizes: Iterable[int | Point],
    *,
    like: int | Point = 20,
    tolerance: float = 1e-5,
    reference: Callable[..., np.ndarray] | None = None,
) -> SymbolicProgram:
    """Compare one code for all sizes with the loops interpreter, for every target that can run.

    Args:
        text_at: the kernel's text (or the program) for a size, or for several.
        like: the size, or sizes, that the code is planned for.
        reference: what the only output is, of the inputs' arrays; by default what the interpreter
            makes of them.
    """

    program_at = programs_of(text_at)
    points = list(map(point_of, sizes))
    planned = point_of(like)
    found = symbolic_program(program_at, planned, points, range(len(planned)))
    for target in runnable_targets():
        check = SameCode(found.program, target)
        for corner in corners(found.lowest, found.highest):
            check.require(found.at(corner))
        native = Native(found.program, target)
        for size in points:
            assert are_within(size, found.lowest, found.highest), found
            outs, arrays, expected = drawn(program_at(size), size, reference)
            before = [np.ones_like(array) for array in expected]
            offsets, arena = found.layout.offsets(size)
            native.words = [*size, *offsets]
            native.arena = GuardedMemory(arena)
            scratch = value_at(native.scratch_bytes, native.words)
            native.scratch = GuardedMemory(scratch * native.threads)
            for buffer, result, right in zip(
                outs, native.run(arrays, before), expected, strict=True
            ):
                what = f"{buffer.name} at {size} on {target.name}"
                assert_close(result, right, tolerance, what)
    return found
