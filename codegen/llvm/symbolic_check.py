"""Whether the code of a symbolic program depends on its sample anywhere.

In: the program with numbers for several samples.  Out: a `CodegenError` where the code for them
differs: then something was decided by the sample's number that is another for other sizes.

Code generation compares and rounds numbers all over; each place may be right for a sample only, for
instance because it leaves out what is never needed there. Generating the code of the smallest and
of the largest size, too, shows that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from braze.codegen.llvm.contraction_shape import contraction_shape
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.program import emit_kernel
from braze.ir.loops import Contraction, Kernel, Nest, Program
from braze.ir.target import Target


def require_same_code(program: Program, others: Sequence[Program], target: Target) -> None:
    """Raise CodegenError for the first kernel that is not the same code in all programs."""
    for kernels in zip(*(p.kernels() for p in (program, *others)), strict=True):
        texts = [
            _code(kernel, within, target)
            for kernel, within in zip(kernels, (program, *others), strict=True)
        ]
        if len(set(texts)) > 1:
            raise CodegenError(f"[{kernels[0].name}] its code would be another for other sizes")


def _code(kernel: Kernel, program: Program, target: Target) -> str:
    if isinstance(kernel, Nest):
        return emit_kernel(kernel, program, target, 0).ir_text
    if isinstance(kernel, Contraction):
        # Tiles are chosen for the sample; what must be the same is the form of the loops.
        return re.sub(r"\d+", "#", str(contraction_shape(kernel)))
    return ""
