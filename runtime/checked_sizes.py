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
from braze.ir.target import Target
from braze.passes.symbolic import sample_for
from braze.passes.symbolic_fit import NotSymbolic
from braze.runtime.cache import pool_object
from braze.runtime.checking import CheckedExecutable, checked_executable
from braze.runtime.compiler import compile_watched_symbolic
from braze.runtime.config import config
from braze.runtime.families import Fit, Text, families, fitted
from braze.runtime.pool import get_pool
from braze.runtime.provenance import Provenance


class CheckedSizes:
    """Watched code for many sizes.

    Attributes:
        code: as an unchecked run has it, but for `main`.

    Raises:
        NotSymbolic, CodegenError: there is no such code, or its graph is not known for all sizes.
    """

    def __init__(self, fit: Fit, size: int, target: Target) -> None:
        self.code, self._program, scheduled_of = compile_watched_symbolic(fit, size, target)
        get_pool(compile=pool_object)
        sample = sample_for(size)
        lowest, highest = self.code.lowest, self.code.highest
        between = (sample_for((lowest + sample) // 2), sample_for((sample + highest) // 2))
        sizes = sorted({lowest, sample, highest, *between})
        texts = [Text.of(scheduled_of(size_then)) for size_then in sizes]
        found = fitted(texts) if len(texts) >= 3 else None
        if found is None or [text.numbers[found.unit] for text in texts] != sizes:
            raise NotSymbolic("the graph of its kernels is no function of the size")
        self._scheduled = found

    def executable(self, graph: Graph, size: int) -> CheckedExecutable:
        """The code for a graph of the family, of a size that it serves."""
        return CheckedExecutable(
            self.code.instance(graph, size),
            self._program.at(size),
            parse_graph(self._scheduled.text_at(size)),
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
    for sizes in family.checked:
        size = sizes.code.fit.size_of(Text.of(graph))
        if size is not None and sizes.code.serves(size):
            return sizes.executable(graph, size)
    return checked_executable(graph, target)
