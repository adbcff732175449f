"""The loops of a family of graphs, for many sizes.

In: the family's `Fit`, and sizes near which decisions are taken.  Out: `SizedLoops`, from which
each code generator makes its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from braze.ir.errors import ParseError, VerifyError
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.parser import parse_graph
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.ir.verifier import verify
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Recorder
from braze.runtime.sized_texts import Fit

if TYPE_CHECKING:
    from braze.ir.loops import Program
    from braze.passes.symbolic import SymbolicProgram


class SizedLoops:
    """What the passes make of a family's graphs.

    Args:
        for_package: there is no other way to serve these sizes.
        change: what is done to the loops of some sizes before they are compared; first those of the
            sizes that decisions are taken for.
        origin: takes the nodes of the graph apart that decisions are taken for.
        record: of the stages; by default as the configuration says.

    Attributes:
        origin: of the graph that decisions are taken for. report: what the passes say of it.
        record: of the stages, if they are wanted.

    Raises:
        NotSymbolic: there are no such graphs.
    """

    def __init__(
        self,
        fit: Fit,
        sizes: Point,
        target: Target,
        *,
        for_package: bool = False,
        change: Callable[[Program], Program] | None = None,
        origin: Callable[[Graph], Provenance] = Provenance,
        record: Recorder | None = None,
    ) -> None:
        from braze.passes import Choices, compile_graph
        from braze.passes.symbolic_sizes import sample_for

        self._fit, self._target, self._change = fit, target, change
        self._sample = sample_for(sizes, fit.free)
        self.origin = origin(self._graph_at(self._sample))
        graph = self.origin.graph
        if record is None and Recorder.is_wanted():
            record = Recorder(graph, fingerprint(graph))
        self.record = record
        # Gradients, which a package has not, need the most of what is left out so.
        own = tuple(self._sample[dim] for dim in fit.free)
        self._choices = Choices(for_any_size=for_package, many_sizes=True, sizes=own)
        of_kernels = None if record is None else record.of_kernels
        sampled, self.report = compile_graph(graph, target, record, self._choices, of_kernels)
        self._sampled = sampled if change is None else change(sampled)
        if self.record is not None and self._sampled is not sampled:
            self.record("pack_weights", self._sampled)

    @property
    def graph(self) -> Graph:
        """The graph that decisions are taken for."""
        return self.origin.graph

    def symbolic(self, checking: Callable[[Program], Callable[[Program], None]]) -> SymbolicProgram:
        """The loops for many sizes.

        Args:
            checking: see `braze.passes.symbolic.symbolic_program`.

        Raises:
            NotSymbolic: there are none. What `checking` raises.
        """
        from braze.passes.symbolic import symbolic_program

        fit = self._fit
        found = symbolic_program(self._program_of, self._sample, fit.seen, fit.free, checking)
        if self.record is not None:
            self.record("symbolic", found.text, "loops")
        return found

    def with_locations(self, program: Program) -> Program:
        """The loops with the user's lines, which they lose where they are read back from text."""
        checks = [
            replace(site, location=own.location)
            for site, own in zip(program.checks, self._sampled.checks, strict=True)
        ]
        return replace(program, checks=checks)

    def scheduled_of(self, sizes: Point) -> Graph:
        """The graph of fusion nodes for some sizes."""
        from braze.passes import Choices, compile_graph

        made: list[Graph] = []

        def keep(stage: str, result: Any) -> None:
            if isinstance(result, Graph):
                made.append(result)

        compile_graph(self._graph_at(sizes), self._target, keep, Choices(self._choices))
        return made[-1]

    def _program_of(self, sizes: Point) -> Program:
        from braze.passes import Choices, compile_graph

        if sizes == self._sample:
            return self._sampled
        choices = Choices(self._choices)
        program = compile_graph(self._graph_at(sizes), self._target, choices=choices)[0]
        return program if self._change is None else self._change(program)

    def _graph_at(self, sizes: Point) -> Graph:
        from braze.passes.symbolic_fit import NotSymbolic, sized

        try:
            graph = parse_graph(self._fit.text_at(sizes))
            verify(graph)
        except (ParseError, VerifyError) as error:  # what differs is no size, or is out of range
            first = str(error).splitlines()[0]
            raise NotSymbolic(f"there is no such graph of size {sized(sizes)}: {first}") from None
        return graph
