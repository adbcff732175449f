"""Kernels given as text for any size, made symbolic, and run on a CUDA device at many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cuda_programs as cuda
import numpy as np
from kernels import assert_close, buffers_of, program_of, sample

from braze.codegen.cuda.symbolic_check import SameCode
from braze.ir.cuda_program import CudaProgram
from braze.ir.loops import Program
from braze.ir.loops_interpreter import run_program
from braze.ir.polynomials import Point
from braze.passes.symbolic import symbolic_program
from braze.runtime.symbolic_code import are_within


def check_symbolic(
    text_at: Callable[..., str] | Callable[..., Program],
    sizes: Iterable[int | Point],
    *,
    like: int | Point = 20,
    tolerance: float = 1e-5,
    reference: Callable[..., np.ndarray] | None = None,
) -> CudaProgram:
    """Compare one code for all sizes with the loops interpreter.

    Args:
        text_at: the kernel's text (or the program) for a size, or for several.
        like: the size, or sizes, that the code is planned for.
        reference: what the only output is, of the inputs' arrays; by default what the interpreter
            makes of them.
    """

    def program_at(point: Point) -> Program:
        made = text_at(*point)
        return program_of(made) if isinstance(made, str) else made

    points = [(size,) if isinstance(size, int) else size for size in sizes]
    planned = (like,) if isinstance(like, int) else like
    checks: list[SameCode] = []

    def checking(program: Program) -> Callable[[Program], None]:
        checks.append(SameCode(program, cuda.TARGET))
        return checks[-1].require

    found = symbolic_program(program_at, planned, points, range(len(planned)), checking)
    check = checks[-1]
    module = cuda.Device(check.made)
    for size in points:
        assert are_within(size, found.lowest, found.highest), found
        program = program_at(size)
        ins, outs = buffers_of(program)
        rng = np.random.default_rng(size)
        arrays = [sample(buffer, rng) for buffer in ins]
        expected = [np.ones(buffer.numel, buffer.dtype.numpy) for buffer in outs]
        if reference is None:
            run_program(program, arrays, expected)
        else:
            expected[0][:] = reference(*arrays).reshape(-1)
        module.program = check.made.at(found.layout.words(size))
        shapes = [((buffer.numel,), buffer.dtype.numpy) for buffer in outs]
        results = module.run(arrays, shapes)
        for buffer, result, right in zip(outs, results, expected, strict=True):
            assert_close(result, right, tolerance, f"{buffer.name} at {size}")
    return check.made
