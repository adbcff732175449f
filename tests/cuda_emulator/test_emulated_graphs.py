"""Graphs of kernels and fills: what a launch runs, in which order, and what is refused.

Through ctypes, as PyCUDA has no names for these calls.
"""

from ctypes import byref, c_void_p, cast

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest
from cuda_emulator import control
from pycuda.compiler import DEFAULT_NVCC_FLAGS, compile

from braze.runtime.cuda.driver import CudaError, driver
from braze.runtime.cuda.graph_calls import (
    FillParameters,
    KernelParameters,
    PackedArguments,
    call,
)

pytestmark = [cuda_device.emulated_only, pytest.mark.usefixtures("context")]

# Neither of the two may change places with itself or the other.
SOURCE = """
extern "C" __global__ void scale(float* x, long long by, long long n) {
    long long i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = x[i] * by + 1;
}
extern "C" __global__ void outside(float* x, long long n) {
    x[n + threadIdx.x] = 1;
}
"""
N = 40


@pytest.fixture
def functions(context):
    driver()  # which `call` speaks for
    image = compile(SOURCE, no_extern_c=True, options=DEFAULT_NVCC_FLAGS)
    module = c_void_p()
    call("cuModuleLoadData", byref(module), image)
    found = {}
    for name in ("scale", "outside"):
        function = c_void_p()
        call("cuModuleGetFunction", byref(function), module, name.encode())
        found[name] = function.value
    yield found
    call("cuModuleUnload", module)


class Graph:
    """A graph that is being built; its nodes are numbered."""

    def __init__(self):
        self.handle, self.nodes, self.kept = c_void_p(), [], []
        call("cuGraphCreate", byref(self.handle), 0)

    def kernel(self, function, *arguments, after=(), grid=2, block=32):
        parameters = self.parameters(function, *arguments, grid=grid, block=block)
        node = c_void_p()
        own = byref(node), self.handle, self.dependencies(after), len(after)
        call("cuGraphAddKernelNode_v2", *own, byref(parameters))
        self.nodes.append(node)
        return self

    def fill(self, address, value, n, after=(), size=4, context=None):
        parameters = FillParameters(
            address=int(address), value=value, element_bytes=size, width=n, height=1
        )
        node = c_void_p()
        own = byref(node), self.handle, self.dependencies(after), len(after)
        context = cuda.Context.get_current().handle if context is None else context
        call("cuGraphAddMemsetNode", *own, byref(parameters), context)
        self.nodes.append(node)
        return self

    def dependencies(self, after):
        return (c_void_p * len(after))(*[self.nodes[i].value for i in after]) if after else None

    def parameters(self, function, *arguments, grid=2, block=32):
        packed = PackedArguments(len(arguments))
        packed.words[:] = [int(a) for a in arguments]
        self.kept.append(packed)
        return KernelParameters(
            function=function, grid=(grid, 1, 1), block=(block, 1, 1),
            extra=cast(packed.extra, c_void_p).value,
        )  # fmt: skip

    def made(self):
        launchable = c_void_p()
        call("cuGraphInstantiateWithFlags", byref(launchable), self.handle, 0)
        return launchable

    def change(self, launchable, node, function, *arguments):
        parameters = byref(self.parameters(function, *arguments))
        call("cuGraphExecKernelNodeSetParams_v2", launchable, self.nodes[node], parameters)


def launch(launchable, stream=None):
    call("cuGraphLaunch", launchable, 0 if stream is None else stream.handle)


def memory(value=0.0):
    return cuda.to_device(np.full(N, value, np.float32))


def values(pointer):
    out = np.empty(N, np.float32)
    cuda.memcpy_dtoh(out, pointer)
    return out


def test_a_launch_runs_all_nodes(functions):
    x = memory(7)
    graph = Graph().fill(x, 0, N)
    graph.kernel(functions["scale"], x, 2, N, after=[0])
    graph.kernel(functions["scale"], x, 3, N, after=[1])
    launchable = graph.made()
    np.testing.assert_array_equal(values(x), 7)  # nothing has run yet
    with control.counted() as counts:
        for _ in range(2):
            launch(launchable)
    np.testing.assert_array_equal(values(x), (0 * 2 + 1) * 3 + 1)
    assert counts["graph launches"] == 2 and counts["launches"] == counts["fills"] == 0


