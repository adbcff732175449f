"""nn.DataParallel and nn.parallel: replicas in threads, each with its share of the CPU."""

import threading
import time
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import braze
from braze import nn
from braze.nn import parallel
from braze.nn.parallel import comm
from braze.runtime.workspace import cpu_workspace

pytestmark = pytest.mark.usefixtures("interpret")

TWO = ["cpu:0", "cpu:1"]


def network():
    braze.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def gradients(module):
    return [parameter.grad.numpy() for parameter in module.parameters()]


@pytest.mark.parametrize("tier", ["interpret", "compile"])
@pytest.mark.parametrize("batch", [8, 7, 1])
def test_results_and_gradients_are_those_of_the_module(tier, batch):
    with braze.config.using(tier=tier):
        alone, shared = network(), network()
        model = nn.DataParallel(shared, device_ids=["cpu:0", "cpu:1", "cpu:2"])
        x = braze.randn(batch, 6, requires_grad=True)
        for _ in range(2):  # gradients accumulate
            expected, got = alone(x), model(x)
            np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
            (ours,) = braze.autograd.grad(got.square().sum(), [x], retain_graph=True)
            (theirs,) = braze.autograd.grad(expected.square().sum(), [x], retain_graph=True)
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-7)
            expected.square().sum().backward()
            got.square().sum().backward()
        for a, b in zip(gradients(alone), gradients(shared), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        assert list(model.state_dict())[0] == "module.0.weight"
        with braze.no_grad():
            assert not model(x).requires_grad


Point = namedtuple("Point", "x y")


class Odd(nn.Module):
    """Takes and gives all sorts of things."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(braze.ones(()))
        self.calls = 0

    def forward(self, x, pair, name, scale=1.0, more=None):
        self.calls += 1
        assert braze.is_grad_enabled() and self.weight.grad_fn is not None
        total = (x * self.weight * scale).sum()
        return Point(x * self.weight, [pair["a"] + more, total]), None, {"name": total * 2}


def test_containers_keywords_and_numbers():
    module = Odd()
    model = nn.DataParallel(module, device_ids=TWO)
    x, a, more = braze.arange(5.0), braze.arange(5.0) * 10, braze.ones(5)
    with pytest.warns(UserWarning, match="all input tensors were scalars"):
        point, nothing, table = model(x, OrderedDict(a=a), "name", scale=2.0, more=more)
    assert isinstance(point, Point) and point.x.tolist() == x.tolist() and nothing is None
    assert point.y[0].tolist() == (a + 1).tolist() and point.y[1].tolist() == [6, 14]
    assert table["name"].tolist() == [12, 28] and module.calls == 0
    point.x.sum().backward()
    assert module.weight.grad.item() == 10

    class Constant(nn.Module):
        def forward(self):
            return braze.ones(2)

    assert nn.DataParallel(Constant(), device_ids=TWO)().tolist() == [1, 1]
    assert nn.DataParallel(Constant(), device_ids=["cpu:0"])().tolist() == [1, 1]
    across = nn.DataParallel(nn.Identity(), device_ids=TWO, dim=1)
    assert braze.equal(across(braze.eye(3)), braze.eye(3))


def test_buffers_attributes_and_tied_parameters():
    norm = nn.BatchNorm1d(3)
    model = nn.DataParallel(norm, device_ids=TWO)
    x = braze.randn(8, 3)
    model(x)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * x[:4].numpy().mean(0), rtol=1e-5)
    assert norm.num_batches_tracked.item() == 1
    model.eval()
    assert model(x).shape == (8, 3)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = self.first
            self.inner = nn.ModuleList([self.first])

        def forward(self, x):
            assert self.first is self.second and self.inner[0].weight is self.first.weight
            assert list(self.parameters()) == []  # a replica's lead to the module's
            return self.second(self.first(x))

    tied = Tied()
    nn.DataParallel(tied, device_ids=TWO)(x).sum().backward()
    expected = Tied()
    expected.load_state_dict(tied.state_dict())
    expected.second(expected.first(x)).sum().backward()
    np.testing.assert_allclose(
        tied.first.weight.grad.numpy(), expected.first.weight.grad.numpy(), rtol=1e-5
    )


class Failing(nn.Module):
    def forward(self, x):
        if x[0].item() > 1:
            raise KeyError("a bad batch")
        return x


def test_an_exception_names_the_replica():
    model = nn.DataParallel(Failing(), device_ids=TWO)
    with pytest.raises(KeyError) as error:
        model(braze.arange(4.0))
    assert "Caught KeyError in replica 1 on device cpu:1.\nOriginal Traceback" in str(error.value)
    assert 'raise KeyError("a bad batch")' in str(error.value)
    with pytest.raises(braze.ir.errors.ShapeError, match="in replica 0 on device cpu:0"):
        nn.DataParallel(nn.Linear(3, 2), device_ids=TWO)(braze.zeros(4, 5))


def test_without_a_gpu_it_runs_the_module_itself():
    inner = nn.Linear(3, 2)
    for device_ids in (None, [0, 1]):
        model = nn.DataParallel(inner, device_ids=device_ids)
        assert model.device_ids == [] and model(braze.zeros(4, 3)).shape == (4, 2)
    with pytest.raises(RuntimeError, match="device type could not be determined"):
        parallel.data_parallel(inner, braze.zeros(4, 3))
    with pytest.raises(RuntimeError, match="not available"):
        parallel.scatter(braze.zeros(4), [0, 1])
    assert parallel.data_parallel(inner, braze.zeros(4, 3), TWO).shape == (4, 2)


def test_scatter_gather_and_comm():
    x = braze.arange(5.0)
    parts = parallel.scatter(x, TWO)
    assert isinstance(parts, tuple) and [p.tolist() for p in parts] == [[0, 1, 2], [3, 4]]
    pieces, names = zip(*parallel.scatter((x, "s"), TWO), strict=True)
    assert names == ("s", "s") and pieces[1].tolist() == [3, 4]
    assert parallel.gather(parts, "cpu").tolist() == x.tolist()
    inputs, named = parallel.scatter_gather.scatter_kwargs((), {"x": x}, TWO)
    assert inputs == ((), ()) and named[1]["x"].tolist() == [3, 4]
    first, second = comm.broadcast(x, TWO)
    assert first is x and second.tolist() == x.tolist() and second.data_ptr() != x.data_ptr()
    assert comm.reduce_add([x, x, x]).tolist() == [0, 3, 6, 9, 12]
    assert [t.tolist() for t in comm.reduce_add_coalesced([[x], [x]])] == [[0, 2, 4, 6, 8]]
    lists = comm.broadcast_coalesced([x, x + 1], TWO)
    assert len(lists) == 2 and lists[1][1].tolist() == [1, 2, 3, 4, 5]
    parts = comm.scatter(x, TWO, chunk_sizes=[1, 4])
    assert [len(part) for part in parts] == [1, 4]
    with pytest.raises(RuntimeError, match="do not fit"):
        comm.scatter(x, TWO, chunk_sizes=[1, 2])
    with pytest.raises(ValueError, match="input 1 has invalid size"):
        comm.reduce_add([x, x[:2]])
    with pytest.raises(ValueError, match="same number of keys"):
        parallel.gather([{"a": x}, {}], "cpu")
    with pytest.raises(AssertionError, match="number of modules 1 is not equal to the number of i"):
        parallel.parallel_apply([nn.Identity()], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert comm.gather([x, x]).shape == (10,)


class Meeting(nn.Module):
    """Returns when as many threads as replicas are inside."""

    def __init__(self, count):
        super().__init__()
        self.barrier = threading.Barrier(count, timeout=10)
        self.scale = braze.full((64,), 2.0)  # neither parameter nor buffer: all threads use it

    def forward(self, x):
        for _ in range(20):
            x = x * self.scale
            self.barrier.wait()
            x = x / self.scale + self.scale
        return x


def test_threads_capture_the_same_tensors_at_once():
    with braze.config.using(tier="auto"):
        x = braze.rand(4, 64)
        model = nn.DataParallel(Meeting(4), device_ids=[f"cpu:{i}" for i in range(4)])
        for _ in range(10):
            np.testing.assert_allclose(model(x).numpy(), x.numpy() + 40, rtol=1e-5)


def test_replicas_do_not_wait_for_the_common_workspace():
    with braze.config.using(tier="compile"):
        model = nn.DataParallel(nn.Linear(6, 3), device_ids=TWO)
        x = braze.rand(4, 6)
        parts = parallel.scatter(x, TWO)
        replicas = model.replicate(model.module, model.device_ids)
        braze.sync()
        with cpu_workspace.lock:
            began = time.monotonic()
            outputs = model.parallel_apply(replicas, [(part,) for part in parts], [{}, {}])
            assert time.monotonic() - began < 8
        got = model.gather(outputs, "cpu")
        np.testing.assert_allclose(
            got.detach().numpy(), model.module(x).detach().numpy(), rtol=1e-6
        )


def test_hooks_and_inference_mode_reach_the_replicas():
    seen = []
    inner = nn.Linear(6, 3)
    inner.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    model = nn.DataParallel(inner, device_ids=TWO)
    grads = []
    model.register_full_backward_hook(lambda module, grad_in, grad_out: grads.append(grad_out[0]))
    x = braze.rand(5, 6, requires_grad=True)
    model(x).sum().backward()
    assert sorted(seen) == [2, 3] and grads[0].shape == (5, 3)
    with braze.inference_mode():
        assert model(x).is_inference()
