"""`braze.inspect`: every stage of the compiler for one function, as text and as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from braze import engine
from braze.bisection import arrays_of
from braze.tracing import Traced, trace

if TYPE_CHECKING:
    from braze.inspector.report import Report


class Inspection:
    """The stages from the captured graph to machine code, in order.

    `str()` gives all of them; ``inspection["fuse"]`` one; iteration gives (name, text) pairs.
    Of a function on a GPU the stages are those of each program that it becomes, called ``"0 cuda:0
    cuda"`` by the program's number, its device and the stage; in the other forms each of these
    programs is a graph of its own, down to its CUDA C.

    `html` writes a page on which everything is linked; it and the other forms have the times of the
    kernels, measured when they are first asked for, on copies of the arguments.
    """

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self._is_placed = engine.is_split(traced.graph)
        # Now, since what was traced may overwrite them when it runs.
        self._inputs = None if self._is_placed else arrays_of(traced.graph, traced.storages)

    @cached_property
    def report(self) -> Report:
        """The data behind the other forms."""
        from braze.inspector.report import GraphReport, Report, measured

        graph = self._traced.graph
        if self._is_placed:
            from braze.inspector.collect import placed_report

            return placed_report(graph, self._traced.storages)
        times = measured(graph, self._traced.storages)
        return Report(graph.name, [GraphReport(graph, times, None, self._inputs)])

    @cached_property
    def _stages(self) -> list[tuple[str, str]]:
        if self._is_placed:
            stages: list[tuple[str, str]] = engine.inspecting().placed_stages(self._traced.graph)
            return stages
        return [(stage.name, stage.text) for stage in self.report.graphs[0].insides.stages]

    def names(self) -> list[str]:
        """The stages' names, in order."""
        return [name for name, _ in self._stages]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._stages)

    def __getitem__(self, name: str) -> str:
        for stage, text in self._stages:
            if stage == name:
                return text
        raise KeyError(f"no stage {name!r}; the stages are {', '.join(self.names())}")

    def __str__(self) -> str:
        return "\n".join(
            f"== {name} {'=' * (96 - len(name))}\n{text}" for name, text in self._stages
        )

    __repr__ = __str__

    def summary(self, rows: int = 12) -> str:
        """The hottest kernels with their times, and how near they are to what the machine can do.

        Args:
            rows: how many kernels.
        """
        return self.report.summary(rows)

    def links(self) -> str:
        """As text: from each line to its operations and their kernels, and from each kernel back
        to operations, primitives, neighbours and the function of its code."""
        return self.report.links()

    def memory(self) -> str:
        """The memory plan as text: each value's place and lifetime, and what is alive when."""
        return self.report.memory()

    def changes(self) -> str:
        """As text: what each pass over the graph, and over the loops of its kernels, changed."""
        return self.report.changes()

    def to_html(self) -> str:
        """A page that needs no network and no other file: the source, the operations, the kernels,
        their loops and their code, linked both ways; what each pass changed; the memory plan; the
        times."""
        return self.report.to_html()

    def html(self, path: str | os.PathLike[str]) -> None:
        """Write `to_html`. The file appears when it is complete.  Raises: OSError."""
        self.report.html(path)

    def to_json(self) -> str:
        """The same data as JSON."""
        return self.report.to_json()

    def dot(self) -> str:
        """The kernels and what flows between them, for Graphviz."""
        return self.report.dot()

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write when each piece of each kernel ran, for Perfetto or chrome://tracing.

        Raises:
            OSError: it cannot be written.
        """
        self.report.chrome_trace(path)

    def repro(self, path: str | os.PathLike[str], kernel: str | None = None) -> None:
        """Write a program that runs the graph, or one of its kernels, alone, on the same inputs,
        and compares compiled code with the interpreter; ``--time`` times it.

        The program holds the IR's text and the arrays; those that are too large are drawn at
        random instead, and the program says so.

        Args:
            kernel: its name, as `summary` and the page give it; None for the whole graph.

        Raises:
            KeyError: there is no such kernel.
            OSError: it cannot be written.
        """
        self.report.repro(path, kernel)


def inspect(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Inspection:
    """What the compiler makes of `function(*args, **kwargs)`.

    The function runs once, recording gradients as usual, so a whole training step can be looked at:
    pass a function that returns the tensors of interest, such as the loss and the gradients.

    Returns:
        The captured graph, the graph after each pass, the loop IR, the LLVM IR and the assembly.

    Raises:
        RuntimeError: the function is not one graph because it reads a tensor's value.
    """
    name = getattr(function, "__name__", type(function).__name__)
    traced = trace(function, args, kwargs, name=name, grad=True)
    return Inspection(traced)
