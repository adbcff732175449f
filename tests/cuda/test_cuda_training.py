"""Training on CUDA devices takes the steps that it takes on the CPU."""

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn

GPU = "cuda:0"
several = pytest.mark.skipif(braze.cuda.device_count() < 3, reason="needs three GPUs")

OPTIMIZERS = {
    "SGD": lambda p: braze.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: braze.optim.Adam(p, 0.01),
    "AdamW": lambda p: braze.optim.AdamW(p, 0.01, amsgrad=True),
    "RMSprop": lambda p: braze.optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: braze.optim.Adagrad(p, 0.05),
    "Adadelta": lambda p: braze.optim.Adadelta(p, 1.0),
    "Adamax": lambda p: braze.optim.Adamax(p, 0.01),
    "NAdam": lambda p: braze.optim.NAdam(p, 0.01),
    "RAdam": lambda p: braze.optim.RAdam(p, 0.01),
    "Rprop": lambda p: braze.optim.Rprop(p, 0.01),
    "ASGD": lambda p: braze.optim.ASGD(p, 0.05),
    "Adafactor": lambda p: braze.optim.Adafactor(p, 0.01),
}


def net_of(seed=0):
    braze.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def losses(device, make, steps=4, net=None):
    net = (net or net_of()).to(device)
    optimizer = make(net.parameters())
    braze.manual_seed(1)
    x, y = braze.randn(8, 6).to(device), braze.arange(8).to(device) % 3
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, braze.Tensor) and value.ndim:
                assert str(value.device) == device
    assert all(str(p.device) == device for p in net.parameters())
    return found, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_take_the_steps_of_the_cpu(name):
    there, _ = losses(GPU, OPTIMIZERS[name])
    np.testing.assert_allclose(there, losses("cpu", OPTIMIZERS[name])[0], rtol=1e-4)


def test_an_optimizers_state_follows_the_parameters():
    net = net_of().to(GPU)
    _, optimizer = losses(GPU, OPTIMIZERS["Adam"], net=net)
    saved = optimizer.state_dict()
    own = braze.optim.Adam(net_of().parameters(), 0.01)
    own.load_state_dict(saved)
    for state in own.state.values():
        assert str(state["exp_avg"].device) == "cpu"
    again = braze.optim.Adam(net.parameters(), 0.01)
    again.load_state_dict(own.state_dict())
    for p, state in again.state.items():
        assert state["exp_avg"].is_cuda
        np.testing.assert_array_equal(state["exp_avg"].cpu(), optimizer.state[p]["exp_avg"].cpu())


