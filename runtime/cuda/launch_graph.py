"""A program's launches as one CUDA graph, and when that is used: `config.cuda_graphs`.

In: the nodes of a program, and the addresses of a run (`graph_nodes`).  Out: one call of the driver
in the place of all launches.

A graph holds the addresses that its kernels were given. It is made when a program has come a third
time on a stream and most of them are those of the run before. From then on a run changes the nodes
whose addresses are others than in the last launch, which a launch on its way does not see. So a
graph owns none of the memory that it uses: it has its place in the stream like the launches that it
stands for, and a buffer may be freed as soon as theirs might. Where most nodes are to be changed,
as after `empty_cache`, launching kernels costs no more; so the graph is left alone until most
addresses have come twice.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from ctypes import byref, c_void_p, cast
from typing import Any
from weakref import WeakKeyDictionary, ref

from braze.ir.cuda_program import CudaProgram
from braze.ir.target import STATUS_WORDS
from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import CudaError, is_initialised
from braze.runtime.cuda.graph_calls import (
    FillParameters,
    GraphModule,
    KernelParameters,
    PackedArguments,
    call,
)
from braze.runtime.cuda.graph_nodes import FillNode, LaunchNode, Node, NotAGraph, graph_nodes
from braze.runtime.cuda.memory import DeviceStorage

_PLAIN_RUNS = 2  # before a graph is made: what comes once or twice is not worth it

Roots = tuple[int, ...]


class _KernelNode:
    """A launch in a graph, with the arguments that the driver reads when it is made or changed."""

    def __init__(self, node: LaunchNode, function: int) -> None:
        launch = node.launch
        self.node = node
        self.handle = c_void_p()
        self._packed = PackedArguments(len(node.arguments))
        self._parameters = KernelParameters(
            function=function,
            grid=launch.grid,
            block=launch.block,
            shared_bytes=launch.shared_bytes,
            extra=cast(self._packed.extra, c_void_p).value,
        )

    def _pack(self, roots: Roots) -> None:
        words = self._packed.words
        for place, given in enumerate(self.node.arguments):
            words[place] = given if isinstance(given, int) else roots[given.root] + given.offset

    def add(self, graph: c_void_p, after: Any, count: int, roots: Roots) -> None:
        """Make it a node of a graph that is being built."""
        self._pack(roots)
        own = byref(self.handle), graph, after, count
        call("cuGraphAddKernelNode_v2", *own, byref(self._parameters))

    def change(self, launchable: c_void_p, roots: Roots) -> None:
        """Have launches from now on use other addresses."""
        self._pack(roots)
        own = launchable, self.handle
        call("cuGraphExecKernelNodeSetParams_v2", *own, byref(self._parameters))


class _FillNode:
    """A fill in a graph."""

    def __init__(self, node: FillNode, context: int) -> None:
        self.node = node
        self.handle = c_void_p()
        self._context = context
        self._parameters = FillParameters(
            value=node.value, element_bytes=1, width=node.nbytes, height=1
        )

    def _locate(self, roots: Roots) -> None:
        self._parameters.address = roots[self.node.where.root] + self.node.where.offset

    def add(self, graph: c_void_p, after: Any, count: int, roots: Roots) -> None:
        """As of a kernel."""
        self._locate(roots)
        own = byref(self.handle), graph, after, count
        call("cuGraphAddMemsetNode", *own, byref(self._parameters), self._context)

    def change(self, launchable: c_void_p, roots: Roots) -> None:
        """As of a kernel."""
        self._locate(roots)
        own = launchable, self.handle
        call("cuGraphExecMemsetNodeSetParams", *own, byref(self._parameters), self._context)


class LaunchGraph:
    """A program's launches on one stream; the device's context is active in all calls.

    Raises: CudaError, the driver cannot make it.
    """

    def __init__(
        self, nodes: Sequence[Node], module: GraphModule, device: CudaDevice, roots: Roots
    ) -> None:
        self.roots = roots
        self._device = device
        self._module = module  # goes after the graph
        self._graph, self._launchable = c_void_p(), c_void_p()
        context = int(device.context.handle)
        self._nodes = [
            _KernelNode(node, module.function(node.launch))
            if isinstance(node, LaunchNode)
            else _FillNode(node, context)
            for node in nodes
        ]
        call("cuGraphCreate", byref(self._graph), 0)
        before: c_void_p | None = None
        for own in self._nodes:  # each after the one before it, as in a stream
            after = None if before is None else byref(before)
            own.add(self._graph, after, 0 if before is None else 1, roots)
            before = own.handle
        call("cuGraphInstantiateWithFlags", byref(self._launchable), self._graph, 0)

    def change(self, places: Sequence[int], roots: Roots) -> None:
        """Set the addresses of nodes, all whose are others than before."""
        for place in places:
            self._nodes[place].change(self._launchable, roots)
        self.roots = roots

    def launch(self, stream: Stream) -> None:
        """Enqueue it."""
        call("cuGraphLaunch", self._launchable, stream.number)

    def __del__(self, _is_finalizing: Any = sys.is_finalizing) -> None:
        if _is_finalizing() or not is_initialised():
            return
        with self._device.active():
            if self._launchable:
                call("cuGraphExecDestroy", self._launchable)
            if self._graph:
                call("cuGraphDestroy", self._graph)


class Graphs:
    """The graphs of one executable, one for each stream.

    Attributes:
        refusal: why there are none, or "".
        nodes: of each. users: the places in it of the nodes that use each root.
    """

    def __init__(self, program: CudaProgram, numbers: int, device: CudaDevice) -> None:
        self.refusal = ""
        self.device = device
        self.name = program.name
        self.nodes: list[Node] = []
        self.users: list[list[int]] = [[] for _ in range(program.inputs + program.outputs + 2)]
        self._number_bytes = numbers
        self._status_bytes = 8 * STATUS_WORDS if program.checks else 0
        self._streams: WeakKeyDictionary[Stream, GraphOnStream] = WeakKeyDictionary()
        try:
            self.nodes = graph_nodes(program)
        except NotAGraph as reason:
            self.refusal = str(reason)
            return
        for place, node in enumerate(self.nodes):
            for root in node.roots():
                self.users[root].append(place)

    def on(self, stream: Stream) -> GraphOnStream | None:
        """The one of a stream; None if there are none. The device's context is active."""
        if self.refusal:
            return None
        found = self._streams.get(stream)
        if found is None:
            found = GraphOnStream(self, self._number_bytes, self._status_bytes, stream)
            self._streams[stream] = found
        return found