@pytest.mark.parametrize("size", [1, 2, 4])
def test_fills_have_elements(functions, size):
    x = memory()
    launch(Graph().fill(x, 0x01020304, 4 * N // size, size=size).made())
    expected = np.full(4 * N // size, 0x01020304 & (1 << 8 * size) - 1, f"u{size}")
    np.testing.assert_array_equal(values(x).view(f"u{size}"), expected)


def test_changed_parameters_are_for_later_launches(functions):
    """A launch that waits still uses what it found; the graph itself stays as it was."""
    x, y = memory(1), memory(10)
    graph = Graph().kernel(functions["scale"], x, 2, N)
    with control.options(LAZY=1):
        launchable = graph.made()
        launch(launchable)
        graph.change(launchable, 0, functions["scale"], y, 5, N)
        launch(launchable)
        other = graph.made()
        launch(other)
        call("cuGraphExecDestroy", launchable)  # its launches are on their way
        np.testing.assert_array_equal(values(x), (1 * 2 + 1) * 2 + 1)
        np.testing.assert_array_equal(values(y), 51)


def test_changed_fills(functions):
    x, y = memory(1), memory(1)
    graph = Graph().fill(x, 0, N)
    launchable = graph.made()
    changed = FillParameters(address=int(y), value=0, element_bytes=4, width=N, height=1)
    call("cuGraphExecMemsetNodeSetParams", launchable, graph.nodes[0], byref(changed), None)
    launch(launchable)
    assert values(x).tolist() == [1] * N and values(y).tolist() == [0] * N
    changed.height = 2
    with pytest.raises(CudaError, match="only fills of one row can be changed"):
        call("cuGraphExecMemsetNodeSetParams", launchable, graph.nodes[0], byref(changed), None)


def test_a_missing_dependency_shows(functions):
    """Nodes that nothing orders run in the order that is asked for."""
    found = {}
    for order in ("forward", "reverse"):
        x = memory(1)
        graph = Graph().kernel(functions["scale"], x, 2, N).kernel(functions["scale"], x, 3, N)
        with control.options(ORDER=order):
            launch(graph.made())
            found[order] = values(x)[0]
    assert found == {"forward": 10, "reverse": 9}
    x = memory(1)
    graph = Graph()
    for place in range(5):
        graph.kernel(functions["scale"], x, place, N, after=[place - 1] if place else [])
    with control.options(ORDER="random:3"):
        launch(graph.made())
    assert values(x)[0] == 65  # 1, 2, 5, 16, 65


def test_launches_keep_the_order_of_their_stream(functions):
    x, stream = memory(), cuda.Stream()
    launchable = Graph().kernel(functions["scale"], x, 2, N).made()
    with control.options(LAZY=1):
        launch(launchable, stream)
        event = cuda.Event().record(stream)
        launch(launchable, stream)
        assert not event.query()
        event.synchronize()
        stream.synchronize()
    np.testing.assert_array_equal(values(x), 3)


def test_faults_are_told_with_their_line(functions):
    x = memory()
    launchable = Graph().kernel(functions["outside"], x, N).made()
    with pytest.raises(CudaError, match=r"cuGraphLaunch failed: .*kernel outside.*kernel.cu:7"):
        launch(launchable)


def test_what_is_refused(functions):
    x, graph = memory(), Graph()
    scale = functions["scale"]
    graph.kernel(scale, x, 2, N)
    with pytest.raises(CudaError, match="at most 1024 threads"):
        graph.kernel(scale, x, 2, N, block=2048)
    with pytest.raises(CudaError, match="kernel scale takes 24 bytes of parameters, got 16"):
        graph.kernel(scale, x, 2)
    with pytest.raises(CudaError, match="a fill of nothing"):
        graph.fill(x, 0, 0)
    with pytest.raises(CudaError, match="elements of 1, 2 or 4 bytes"):
        graph.fill(x, 0, N, size=8)
    with pytest.raises(CudaError, match="a fill in another context"):
        graph.fill(x, 0, N, context=16)
    with pytest.raises(CudaError, match="a dependency is given twice"):
        graph.kernel(scale, x, 2, N, after=[0, 0])
    launchable = graph.made()
    other = Graph().kernel(scale, x, 2, N).fill(x, 0, N, after=[0])
    with pytest.raises(CudaError, match="a dependency on a node of another graph"):
        graph.nodes.append(other.nodes[0])
        graph.kernel(scale, x, 2, N, after=[1])
    with pytest.raises(CudaError, match="a node of another graph"):
        other.change(launchable, 0, scale, x, 2, N)
    with pytest.raises(CudaError, match="no such node of this type"):
        other.change(other.made(), 1, scale, x, 2, N)
    call("cuGraphDestroy", graph.handle)
    with pytest.raises(CudaError, match=r"no such node: was its graph destroyed\?"):
        graph.change(launchable, 0, scale, x, 2, N)
    launch(launchable)  # which outlives its graph
    for name, handle in (("cuGraphDestroy", graph.handle), ("cuGraphExecDestroy", c_void_p(8))):
        with pytest.raises(CudaError, match="no such"):
            call(name, handle)
    call("cuGraphExecDestroy", launchable)
    with pytest.raises(CudaError, match="no such executable graph"):
        launch(launchable)


def test_a_graph_is_of_one_device(functions):
    x, graph = memory(), Graph()
    launchable = graph.kernel(functions["scale"], x, 2, N).made()
    other = cuda.Device(1).retain_primary_context()
    other.push()
    try:
        with pytest.raises(CudaError, match="a graph of another device"):
            launch(launchable)
        with pytest.raises(CudaError, match="must stay on its device"):
            graph.change(launchable, 0, functions["scale"], x, 2, N)
        with pytest.raises(CudaError, match="was loaded on another device"):
            graph.kernel(functions["scale"], x, 2, N)
    finally:
        cuda.Context.pop()
