"""A training step launches an optimizer's updates together, and takes the same step."""

import gc

import cuda_device
import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.codegen.cuda import generate
from braze.runtime.cache import clear_memory
from braze.runtime.cuda import entries
from braze.trie import TRIE, State

GPU = "cuda:0"

if cuda_device.EMULATED:
    from cuda_emulator import control


@pytest.fixture(autouse=True)
def forget():
    """Code of an earlier run was made with or without sweeps."""
    braze.sync()
    clear_memory()
    entries.clear_executables()
    TRIE.root = State(None, ())
    gc.collect()


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


def residual():
    stem = [nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    return nn.Sequential(*stem, Block(6), Block(6), *tail), (4, 1, 6, 6)


def dense():
    sizes = (12, 20, 16, 18, 14, 5)
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False)
              for part in (nn.Linear(a, b), nn.Tanh())]  # fmt: skip
    return nn.Sequential(*layers), (4, 12)


OPTIMIZERS = {
    "sgd": lambda p: braze.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: braze.optim.Adam(p, 1e-2),
}


def trained(make, kind, count=3, device=GPU):
    """Parameters and buffers after some steps with clipped gradients, and the launches of the
    last."""
    braze.manual_seed(0)
    net, shape = make()
    net = net.to(device)
    optimizer = OPTIMIZERS[kind](net.parameters())
    random = np.random.default_rng(1)
    launches = 0
    for turn in range(count):
        x = braze.tensor(random.standard_normal(shape).astype(np.float32)).to(device)
        y = braze.tensor(random.integers(0, 5, shape[0])).to(device)
        braze.sync()

        def step(x=x, y=y):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()

        if cuda_device.EMULATED and turn == count - 1:
            with control.counted() as counts:
                step()
            launches = counts["launches"]
        else:
            step()
    return [value.cpu().numpy() for value in net.state_dict().values()], launches


@pytest.mark.parametrize("make", [residual, dense])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_is_the_same_in_fewer_launches(monkeypatch, make, kind):
    parameters = len(list(make()[0].parameters()))
    together, few = trained(make, kind)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "groups_of", list)
        forget.__wrapped__()
        apart, many = trained(make, kind)
    if cuda_device.EMULATED:
        # Two launches at most: parameters of one element have one of their own.
        assert many - few >= parameters - 2, (many, few)
    for own, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(own, other)
    with braze.config.using(tier="interpret"):
        wanted, _ = trained(make, kind)
    for own, other in zip(together, wanted, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-4, atol=2e-5)


def test_a_sweep_is_a_node_of_a_cuda_graph():
    plain, many = trained(dense, "adam", 5)
    forget.__wrapped__()
    with braze.config.using(cuda_graphs=True):
        launched, few = trained(dense, "adam", 5)
    for own, other in zip(launched, plain, strict=True):
        np.testing.assert_array_equal(own, other)
    if cuda_device.EMULATED:
        assert few == 0 < many  # one launch of the graph


def test_a_failed_check_leaves_all_parameters_as_they_were():
    net = nn.Sequential(nn.Embedding(10, 6), nn.Flatten(), nn.Linear(18, 7), nn.Linear(7, 3))
    net = net.to(GPU)
    optimizer = OPTIMIZERS["adam"](net.parameters())

    def step(last):
        x = braze.tensor([[1, 2, last]], device=GPU)
        optimizer.zero_grad()
        net(x).square().sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()

    step(3)
    step(4)
    before = [p.detach().cpu().numpy() for p in net.parameters()]
    with pytest.raises(IndexError, match="out of range"):
        step(11)
        braze.cuda.synchronize()
    for own, other in zip(before, net.parameters(), strict=True):
        np.testing.assert_array_equal(own, other.detach().cpu().numpy())