class Digits(nn.Module):
    """The network of the MNIST examples."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 8, 3)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(200, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout(x).flatten(1)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


def test_the_mnist_examples_curve_is_that_of_the_cpu():
    random = np.random.default_rng(2)
    images = random.uniform(0, 1, (5, 8, 1, 14, 14)).astype(np.float32)
    labels = random.integers(0, 10, (5, 8))

    def curve(device):
        braze.manual_seed(4)
        model = Digits().to(device)
        optimizer = braze.optim.Adadelta(model.parameters(), lr=1.0)
        braze.manual_seed(5)
        found = []
        for _ in range(2):
            for image, label in zip(images, labels, strict=True):
                data = braze.from_numpy(image).to(device)
                target = braze.from_numpy(label).to(device)
                optimizer.zero_grad()
                loss = F.nll_loss(model(data), target)
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        model.eval()
        with braze.no_grad():
            right = model(data).argmax(1).eq(target).sum().item()
        return found, right

    there, here = curve(GPU), curve("cpu")
    np.testing.assert_allclose(there[0], here[0], rtol=1e-4)
    assert there[1] == here[1]


MODULES = {
    "batch norm": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()
    ),
    "lstm": lambda: nn.LSTM(2, 3, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(2, 3),
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
    "embedding": lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)),
    "norms": lambda: nn.Sequential(nn.LayerNorm(4), nn.PReLU(), nn.GroupNorm(2, 6)),
}
INPUTS = {
    "batch norm": (2, 2, 6, 6), "lstm": (4, 2, 2), "gru": (4, 2, 2), "encoder": (2, 6, 4),
    "norms": (3, 6, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_compute_what_they_compute_on_the_cpu(name):
    braze.manual_seed(0)
    net = MODULES[name]()
    there = MODULES[name]().to(GPU)
    there.load_state_dict(net.state_dict())
    shape = INPUTS.get(name)
    x = braze.arange(6).reshape(2, 3) % 5 if shape is None else braze.randn(shape)

    def run(net, x):
        result = net(x)
        result = result[0] if isinstance(result, tuple) else result
        (
            result * braze.arange(result.numel(), device=x.device).reshape(result.shape)
        ).sum().backward()
        return result

    np.testing.assert_allclose(
        run(there, x.to(GPU)).detach().cpu(), run(net, x).detach(), rtol=1e-4, atol=1e-5
    )
    for a, b in zip(there.parameters(), net.parameters(), strict=True):
        scale = float(b.grad.abs().max()) + 1e-3
        np.testing.assert_allclose(a.grad.cpu(), b.grad, rtol=1e-3, atol=1e-4 * scale)
    for a, b in zip(there.buffers(), net.buffers(), strict=True):
        assert a.is_cuda
        np.testing.assert_allclose(a.cpu(), b, rtol=1e-5)


def test_modules_move_with_all_that_they_have():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net(braze.ones(3, 2)).sum().backward()
    parameters = list(net.parameters())
    assert net.cuda() is net and list(net.parameters()) == parameters
    assert all(t.is_cuda for t in (*net.parameters(), *net.buffers()))
    assert all(p.grad.is_cuda and p.is_leaf for p in net.parameters())
    net.cpu()
    assert not any(t.is_cuda for t in (*net.parameters(), *net.buffers()))
    net.to(GPU, braze.float64)
    assert net[0].weight.dtype is braze.float64 and net[0].weight.is_cuda
    made = nn.Sequential(nn.Linear(2, 2, device=GPU), nn.BatchNorm1d(2, device=GPU))
    assert all(t.is_cuda for t in (*made.parameters(), *made.buffers()))
    assert float(made[0].weight.abs().max()) > 0  # it was initialised


@several
def test_data_parallel_on_three_gpus():
    braze.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).eval()
    there = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).eval()
    there.load_state_dict(net.state_dict())
    seen = []
    there[0].register_forward_hook(lambda m, i, o: seen.append((str(o.device), len(o))))
    parallel = nn.DataParallel(there.to(GPU), device_ids=[0, 1, 2])
    x = braze.randn(8, 4)
    result = parallel(x.to(GPU))
    assert str(result.device) == GPU
    assert seen == [("cuda:0", 3), ("cuda:1", 3), ("cuda:2", 2)]
    np.testing.assert_allclose(result.detach().cpu(), net(x).detach(), rtol=1e-5, atol=1e-6)
    result.pow(2).sum().backward()
    net(x).pow(2).sum().backward()
    for a, b in zip(there.parameters(), net.parameters(), strict=True):
        assert str(a.grad.device) == GPU
        np.testing.assert_allclose(a.grad.cpu(), b.grad, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="found one of them on device: cpu"):
        nn.DataParallel(nn.Linear(4, 2))(x)
    wrong = nn.DataParallel(nn.Linear(3, 2).cuda())
    with pytest.raises(RuntimeError, match="replica 0 on device cuda:0"):
        wrong(x.cuda())


def test_mixed_precision():
    x, w = braze.ones(4, 4, device=GPU), braze.ones(4, 4, device=GPU)
    with braze.autocast("cuda"):
        assert (x @ w).dtype is braze.float16 and (x + w).dtype is braze.float32
        assert (x.cpu() @ w.cpu()).dtype is braze.float32
        assert F.mse_loss(x.half(), w.half()).dtype is braze.float32
    with braze.autocast("cuda", dtype=braze.bfloat16):
        assert F.linear(x, w).dtype is braze.bfloat16
    with braze.autocast("cpu"):
        assert (x @ w).dtype is braze.float32
    net = net_of().to(GPU)
    optimizer = braze.optim.SGD(net.parameters(), 0.1)
    scaler = braze.amp.GradScaler("cuda", init_scale=4.0, growth_interval=2)
    found = []
    for step in range(4):
        optimizer.zero_grad()
        with braze.autocast("cuda"):
            loss = F.cross_entropy(
                net(braze.ones(3, 6, device=GPU)), braze.zeros(3, device=GPU).long()
            )
        if step == 2:
            loss = loss * float("inf")
        before = net[0].weight.detach().clone()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append((scaler.get_scale(), not braze.equal(before, net[0].weight)))
    assert found == [(4.0, True), (8.0, True), (4.0, False), (4.0, True)]


def test_a_compiled_module_runs_there():
    net = net_of().to(GPU)
    compiled = braze.compile(net)
    x = braze.randn(3, 6, device=GPU)
    for _ in range(3):
        np.testing.assert_allclose(compiled(x).detach().cpu(), net(x).detach().cpu(), rtol=1e-5)
