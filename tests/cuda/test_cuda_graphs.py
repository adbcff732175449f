"""`config.cuda_graphs`: what runs often is launched as one CUDA graph, and is what it was."""

import gc
import threading
import warnings

import cuda_device
import numpy as np
import pytest

import braze
import braze.ir as ir
import braze.nn.functional as F
from braze import nn
from braze.autograd.profiler import profile
from braze.runtime.cache import clear_memory
from braze.runtime.cuda import entries, graph_calls, graph_nodes, launch_graph
from braze.runtime.cuda.compiling import compile_cuda
from braze.runtime.cuda.devices import device_named
from braze.runtime.cuda.driver import CudaError
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.cuda.memory import DeviceStorage, copy_storage
from braze.runtime.storage import Storage
from braze.trie import TRIE, State

GPU = "cuda:0"
emulated_only = cuda_device.emulated_only

if cuda_device.EMULATED:
    from cuda_emulator import control


@pytest.fixture(autouse=True)
def as_graphs(monkeypatch):
    """Every test begins without code of another, whose runs would count."""
    forget()
    monkeypatch.setattr(braze.config, "cuda_graphs", True)


def forget():
    braze.sync()
    clear_memory()
    entries.clear_executables()
    TRIE.root = State(None, ())
    gc.collect()


def counted(function, turns):
    """What the driver was asked for at each turn."""
    found = []
    for turn in range(turns):
        with control.counted() as counts:
            function(turn)
        found.append(counts)
    return found


class Training:
    """A small net whose loss has random numbers, a rate that changes, and new batches."""

    def __init__(self, graphs):
        self.graphs = graphs
        braze.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.2), nn.LayerNorm(24), nn.Linear(24, 5)
        ).to(GPU)
        self.optimizer = braze.optim.Adam(self.net.parameters(), 1e-2)
        self.random = np.random.default_rng(1)
        self.losses, self.kept = [], []

    def step(self, turn, size=8):
        with braze.config.using(cuda_graphs=self.graphs):
            x = braze.tensor(self.random.standard_normal((size, 12)).astype(np.float32)).to(GPU)
            y = braze.tensor(self.random.integers(0, 5, size)).to(GPU)
            if turn % 2:
                self.kept.append(x)  # so that the next batch lies elsewhere
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-2 / (turn + 1)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())


def test_a_training_loop_takes_the_same_steps():
    trained = {}
    for graphs in (False, True):
        trained[graphs] = Training(graphs)
        for turn in range(8):
            trained[graphs].step(turn)
    assert trained[True].losses == trained[False].losses
    assert len(set(trained[True].losses)) == 8
    for a, b in zip(*(t.net.parameters() for t in trained.values()), strict=True):
        assert braze.equal(a, b)


@emulated_only
def test_a_step_is_one_launch():
    plain, graphs = (counted(Training(graphs).step, 8) for graphs in (False, True))
    assert all(counts["launches"] > 5 and not counts["graph launches"] for counts in plain)
    assert [counts["graph launches"] for counts in graphs] == [0] * 2 + [1] * 6
    assert all(not counts["launches"] for counts in graphs[2:])
    assert sum(counts["graphs"] for counts in graphs) == 1
    # Nodes that use the batch or the loss; the others have their addresses.
    assert all(0 < counts["graph updates"] < 8 for counts in graphs[3:])


@emulated_only
def test_other_addresses_are_set_before_a_launch():
    """Every input elsewhere at each run, with streams that run only when waited for."""
    w = braze.linspace(-1, 1, 40, device=GPU)
    with control.options(LAZY=1):
        kept, found = [], []
        for turn in range(7):
            x = braze.full((30, 40), float(turn), device=GPU)
            kept.append(x)
            found.append(F.softmax(x * w, 1).sum(0).cumsum(0))
            braze.sync()
        x = np.arange(7)[:, None] * np.linspace(-1, 1, 40)
        for own, row in zip(found, np.exp(x) / np.exp(x).sum(1, keepdims=True), strict=True):
            np.testing.assert_allclose(own.cpu(), 30 * row.cumsum(), rtol=1e-5)


def normal():
    x = braze.randn(20, 30).to(GPU)
    braze.sync()
    return x


def several_kernels(x):
    """Three launches at least: each sum is over what the one before it gave."""
    y = F.softmax(x, 1)
    return (y.sum(0) @ y.t()).cumsum(0)


def expected(x):
    y = np.exp(x - x.max(1, keepdims=True))
    y /= y.sum(1, keepdims=True)
    return (y.sum(0) @ y.T).cumsum(0)


