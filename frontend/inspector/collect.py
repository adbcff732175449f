"""Watching a program: which graphs it runs, how often, and how long each of their kernels takes.

In: a program's file.  Out: a `Report` of what it compiled.
"""

from __future__ import annotations

import runpy
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braze import engine
from braze.bisection import arrays_of
from braze.capture import flush
from braze.inspector.report import ROUNDS, SECONDS, GraphReport, Report
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Node
from braze.sites import location_in_run

MOST_GRAPHS = 12


class _Seen:
    """A graph while the program runs: with its lines, its runs, and its best times."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.is_located = False
        self.runs = 0
        self.seconds = 0.0
        self.compiled = False
        self.times: Sequence[Any] = ()
        self.best = 0.0
        self.inputs: list[Any] | None = None  # of the first run, if they are kept
        self.device = "cpu"

    def locate(self, sites: Any) -> None:
        """Take the lines of this program's first run: what captured the graph first, and gave it
        its lines, may be another program in the process."""
        if sites is None or self.is_located:
            return
        nodes = self.graph.nodes
        places = [location_in_run(node, i, sites) for i, node in enumerate(nodes)]
        self.graph = self.graph.located(places)
        self.is_located = True

    def best_times(self) -> Sequence[Any]:
        """Of the quickest run."""
        return self.times


class Collector:
    """An observer of all graphs that run."""

    per_operation = False
    per_kernel = True

    def __init__(self, keep_inputs: bool = False) -> None:
        self.wants_inputs = keep_inputs
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._names: dict[int, tuple[Graph, str]] = {}

    def worked(self, work: engine.Work, graph: Graph, sites: Any, start: float, end: float) -> None:
        """A graph was compiled, loaded or run. Called by the runtime."""
        with self._lock:
            seen = self._of(graph)
            seen.locate(sites)
            seen.compiled |= work != "interpret"
            if work in ("native", "interpret"):
                seen.runs += 1
                seen.seconds += end - start

    def placed(self, graph: Graph, device: str) -> None:
        """A graph is about to run on a GPU."""
        with self._lock:
            self._of(graph, device).device = device

    def given(self, graph: Graph, inputs: Sequence[Any]) -> None:
        """A graph is about to run. Inputs are kept for reproducers."""
        with self._lock:
            seen = self._of(graph)
            if seen.inputs is None:
                seen.inputs = arrays_of(graph, inputs)

    def operated(self, node: Node, position: int, sites: Any, start: float, end: float) -> None:
        """Nobody asks for that."""

    def communicated(self, what: str, start: float, end: float) -> None:
        """Nobody asks for that."""

    def timed(self, graph: Graph, sites: Any, times: Sequence[Any]) -> None:
        """The kernels of a graph have run. The quickest run counts."""
        total = engine.inspecting().duration(times)
        with self._lock:
            seen = self._of(graph)
            if not seen.times or total < seen.best:
                seen.times, seen.best = times, total

    def _of(self, graph: Graph, device: str = "cpu") -> _Seen:
        """Graphs of equal fingerprint on one device are one."""
        known = self._names.get(id(graph))
        if known is None:
            known = self._names[id(graph)] = graph, f"{fingerprint(graph)} {device}"
        return self._seen.setdefault(known[1], _Seen(graph))

    def report(self, title: str, most: int = MOST_GRAPHS) -> Report:
        """What was compiled, the graphs that took most time first.

        Args:
            most: how many graphs are looked at.
        """
        compiled = [seen for seen in self._seen.values() if seen.compiled]
        compiled.sort(key=lambda seen: -seen.seconds)
        graphs = [
            GraphReport(
                seen.graph, seen.best_times, (seen.runs, seen.seconds), seen.inputs, seen.device
            )
            for seen in compiled[:most]
        ]
        left_out, others = len(compiled) - len(graphs), len(self._seen) - len(compiled)
        return Report(title, graphs, engine.explain(), left_out, others)


def placed_report(graph: Graph, inputs: Sequence[Any]) -> Report:
    """A graph on GPUs: of each program that it is split into its kernels, and their best times in
    some runs on copies of the inputs."""
    collector = Collector(keep_inputs=True)
    before, engine.observing.observer = engine.observing.observer, collector
    try:
        engine.inspecting().run_placed(graph, inputs, ROUNDS, SECONDS)
    finally:
        engine.observing.observer = before
    return collector.report(graph.name)


def inspect_script(
    script: str, arguments: Sequence[str] = (), most: int = MOST_GRAPHS, keep_inputs: bool = False
) -> tuple[Report, BaseException | None]:
    """Run a program as ``python script arguments`` would, watching it.

    Args:
        most: how many graphs are looked at.
        keep_inputs: what each graph was given when it first ran, for a reproducer.

    Returns:
        The report, and what ended the program, if it did not end by itself.
    """
    collector = Collector(keep_inputs)
    error = run_watched(script, arguments, collector)
    return collector.report(Path(script).name, most), error


def run_watched(
    script: str, arguments: Sequence[str], observer: engine.Observer
) -> BaseException | None:
    """Run a program as ``python script arguments`` would, with an observer of its graphs.

    Returns: what ended it, if it did not end by itself.
    """
    before = sys.argv, sys.path[0]
    sys.argv, sys.path[0] = [script, *arguments], str(Path(script).resolve().parent)
    engine.observing.observer = observer
    error: BaseException | None = None
    try:
        runpy.run_path(script, run_name="__main__")
        flush()
    except SystemExit as ended:
        error = ended if ended.code not in (None, 0) else None
        flush()
    except BaseException as raised:
        error = raised
    finally:
        engine.observing.observer = None
        sys.argv, sys.path[0] = before
    return error


def show_error(error: BaseException) -> None:
    """Print what ended a program as Python prints it, without the frames of what ran it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _RUNNERS:
        traceback = traceback.tb_next
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
    elif not isinstance(error.code, int):
        print(error.code, file=sys.stderr)


_RUNNERS = {__file__, runpy.__file__, "<frozen runpy>"}
