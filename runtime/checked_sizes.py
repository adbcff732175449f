"""Code for many sizes of one dimension, whose runs are checked kernel by kernel.

In: a graph.  Out: its `CheckedExecutable`: of code that serves many sizes where an unchecked run
would have that, else of code for its own.

To know what a kernel of such code should compute for a size, the scheduled graph is needed for that
size as the sample's decisions make it. Passes would decide otherwise for some sizes, so its text is
fitted to those of sizes for which they do not, as the loops' is (`braze.passes.symbolic`).
"""

from __future__ import annotations

from braze.codegen.llvm.kernel import CodegenError
from braze.ir.graph import Graph
from braze.ir.parser import parse_graph
from braze.ir.polynomials import Interpolation, Point
from braze.ir.target import Target
from braze.passes.symbolic_fit import NotSymbolic
from braze.passes.symbolic_sizes import sample_for
from braze.runtime.checking import CheckedExecutable, checked_executable
from braze.runtime.compiler import compile_watched_symbolic
from braze.runtime.config import config
from braze.runtime.families import families
from braze.runtime.kept_objects import pool_object
from braze.runtime.pool import get_pool
from braze.runtime.provenance import Provenance
from braze.runtime.sized_texts import Fit, Text, fitted_at


class CheckedSizes:
    """Watched code for many sizes.

    Attributes:
        code: as an unchecked run has it, but for `main`.

    Raises:
        NotSymbolic, CodegenError: there is no such code, or its graph is not known for all sizes.
    """

    def __init__(self, fit: Fit, sizes: Point, target: Target) -> None:
        self.code, self._program, scheduled_of = compile_watched_symbolic(fit, sizes, target)
        get_pool(compile=pool_object)
        ((lowest,), (highest,)) = self.code.lowest, self.code.highest
        (sample,) = sample_for(sizes, fit.free)
        between = ((lowest + sample) // 2, (sample + highest) // 2)
        several = sorted(
            {(lowest,), (sample,), (highest,), *(sample_for((n,), (0,)) for n in between)}
        )
        texts = {sizes_then: Text.of(scheduled_of(sizes_then)) for sizes_then in several}
        found = None
        if len(texts) >= 3:
            found = fitted_at(Interpolation([[size for (size,) in several[:3]]]), texts)
        if found is None:
            raise NotSymbolic("the graph of its kernels is no function of the size")
        self._scheduled = found

    def executable(self, graph: Graph, sizes: Point) -> CheckedExecutable:
        """The code for a graph of the family, of a size that it serves."""
        return CheckedExecutable(
            self.code.instance(graph, sizes),
            self._program.at(sizes),
            parse_graph(self._scheduled.text_at(sizes)),
            graph,
            Provenance(graph),
        )


def checked_for(graph: Graph, target: Target) -> CheckedExecutable:
    """Compile a graph, or find code for other sizes that serves it, to be checked when it runs.

    Raises: CompileError and what the passes raise.
    """
    if not config.dynamic_shapes:
        return checked_executable(graph, target)
    family = families.of(graph, target)
    joined = family.join(graph)
    if joined is not None and not family.checked:
        try:
            family.checked.append(CheckedSizes(*joined, target))
        except (NotSymbolic, CodegenError) as error:
            family.refusal = family.refusal or str(error)
    for checked in family.checked:
        sizes = checked.code.fit.sizes_of(Text.of(graph))
        if sizes is not None and checked.code.serves(sizes):
            return checked.executable(graph, sizes)
    return checked_executable(graph, target)
