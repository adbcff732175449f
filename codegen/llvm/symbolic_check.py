"""Whether the code of a symbolic program depends on its sample anywhere.

In: the program with numbers for several samples.  Out: a `CodegenError` where the code for them
differs: then something was decided by the sample's number that is another for other sizes.

Code generation compares and rounds numbers all over; each place may be right for a sample only, for
instance because it leaves out what is never needed there. Generating the code of the smallest and
of the largest sizes, too, shows that. A kernel without any function of the sizes is the same for
all of them: words tell where its buffers lie, and which of them overlap does not depend on sizes.
"""

from __future__ import annotations

from braze.codegen.llvm.contractions import emit_contraction
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.program import emit_kernel
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_search import AnySchedule, schedule
from braze.codegen.llvm.schedule_symbolic import for_other_sample
from braze.codegen.llvm.schedule_winograd import WinogradSchedule, for_other_images
from braze.codegen.llvm.symbolic import symbolic_scope
from braze.ir.loops import Contraction, Kernel, Nest, Program
from braze.ir.loops_recurrence import Recurrence
from braze.ir.loops_sizes import depends_on_sizes
from braze.ir.target import Target


class SameCode:
    """Compares programs with one of them."""

    def __init__(self, program: Program, target: Target) -> None:
        self._program, self._target = program, target
        self._own: dict[str, str | None] = {}  # None: there is nothing to compare

    def require(self, other: Program) -> None:
        """Raise CodegenError for the first kernel that is not the same code."""
        target = self._target
        for kernel, alike in zip(self._program.kernels(), other.kernels(), strict=True):
            if kernel.name not in self._own:
                is_open = depends_on_sizes(kernel)
                own = _code(kernel, kernel, self._program, target) if is_open else None
                self._own[kernel.name] = own
            if self._own[kernel.name] is None:
                continue
            if _code(alike, kernel, other, target) != self._own[kernel.name]:
                raise CodegenError(f"[{kernel.name}] its code would be another for other sizes")


def _code(kernel: Kernel, first: Kernel, program: Program, target: Target) -> str:
    """A kernel's code, with tiles and chunks as they are chosen for the first one."""
    if isinstance(kernel, Nest):
        return str(emit_kernel(kernel, program, target, 0).module)
    if isinstance(kernel, Contraction) and isinstance(first, Contraction):
        found = schedule(first, target)
        plan = found if kernel is first else _for_other_sample(found, kernel)
        with symbolic_scope():
            code = emit_contraction(kernel, program.placements, program, target, 0, None, plan)
        return str(code.module)
    if isinstance(kernel, Recurrence) and isinstance(first, Recurrence):
        pairs = zip(kernel.program.kernels(), first.program.kernels(), strict=True)
        return "".join(_code(own, before, kernel.program, target) for own, before in pairs)
    return ""


def _for_other_sample(plan: AnySchedule, kernel: Contraction) -> AnySchedule | None:
    """The same decisions, for the numbers of another sample; None: they are found out again."""
    if isinstance(plan, Schedule):
        return for_other_sample(plan, kernel)
    if isinstance(plan, WinogradSchedule):
        return for_other_images(plan, kernel)
    return None
