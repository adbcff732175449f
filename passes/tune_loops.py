"""The loops -> loops passes in their order."""

from __future__ import annotations

from braze.ir.loops import Kernel, Nest
from braze.ir.target import Target
from braze.passes.merge_loops import merge_loops
from braze.passes.parallelise import parallelise
from braze.passes.vectorise import vectorise


def tune_loops(kernel: Kernel, target: Target) -> Kernel:
    """A kernel ready for a code generator. Contractions and sorts are scheduled there."""
    if not isinstance(kernel, Nest):
        return kernel
    # Merged first, so that the vector loop is as long as addresses allow; again, since it moved
    # inwards.
    return parallelise(merge_loops(vectorise(merge_loops(kernel), target)))