@emulated_only
def test_where_all_is_elsewhere_kernels_are_launched_until_it_comes_again(monkeypatch):
    monkeypatch.setenv("BRAZE_NO_CUDA_MEMORY_CACHING", "1")  # so that nothing is where it was
    inputs = [normal() for _ in range(3)]

    def run(turn):
        braze.cuda.empty_cache()
        x = inputs[turn % 3]
        np.testing.assert_allclose(several_kernels(x).cpu(), expected(x.cpu().numpy()), rtol=1e-5)

    moved = counted(run, 7)
    assert all(c["graph launches"] == 0 and c["launches"] >= 3 for c in moved[3:])


@emulated_only
def test_a_freed_cache_is_followed():
    x = normal()

    def run(turn):
        if turn == 5:
            gc.collect()
            braze.cuda.empty_cache()
            held.append(braze.ones(5000, device=GPU) * 1)  # which may lie where the arena was
            braze.sync()
        np.testing.assert_allclose(several_kernels(x).cpu(), expected(x.cpu().numpy()), rtol=1e-5)

    held = []
    counts = counted(run, 10)
    assert [c["graph launches"] for c in counts[3:5]] == [1, 1]
    assert counts[-1]["graph launches"] == 1 and counts[-1]["launches"] == 0
    assert float(held[0].sum()) == 5000


@emulated_only
def test_sizes_that_change_have_a_graph_each():
    trained = {}
    for graphs in (False, True):
        trained[graphs] = training = Training(graphs)
        counts = counted(lambda turn: training.step(turn, (20, 33, 47, 50)[turn % 4]), 20)  # noqa: B023
    assert trained[True].losses == trained[False].losses
    assert [c["graph launches"] for c in counts[-4:]] == [1] * 4
    assert sum(c["graphs"] for c in counts) == 4


@emulated_only
def test_recurrent_nets():
    """Their steps are repeated, each turn with places of its own."""
    braze.manual_seed(0)
    net = nn.LSTM(6, 8).to(GPU)
    x = braze.randn(12, 3, 6).to(GPU)
    found = []

    def run(turn):
        with braze.config.using(cuda_graphs=turn >= 2):
            net.zero_grad()
            y, _ = net(x)
            y.square().sum().backward()
            found.append([y.detach().cpu(), *(p.grad.cpu() for p in net.parameters())])
            braze.sync()

    counts = counted(run, 7)
    assert counts[1]["launches"] >= 24 and counts[-1]["launches"] == 0
    assert counts[-1]["graph launches"] == 1
    for own in found[1:]:
        assert all(braze.equal(a, b) for a, b in zip(own, found[0], strict=True))


@emulated_only
def test_what_numpy_computes_stays_between_launches():
    a = (braze.eye(5) + 0.1 * braze.randn(5, 5)).to(GPU)

    def run(turn):
        found = several_kernels(braze.linalg.inv(a * (turn + 1)))
        x = np.linalg.inv(a.cpu().numpy() * (turn + 1))
        np.testing.assert_allclose(found.cpu(), expected(x), rtol=1e-4)

    counts = counted(run, 6)
    assert not any(c["graph launches"] for c in counts) and counts[-1]["launches"] >= 3


def test_failed_checks_have_their_line():
    x = braze.arange(12.0, device=GPU).reshape(4, 3)
    for turn in range(7):
        i = braze.tensor([1, 9 if turn % 2 else 2], device=GPU)
        y = several_kernels(x[i])  # the line
        if turn % 2:
            with pytest.raises(IndexError, match=r"9 is out of range [\s\S]*# the line"):
                y.tolist()
        else:
            rows = np.arange(12.0).reshape(4, 3)[[1, 2]]
            np.testing.assert_allclose(y.cpu(), expected(rows), rtol=1e-5)


@emulated_only
def test_streams_have_graphs_of_their_own():
    streams = [braze.cuda.Stream(), braze.cuda.Stream()]
    inputs = [normal() for _ in streams]
    braze.cuda.synchronize()
    with control.counted() as counts, control.options(LAZY=1):
        for _ in range(5):
            for stream, x in zip(streams, inputs, strict=True):
                with braze.cuda.stream(stream):
                    y = several_kernels(x)
                    done = stream.record_event()
                assert not done.query()  # the graph is in the stream, before the event
                np.testing.assert_allclose(y.cpu(), expected(x.cpu().numpy()), rtol=1e-5)
    assert counts["graphs"] == 2 and counts["graph launches"] == 6


def test_threads_share_a_graph():
    inputs = [normal() for _ in range(3)]
    wrong = []

    def work(x):
        for _ in range(6):
            if not np.allclose(several_kernels(x).cpu(), expected(x.cpu().numpy()), rtol=1e-5):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@emulated_only
