"""A report: some compiled graphs with the times of their kernels, and the log of compiles.

In: graphs, and what to measure them with.  Out: a page, JSON, DOT, a trace, text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from braze import engine
from braze.inspector import exports, text
from braze.inspector.changes import changes
from braze.inspector.describe import Data, code_of, describe
from braze.ir.graph import Graph
from braze.ir.target import Target

ROUNDS, SECONDS = 5, 0.2  # of measuring, at least

Times = Sequence[Any]


class GraphReport:
    """One graph: everything is worked out when it is first asked for.

    Args:
        graph: as it was captured.
        times: gives the times of its kernels, or none.
        runs: how often the program ran it, and how long that took altogether, if that is known.
        inputs: arrays and numbers that it was run on, for a reproducer; None if they were not kept.
        device: where it runs, as "cpu" or "cuda:0".
        target: what to compile it for, if that is not the device.
    """

    def __init__(
        self,
        graph: Graph,
        times: Callable[[], Times],
        runs: tuple[int, float] | None = None,
        inputs: Sequence[Any] | None = None,
        device: str = "cpu",
        target: Target | None = None,
    ) -> None:
        self.graph = graph
        self.device = device
        self._target = target
        self.inputs = inputs
        self.runs = runs
        self._times = times

    @cached_property
    def insides(self) -> Any:
        """Every step of compiling it (`braze.runtime.insides.Insides`)."""
        inspecting = engine.inspecting()
        target = self._target or inspecting.target_on(self.device, self.graph)
        return inspecting.look_inside(self.graph, target)

    @cached_property
    def data(self) -> Data:
        """The strata, the memory plan and the times as JSON values."""
        times = self._times()
        limits = engine.inspecting().limits_on(self.device) if times else None
        data = describe(self.insides, times, limits)
        runs = self.runs
        data["runs"] = None if runs is None else {"count": runs[0], "seconds": runs[1]}
        return data

    @cached_property
    def code(self) -> dict[str, dict[str, str]]:
        """LLVM IR and assembly, or CUDA C and launches, by function."""
        return code_of(self.insides)

    def repro(self, path: str | os.PathLike[str], kernel: str | None = None) -> None:
        """Write a program that runs the graph, or one of its kernels, alone.

        Raises:
            KeyError: it has no such kernel.
            ValueError: its inputs were not kept.
            OSError: it cannot be written.
        """
        if self.inputs is None:
            raise ValueError(f"[repro] what graph @{self.graph.name} was given is not known")
        debugging = engine.debugging()
        setting = debugging.Setting(self.device)
        if kernel is None:
            debugging.write_graph(path, self.graph, self.inputs, setting)
            return
        insides = self.insides
        case, values = debugging.case_with_values(
            insides.program, insides.graphs[-1].graph, self.inputs, kernel
        )
        debugging.write_kernel(path, case, values, setting)

    @cached_property
    def passes(self) -> list[Data]:
        """What each pass changed."""
        return changes(self.insides)


class Report:
    """Some graphs, the hottest first, and the log of compiles.

    Attributes:
        title: what was looked at.
        graphs: their reports.
        left_out: how many more were compiled.
        interpreted: how many were not compiled, since they did not come back.
    """

    def __init__(
        self,
        title: str,
        graphs: Sequence[GraphReport],
        log: Any = None,
        left_out: int = 0,
        interpreted: int = 0,
    ) -> None:
        self.title = title
        self.graphs = list(graphs)
        self.left_out = left_out
        self.interpreted = interpreted
        self._log = log

    @property
    def notes(self) -> list[str]:
        """What the graphs that are not shown are."""
        notes = []
        if self.left_out:
            notes.append(f"{_graphs(self.left_out)} left out, of those that were compiled.")
        if self.interpreted:
            notes.append(
                f"{_graphs(self.interpreted)} only interpreted, not compiled, since they ran once; "
                "BRAZE_TIER=compile compiles each at once."
            )
        return notes

    @cached_property
    def recompiles(self) -> Data:
        """The log of compiles (`braze.explain()`) as JSON values."""
        log = self._compiles()
        return {
            "totals": dict(log.totals),
            "compile_seconds": log.compile_seconds,
            "recompiled": [list(pair) for pair in log.recompiled],
            "left_out": log.left_out,
            "events": [
                {
                    "number": event.number,
                    "source": event.source,
                    "name": event.name,
                    "operations": event.operations,
                    "first": event.first,
                    "last": event.last,
                    "difference": event.difference,
                    "seconds": event.seconds,
                    "beside": event.beside,
                    "sizes": event.sizes,
                    "kernels": None if event.figures is None else event.figures.kernels_after,
                }
                for event in log.events
            ],
        }

    def to_dict(self) -> Data:
        """Everything as JSON values: per graph its data, code and passes, and the log."""
        return {
            "title": self.title,
            "notes": self.notes,
            "graphs": [{**g.data, "code": g.code, "passes": g.passes} for g in self.graphs],
            "recompiles": self.recompiles,
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict())

    def to_html(self) -> str:
        """The page: one file that needs no network and no other file."""
        from braze.inspector.page import page_of

        return page_of(self)

    def html(self, path: str | os.PathLike[str]) -> None:
        """Write the page. The file appears when it is complete.  Raises: OSError."""
        _write(path, self.to_html())

    def json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json`. The file appears when it is complete.  Raises: OSError."""
        _write(path, self.to_json())

    def dot(self) -> str:
        """The kernels and what flows between them, for Graphviz."""
        return exports.dot(self.title, [g.data for g in self.graphs])

    def write_dot(self, path: str | os.PathLike[str]) -> None:
        """Write `dot`. The file appears when it is complete.  Raises: OSError."""
        _write(path, self.dot())

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write when each piece of each kernel ran, and how long each pass took, for Perfetto or
        chrome://tracing.  Raises: OSError."""
        graphs = [(g.data, g.passes) for g in self.graphs]
        _write(path, json.dumps(exports.chrome_trace(graphs)))

    def repro(self, path: str | os.PathLike[str], kernel: str | None = None) -> None:
        """Write a program that runs the hottest graph, or a kernel, alone.

        Args:
            kernel: its name, as the summary and the page give it; of several graphs that have it,
                the hottest one's is taken.

        Raises:
            KeyError: there is no such kernel.
            ValueError: there is no graph, or its inputs were not kept.
            OSError: it cannot be written.
        """
        if not self.graphs:
            raise ValueError("[repro] no graph was compiled")
        owners = (
            graph
            for graph in self.graphs
            if kernel is None or any(k.name == kernel for k in graph.insides.kernels)
        )
        next(owners, self.graphs[0]).repro(path, kernel)

    def summary(self, rows: int = 12) -> str:
        """The hottest kernels of each graph, and the log of compiles, as text."""
        parts = [exports.summary(g.data, rows) for g in self.graphs]
        parts += self.notes
        return "\n\n".join([*parts, str(self._compiles())])

    def links(self) -> str:
        """From the user's lines to operations, kernels and code, and back, as text."""
        return "\n\n".join(text.links(g.data) for g in self.graphs)

    def memory(self) -> str:
        """The memory plans as text."""
        return "\n\n".join(text.memory(g.data) for g in self.graphs)

    def changes(self) -> str:
        """What each pass over the graphs and over the kernels' loops changed, as text."""
        return "\n\n".join(text.passes(g.data, g.passes) for g in self.graphs)

    def _compiles(self) -> Any:
        return self._log if self._log is not None else engine.explain()


def _graphs(count: int) -> str:
    return f"{count} graph" + ("" if count == 1 else "s")


def _write(path: str | os.PathLike[str], text: str) -> None:
    with engine.replacing(Path(path)) as file:
        file.write(text.encode())


def measured(graph: Graph, inputs: Sequence[Any]) -> Callable[[], Times]:
    """Times of a graph on given inputs, of the quickest of some runs on copies of them."""

    def times() -> Times:
        inspecting = engine.inspecting()
        executable = inspecting.timed_executable(graph)
        found: Times = inspecting.measure(executable, graph, inputs, ROUNDS, SECONDS)
        return found

    return times
