"""Kernels given as text for any size, made symbolic, and run on a CUDA device at many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cuda_programs as cuda
import numpy as np
from kernels import assert_close
from symbolic_kernels import TextAt, drawn, point_of, programs_of

from braze.codegen.cuda.symbolic_check import SameCode
from braze.ir.cuda_program import CudaProgram
from braze.ir.loops import Program
from braze.ir.polynomials import Point
from braze.passes.symbolic import symbolic_program
from braze.runtime.symbolic_code import are_within


def check_symbolic(
    text_at: TextAt,
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

    program_at = programs_of(text_at)
    points = list(map(point_of, sizes))
    planned = point_of(like)
    checks: list[SameCode] = []

    def checking(program: Program) -> Callable[[Program], None]:
        checks.append(SameCode(program, cuda.TARGET))
        return checks[-1].require

    found = symbolic_program(program_at, planned, points, range(len(planned)), checking)
    check = checks[-1]
    module = cuda.Device(check.made)
    for size in points:
        assert are_within(size, found.lowest, found.highest), found
        outs, arrays, expected = drawn(program_at(size), size, reference)
        module.program = check.made.at(found.layout.words(size))
        shapes = [((buffer.numel,), buffer.dtype.numpy) for buffer in outs]
        results = module.run(arrays, shapes)
        for buffer, result, right in zip(outs, results, expected, strict=True):
            assert_close(result, right, tolerance, f"{buffer.name} at {size}")
    return check.made
