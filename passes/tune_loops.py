"""The loops -> loops passes in their order."""

from __future__ import annotations

from collections.abc import Collection

from braze.ir.loops import Kernel, Loop, Nest
from braze.ir.target import Target
from braze.passes.merge_loops import merge_loops
from braze.passes.parallelise import parallelise
from braze.passes.reuse_rows import reuse_rows
from braze.passes.vectorise import vectorise


def tune_loops(kernel: Kernel, target: Target, taken: Collection[str] = ()) -> Kernel:
    """A kernel ready for a code generator. Contractions and sorts are scheduled there.

    Args:
        taken: results that lie where operands of the kernel lie.
    """
    if not isinstance(kernel, Nest):
        return kernel
    if len(kernel.body) == 1 and isinstance(kernel.body[0], Loop) and kernel.body[0].chunks > 1:
        # Cut up where it was lowered, by somebody who knew that the parts are independent.
        loop = kernel.body[0]
        # Loops side by side have nothing to do with each other's order and vectors.
        each = [Nest(kernel.name, kernel.buffers, [s], kernel.comment) for s in loop.body]
        body = [s for nest in each for s in merge_loops(vectorise(merge_loops(nest), target)).body]
        parts = Loop(loop.var, body, loop.kind, loop.chunks)
        return reuse_rows(Nest(kernel.name, kernel.buffers, [parts], kernel.comment), taken)
    # Merged first, so that the vector loop is as long as addresses allow; again, since it moved
    # inwards.
    return reuse_rows(parallelise(merge_loops(vectorise(merge_loops(kernel), target))), taken)
