"""Who looks on while graphs run: a profiler, or nobody.

In: `observing.observer`, set and taken off by the front end.  Out: calls of its methods. With
nobody looking, a run of a graph costs one look at the attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from braze.ir.graph import Graph, Node
    from braze.runtime.executable import Input, Sites
    from braze.runtime.timing import KernelTime

Work = Literal["compile", "load", "native", "interpret"]


class Observer(Protocol):
    """What is told about each graph. Times are those of `time.perf_counter`.

    Attributes:
        per_operation: graphs are to be interpreted, so that each operation can be timed.
        per_kernel: compiled graphs are to run code that times each kernel.
        wants_inputs: `given` is to be called.
    """

    per_operation: bool
    per_kernel: bool
    wants_inputs: bool

    def placed(self, graph: Graph, device: str) -> None:
        """A graph is about to be compiled for, or run on, this GPU, called "cuda:N"; what follows
        is told of the graph as of others. Its kernels run one after the other."""

    def given(self, graph: Graph, inputs: Sequence[Input]) -> None:
        """A graph is about to run on these inputs, which are where it runs."""

    def worked(
        self, work: Work, graph: Graph, sites: Sites | None, start: float, end: float
    ) -> None:
        """A graph was compiled, loaded from the disk, or run."""

    def operated(
        self, node: Node, position: int, sites: Sites | None, start: float, end: float
    ) -> None:
        """An operation of a graph was interpreted."""

    def timed(self, graph: Graph, sites: Sites | None, times: Sequence[KernelTime]) -> None:
        """The kernels of a graph have run; `worked` is called next."""

    def communicated(self, what: str, start: float, end: float) -> None:
        """A collective or message is complete. Called by whatever thread sees it."""


class Observing:
    """Holds the observer of all threads."""

    __slots__ = ("observer",)

    def __init__(self) -> None:
        self.observer: Observer | None = None


observing = Observing()