def test_memory_of_a_launch_on_its_way_is_used_only_behind_it():
    """The temporary operand is freed before the graph has run, and its memory taken again."""
    w = braze.linspace(0, 1, 30, device=GPU)
    found = []
    with control.options(LAZY=1):
        for turn in range(8):
            x = w * (turn + 1) + braze.zeros(20, 1, device=GPU)
            braze.sync()
            found.append(several_kernels(x))
            braze.sync()
            del x
    for turn, own in enumerate(found):
        x = np.tile(np.linspace(0, 1, 30) * (turn + 1), (20, 1))
        np.testing.assert_allclose(own.cpu(), expected(x), rtol=1e-5)


TEXT = """
graph @sums(%x: f32[8,300]) -> (f32[]) {
  %0: f32[8] = sum(%x; dims=(1), keepdim=false)
  %1: f32[8] = cumsum(%0; dim=0, reverse=false)
  %2: f32[] = sum(%1; dims=(0), keepdim=false)
  return %2
}
"""


def executable():
    device = device_named(GPU)
    code = compile_cuda(ir.parse_graph(TEXT), device.target, None)
    return CudaExecutable(code, device), DeviceStorage.on(device, 4)


def ones(nbytes):
    storage = DeviceStorage.on(device_named(GPU), nbytes)
    copy_storage(Storage.from_numpy(np.ones(nbytes // 4, np.float32)), storage)
    return storage


@emulated_only
@pytest.mark.parametrize(("limit", "value"), [("MOST_NODES", 2), ("FEWEST_NODES", 50)])
def test_too_many_or_too_few_kernels_are_launched_one_by_one(monkeypatch, limit, value):
    monkeypatch.setattr(graph_nodes, limit, value)
    code, total = executable()
    x = ones(8 * 300 * 4)
    with control.counted() as counts:
        for _ in range(5):
            code.run([x], [total])
    assert counts["graph launches"] == 0 and counts["launches"] >= 15
    assert total.to_host().array(np.float32, 1) == 300 * 36


@emulated_only
def test_graphs_go_with_their_code():
    code, total = executable()
    x = ones(8 * 300 * 4)
    with control.counted() as counts:
        for _ in range(4):
            code.run([x], [total])
        assert total.to_host().array(np.float32, 1) == 300 * 36
        del code
        gc.collect()
    assert counts["graphs"] == counts["graphs destroyed"] == 1 and counts["graph launches"] == 2
    assert total.to_host().array(np.float32, 1) == 300 * 36


@emulated_only
def test_faults_in_a_graph_are_told(monkeypatch):
    monkeypatch.setenv("BRAZE_NO_CUDA_MEMORY_CACHING", "1")
    code, total = executable()
    x, short = ones(8 * 300 * 4), ones(8 * 299 * 4)
    for _ in range(4):
        code.run([x], [total])
    with pytest.raises(CudaError, match="cuGraphLaunch failed: an illegal memory access .*kernel"):
        code.run([short], [total])
    code.run([x], [total])
    assert total.to_host().array(np.float32, 1) == 300 * 36


@emulated_only
def test_per_kernel_times_are_of_plain_launches():
    x = normal()
    for _ in range(4):
        several_kernels(x).tolist()
    with control.counted() as counts, profile(per_kernel=True) as report:
        several_kernels(x).tolist()
    assert counts["launches"] >= 3 and not counts["graph launches"]
    assert report is not None


@emulated_only
@pytest.mark.parametrize("failing", ["cuGraphInstantiateWithFlags", "cuGraphAddKernelNode_v2"])
def test_a_driver_that_makes_no_graph(monkeypatch, failing):
    """Kernels are launched one by one, which a warning tells once for a program."""
    real = graph_calls.call

    def call(name, *arguments):
        if name == failing:
            raise CudaError(f"{name} failed: out of memory")
        real(name, *arguments)

    monkeypatch.setattr(launch_graph, "call", call)
    x = normal()

    def run(turn):
        np.testing.assert_allclose(several_kernels(x).cpu(), expected(x.cpu().numpy()), rtol=1e-5)

    with pytest.warns(RuntimeWarning, match=f"kernel by kernel, as .*{failing} failed: out of mem"):
        counted(run, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = counted(run, 3)
    assert all(c["launches"] >= 3 and not c["graph launches"] for c in counts)


def test_a_driver_without_graphs_is_told(monkeypatch):
    monkeypatch.setitem(graph_calls._SIGNATURES, "cuGraphOfTheFuture", ())
    with pytest.raises(CudaError, match="no cuGraphOfTheFuture: it is older than CUDA 12"):
        graph_calls.call("cuGraphOfTheFuture")