class GraphOnStream:
    """A program's runs on one stream, first kernel by kernel and then as a graph.

    Attributes:
        numbers, status: memory for a run's Python numbers and status block, which stays where it
            is: most kernels are given the latter. Streams run one thing after the other.
    """

    def __init__(self, graphs: Graphs, numbers: int, status: int, stream: Stream) -> None:
        self.numbers, self.status = (
            DeviceStorage.on(graphs.device, nbytes, stream, label) if nbytes else None
            for nbytes, label in ((numbers, "numbers of a graph"), (status, "status of a graph"))
        )
        self._graphs = graphs
        self._stream = ref(stream)
        self._runs = 0
        self._latest: Roots = ()
        self._graph: LaunchGraph | None = None

    def launch(self, module: Any, roots: Roots) -> bool:
        """Enqueue a run, if it is to be done by the graph; the device's context is active.

        Args:
            module: has `for_graphs()`, the functions' `GraphModule`.

        Raises:
            CudaError: the driver cannot launch the graph.
        """
        stream = self._stream()
        assert stream is not None  # the caller works on it
        self._runs += 1
        latest, self._latest = self._latest, roots
        outdated = [] if self._graph is None else self._moved(self._graph.roots, roots)
        if self._graph is None or self._most(outdated):
            if self._runs <= _PLAIN_RUNS or self._most(self._moved(latest, roots)):
                return False
        if self._graph is None:
            self._graph = self._made(module, roots)
            if self._graph is None:
                return False
        try:
            self._graph.change(outdated, roots)
            self._graph.launch(stream)
        except CudaError:
            self._graph = None  # some of its nodes may have been changed
            raise
        return True

    def _moved(self, before: Roots, now: Roots) -> list[int]:
        """The places of the nodes that use other addresses than before."""
        if before == now:
            return []
        pairs = enumerate(zip(before, now, strict=True))
        return sorted({place for i, (a, b) in pairs if a != b for place in self._graphs.users[i]})

    def _most(self, places: Sequence[int]) -> bool:
        return 2 * len(places) > len(self._graphs.nodes)

    def _made(self, module: Any, roots: Roots) -> LaunchGraph | None:
        """A graph, or None with a warning and the reason noted."""
        graphs = self._graphs
        try:
            return LaunchGraph(graphs.nodes, module.for_graphs(), graphs.device, roots)
        except CudaError as error:
            graphs.refusal = str(error)
            warnings.warn(
                f"graph @{graphs.name} is launched kernel by kernel, as it cannot be made a CUDA "
                f"graph: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        return None
