"""Eager training loops of every habit: one graph and one native call an iteration, and the
interpreter's results."""

import numpy as np
import pytest

import braze
from braze import nn
from braze.nn import functional as F

SIZE, CLASSES = 12, 4


class Net(nn.Module):
    """A small network with the kinds of layers that the examples use."""

    def __init__(self):
        super().__init__()
        # A bias before batch normalisation has no gradient but rounding, which Adam amplifies.
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(4 * 5 * 5, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(self.drop(x).flatten(1))


def batches(sizes, seed=0):
    random = np.random.default_rng(seed)
    for n in sizes:
        x = random.standard_normal((n, 1, SIZE, SIZE)).astype(np.float32)
        yield braze.from_numpy(x), braze.from_numpy(random.integers(0, CLASSES, n))


def with_tier(tier, program):
    """Run a program from a fixed seed; what it returns, as a flat array."""
    braze.sync()
    before = braze.config.tier
    braze.config.tier = tier
    try:
        braze.manual_seed(0)
        return np.array(program(), dtype=np.float64)
    finally:
        braze.sync()
        braze.config.tier = before


def check_both(program, rtol=2e-4):
    compiled, interpreted = with_tier("compile", program), with_tier("interpret", program)
    np.testing.assert_allclose(compiled, interpreted, rtol=rtol, atol=1e-5)


def optimizer_of(name, net):
    if name == "sgd":
        return braze.optim.SGD(net.parameters(), lr=0.05)
    if name == "momentum":
        return braze.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return braze.optim.Adam(net.parameters(), lr=1e-2)


def train(net, optimizer, data, scheduler=None):
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss)
    return losses


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_steady_state_is_one_graph_and_one_native_call(name):
    """Adam's corrections, a schedule and a smaller last batch change from step to step; nothing is
    compiled for it."""
    braze.sync()
    before = braze.config.tier
    braze.config.tier = "compile"
    try:
        net = Net()
        optimizer = optimizer_of(name, net)
        scheduler = braze.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        epoch = [8, 8, 8, 5]
        for _ in range(2):
            train(net, optimizer, batches(epoch), scheduler)
        braze.sync()
        compiles, calls = braze.stats.compiles, braze.stats.native_calls
        interpreted, graphs = braze.stats.interpreted, braze.stats.graphs
        steps = 0
        for seed in range(3):
            for x, y in batches(epoch, seed):
                at = braze.stats.native_calls
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                scheduler.step()
                assert braze.stats.native_calls == at + 1
                steps += 1
                del loss
        assert braze.stats.native_calls == calls + steps
        assert braze.stats.compiles == compiles
        assert braze.stats.interpreted == interpreted
        assert braze.stats.graphs == graphs
    finally:
        braze.config.tier = before


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_losses_equal_the_interpreters(name):
    def program():
        net = Net()
        losses = train(net, optimizer_of(name, net), batches([8, 8, 8, 5, 8]))
        net.eval()
        (x, _), *_ = batches([6], seed=7)
        with braze.no_grad():
            return [loss.item() for loss in losses] + [net(x).sum().item()]

    check_both(program)


def test_reading_the_loss_in_every_step():
    def program():
        net = Net()
        optimizer = optimizer_of("adam", net)
        seen = []
        for x, y in batches([8] * 4):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            seen.append(loss.item())  # a sync between forward and backward
            loss.backward()
            optimizer.step()
        return seen

    check_both(program)


def test_gradient_accumulation():
    def program():
        net = Net()
        optimizer = optimizer_of("sgd", net)
        seen = []
        for step, (x, y) in enumerate(batches([4] * 8)):
            loss = F.cross_entropy(net(x), y) / 2
            loss.backward()
            if step % 2:
                optimizer.step()
                optimizer.zero_grad()
            seen.append(loss.item())
        return seen

    check_both(program)


def test_a_branch_on_a_tensors_value():
    def program():
        net = Net()
        optimizer = optimizer_of("sgd", net)
        seen = []
        for x, y in batches([8] * 5):
            optimizer.zero_grad()
            out = net(x)
            loss = F.cross_entropy(out, y)
            if loss > 1.4:
                loss = loss * 2.0 + out.abs().mean()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        return seen

    check_both(program)


def test_a_layer_added_in_mid_training():
    def program():
        net = Net()
        optimizer = optimizer_of("adam", net)
        seen = [loss.item() for loss in train(net, optimizer, batches([8] * 3))]
        net.fc = nn.Sequential(net.fc, nn.ReLU(), nn.Linear(CLASSES, CLASSES))
        optimizer.add_param_group({"params": net.fc[2].parameters()})
        seen += [loss.item() for loss in train(net, optimizer, batches([8] * 3, seed=5))]
        return seen

    check_both(program)


def test_a_tensor_from_another_step_stays_alive():
    def program():
        net = Net()
        optimizer = optimizer_of("sgd", net)
        kept = []
        for x, y in batches([8] * 3):
            optimizer.zero_grad()
            out = net(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            kept.append((out.detach(), net.fc.weight.grad.clone()))
            optimizer.step()
        return [value.abs().sum().item() for pair in kept for value in pair]

    check_both(program)


def test_targets_out_of_range_name_the_line():
    net = Net()
    (x, _), *_ = batches([4])
    loss = F.cross_entropy(net(x), braze.tensor([0, 1, 2, CLASSES]))
    with pytest.raises(
        IndexError, match=r"cross_entropy.*4.*out of range[\s\S]*test_training_loops"
    ):
        loss.item()


@pytest.mark.parametrize("tier", ["compile", "interpret"])
def test_a_failed_check_leaves_the_state_as_it_was(tier):
    before = braze.config.tier
    braze.config.tier = tier
    try:
        net = Net()
        optimizer = optimizer_of("adam", net)
        train(net, optimizer, batches([4]))
        values = [*net.parameters(), *(v for s in optimizer.state.values() for v in s.values())]
        memory = [v for v in values if isinstance(v, braze.Tensor)]
        arrays = [tensor.detach().numpy() for tensor in memory]  # they share the tensors' memory
        before_step = [array.copy() for array in arrays]
        (x, _), *_ = batches([4])
        with pytest.raises(IndexError, match="out of range"):
            train(net, optimizer, [(x, braze.tensor([0, 1, 2, CLASSES]))])
    finally:
        braze.config.tier = before
    for array, reference in zip(arrays, before_step, strict=True):
        np.testing.assert_array_equal(array, reference)
