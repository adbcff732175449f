"""`braze.bisect`: which stage of the compiler changed a result, of a function or in a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze import engine
from braze.ir.devices import HOST
from braze.ir.errors import BrazeError
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Node
from braze.tracing import trace


def bisect(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Find the stage of the compiler that changes a result of `function(*args, **kwargs)`.

    The function runs once, recording gradients as usual, and must be one graph, as for `inspect`.
    That graph is interpreted as it was captured and after each pass; then each kernel's loops are
    interpreted, after each pass over them; then the compiled code runs, checked kernel by kernel.
    With values on a GPU, all of the graph is compiled for it, and runs there, on copies.

    Returns:
        A `Bisection`. `print` shows it: the first stage that is wrong, which result and by how
        much, what the stage changed and the user's lines, or that nothing changed a result. Its
        `culprit` is None then.

    Raises:
        RuntimeError: the function is not one graph because it reads a tensor's value.
        IndexError and what else its operations raise.

    Example:
        >>> import braze
        >>> found = bisect(lambda x: (x * 2).sum(), braze.ones(8))
        >>> found.culprit is None
        True
    """
    name = getattr(function, "__name__", type(function).__name__)
    traced = trace(function, args, kwargs, name=name, grad=True)
    graph, tools = traced.graph, engine.debugging()
    arrays = arrays_of(graph, traced.storages)
    devices = [v.type.device for v in graph.values() if v.type.device != HOST]
    if engine.is_split(graph):
        graph = tools.without_devices(graph)
    return tools.bisect_graph(graph, arrays, device=devices[0] if devices else HOST)


def arrays_of(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """Copies of a graph's inputs in the host's memory; numbers as they are."""
    found: list[Any] = []
    for value, item in zip(graph.inputs, inputs, strict=True):
        if isinstance(item, engine.Storage):
            held = item.to_host() if hasattr(item, "to_host") else item
            item = held.array(value.dtype.numpy, value.shape).copy()
        found.append(item)
    return found


class Found(BaseException):
    """Ends a program: a stage of one of its graphs is wrong."""


class Bisector:
    """An observer that bisects each graph of a program when it first runs.

    Attributes:
        count: how many graphs were looked at. on_gpus: how many of them on GPUs.
        found: the first bisection with a culprit, or None.
        skipped: why graphs were not looked at.
    """

    per_operation = False
    per_kernel = False
    wants_inputs = True

    def __init__(self) -> None:
        self.count = self.on_gpus = 0
        self.found: Any = None
        self.skipped: list[str] = []
        self._seen: set[tuple[str, str]] = set()
        self._devices: dict[int, tuple[Graph, str]] = {}  # by identity, which the graph keeps

    def placed(self, graph: Graph, device: str) -> None:
        """A graph is about to run on a GPU."""
        self._devices[id(graph)] = graph, device

    def given(self, graph: Graph, inputs: Sequence[Any]) -> None:
        """A graph is about to run.  Raises: Found."""
        _, device = self._devices.get(id(graph), (graph, HOST))
        key = fingerprint(graph), device
        if key in self._seen:
            return
        self._seen.add(key)
        try:
            found = engine.debugging().bisect_graph(
                graph, arrays_of(graph, inputs), device=device
            )
        except (IndexError, BrazeError) as error:  # which the program itself will meet
            self.skipped.append(str(error).splitlines()[0])
            return
        self.count += 1
        self.on_gpus += device != HOST
        if found.culprit is not None:
            self.found, self._graph, self._device = found, graph, device
            self._inputs = arrays_of(graph, inputs)
            raise Found

    def repro(self, path: str) -> None:
        """Write what is wrong as a program that runs it alone: a kernel if it is its code, else the
        graph.

        Raises:
            OSError: it cannot be written.
        """
        assert self.found is not None
        if self.found.culprit.error is not None:
            self.found.culprit.error.repro(path)
        else:
            tools = engine.debugging()
            tools.write_graph(path, self._graph, self._inputs, tools.Setting(self._device))

    def worked(self, work: Any, graph: Graph, sites: Any, start: float, end: float) -> None:
        """Nobody asks for that."""

    def operated(self, node: Node, position: int, sites: Any, start: float, end: float) -> None:
        """Nobody asks for that."""

    def communicated(self, what: str, start: float, end: float) -> None:
        """Nobody asks for that."""

    def timed(self, graph: Graph, sites: Any, times: Sequence[Any]) -> None:
        """Nobody asks for that."""


def bisect_script(
    script: str, arguments: Sequence[str] = ()
) -> tuple[Bisector, BaseException | None]:
    """Run a program as ``python script arguments`` would, and bisect each of its graphs when it
    first runs, up to the first that is wrong.

    Returns:
        What was found, and what ended the program, if it did not end by itself.
    """
    from braze.inspector.collect import run_watched

    bisector = Bisector()
    error = run_watched(script, arguments, bisector)
    return bisector, None if isinstance(error, Found) else error
