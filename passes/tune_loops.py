"""The loops -> loops passes in their order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from braze.ir.loops import Kernel, Loop, Nest
from braze.ir.target import Target
from braze.passes.block_rows import block_rows
from braze.passes.block_windows import block_windows
from braze.passes.choices import Choices
from braze.passes.merge_loops import merge_loops
from braze.passes.parallelise import parallelise
from braze.passes.reuse_rows import reuse_rows
from braze.passes.vectorise import vectorise

Record = Callable[[str, Kernel], None]
LoopPass = Callable[[Nest], Nest]


def tune_loops(
    kernel: Kernel,
    target: Target,
    taken: Collection[str] = (),
    record: Record | None = None,
    choices: Choices | None = None,
) -> Kernel:
    """A kernel ready for a code generator. Contractions and sorts are scheduled there, for a GPU
    whatever decides which thread does what: loops are only merged.

    Args:
        taken: results that lie where operands of the kernel lie.
        record: called as ``record(pass name, kernel)`` after each pass.
        choices: takes in what is chosen by sizes, or has what was chosen for others.
    """
    if not isinstance(kernel, Nest):
        return kernel
    for name, loop_pass in _passes(kernel, target, taken, choices):
        kernel = loop_pass(kernel)
        if record is not None:
            record(name, kernel)
    return kernel


def _passes(
    kernel: Nest, target: Target, taken: Collection[str], choices: Choices | None
) -> list[tuple[str, LoopPass]]:
    if target.is_gpu:
        return [("merge_loops", merge_loops)]
    last = ("reuse_rows", partial(reuse_rows, taken=taken))
    if len(kernel.body) == 1 and isinstance(kernel.body[0], Loop) and kernel.body[0].chunks > 1:
        # Cut up where it was lowered, by somebody who knew that the parts are independent.
        return [("vectorise", partial(_vectorise_inside, target=target)), last]
    # Merged first, so that the vector loop is as long as addresses allow; again, since it moved
    # inwards.
    return [
        ("merge_loops", merge_loops),
        ("vectorise", partial(vectorise, target=target)),
        ("block_windows", block_windows),
        ("merge_loops_again", merge_loops),
        ("block_rows", block_rows),
        ("parallelise", partial(parallelise, choices=choices)),
        last,
    ]


def _vectorise_inside(kernel: Nest, target: Target) -> Nest:
    """The statements in a kernel's outermost loop merged and vectorised, each by itself: loops side
    by side have nothing to do with each other's order and vectors."""
    (loop,) = kernel.body
    assert isinstance(loop, Loop)
    each = [Nest(kernel.name, kernel.buffers, [s], kernel.comment) for s in loop.body]
    body = [s for nest in each for s in merge_loops(vectorise(merge_loops(nest), target)).body]
    parts = Loop(loop.var, body, loop.kind, loop.chunks)
    return Nest(kernel.name, kernel.buffers, [parts], kernel.comment)
