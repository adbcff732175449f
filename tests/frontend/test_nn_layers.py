"""Layers with state or random starts: initialisation, batch normalisation, convolution settings."""

import math

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import engine, nn

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# Initialisation -----------------------------------------------------------------------------------


def values(tensor):
    return tensor.detach().numpy()


def test_default_starts_are_distributed_as_pytorchs():
    braze.manual_seed(0)
    for layer, fan_in in [
        (nn.Linear(50, 400), 50),
        (nn.Conv2d(8, 64, 3), 72),
        (nn.Conv1d(8, 64, 5, groups=2), 20),
    ]:
        bound = 1 / math.sqrt(fan_in)
        for parameter in (layer.weight, layer.bias):
            array = values(parameter)
            assert np.abs(array).max() <= bound * 1.00001
            assert np.abs(array).max() > 0.85 * bound
            assert abs(array.mean()) < 0.2 * bound
        assert abs(values(layer.weight).std() / (bound / math.sqrt(3)) - 1) < 0.05
    table = nn.Embedding(100, 50, padding_idx=3)
    assert abs(values(table.weight).std() - 1) < 0.05
    assert table.weight[3].tolist() == [0.0] * 50


def test_starts_follow_the_seed():
    braze.manual_seed(3)
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    assert not braze.equal(first.weight, second.weight)
    braze.manual_seed(3)
    assert braze.equal(nn.Linear(3, 3).weight, first.weight)


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: nn.init.uniform_(t, -2, 2), 4 / math.sqrt(12)),
        (lambda t: nn.init.normal_(t, 0, 0.5), 0.5),
        (nn.init.xavier_uniform_, math.sqrt(2 / 500)),
        (lambda t: nn.init.xavier_normal_(t, 2.0), 2 * math.sqrt(2 / 500)),
        (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(2 / 200)),
        (lambda t: nn.init.kaiming_normal_(t, mode="fan_out"), math.sqrt(2 / 300)),
        (lambda t: nn.init.trunc_normal_(t, 0, 1, -1, 1), 0.5396),
    ],
)
def test_random_fills(fill, std):
    braze.manual_seed(0)
    tensor = nn.Parameter(braze.empty(300, 200))
    assert fill(tensor) is tensor and tensor.is_leaf and tensor.requires_grad
    array = values(tensor)
    assert abs(array.mean()) < 0.02 * std + 1e-3
    assert abs(array.std() / std - 1) < 0.02


def test_exact_fills():
    assert nn.init.constant_(braze.empty(2), 3.0).tolist() == [3.0, 3.0]
    assert nn.init.ones_(braze.empty(2, dtype=braze.int64)).tolist() == [1, 1]
    assert nn.init.zeros_(braze.ones(2)).tolist() == [0.0, 0.0]
    assert nn.init.eye_(braze.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    x = braze.tensor(draw(2, 4, 5), dtype=braze.float32)
    passed = F.conv1d(x, nn.init.dirac_(braze.empty(4, 4, 3)), padding=1)
    np.testing.assert_allclose(passed.numpy(), x.numpy(), rtol=1e-6)
    for shape in [(5, 3), (3, 5), (4, 2, 2)]:
        array = values(nn.init.orthogonal_(braze.empty(*shape), gain=2.0)).reshape(shape[0], -1)
        small = array @ array.T if array.shape[0] <= array.shape[1] else array.T @ array
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)
    cut = values(nn.init.trunc_normal_(braze.empty(5000), 1.0, 2.0, 0.0, 1.5))
    assert 0.0 <= cut.min() < 0.01 and 1.49 < cut.max() <= 1.5


def test_starts_are_part_of_the_graph():
    braze.manual_seed(0)
    braze.sync()
    before = engine.stats.graphs
    square = nn.init.orthogonal_(braze.empty(30, 40))
    with pytest.warns(UserWarning, match="mean is more than 2 std from"):
        tail = nn.init.trunc_normal_(braze.empty(4000), 0.0, 1.0, 5.0, 5.5)
        mirrored = nn.init.trunc_normal_(braze.empty(4000), 0.0, 1.0, -5.5, -5.0)
    holes = nn.init.sparse_(braze.empty(40, 30, dtype=braze.float64), 0.25, std=2.0)
    assert engine.stats.graphs == before  # nothing ran so far
    np.testing.assert_allclose(values(square @ square.T), np.eye(30), atol=1e-5)
    # The mean of what lies that far out is known from the density at both ends.
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (5.0, 5.5)]
    part = (math.erfc(5.0 / math.sqrt(2)) - math.erfc(5.5 / math.sqrt(2))) / 2
    mean = (density[0] - density[1]) / part
    for drawn, sign in ((tail, 1), (mirrored, -1)):
        array = sign * values(drawn)
        assert 5.0 <= array.min() and array.max() <= 5.5 and abs(array.mean() - mean) < 0.01
    zeros = values(holes) == 0
    assert zeros.sum(0).tolist() == [10] * 30 and len(set(map(bytes, zeros.T))) > 20
    assert abs(values(holes)[~zeros].std() / 2 - 1) < 0.1


def test_old_names_of_starts_warn():
    with pytest.warns(FutureWarning, match="`nn.init.constant` is now deprecated in favor of"):
        assert nn.init.constant(braze.empty(2), 3.0).tolist() == [3.0, 3.0]
    assert nn.init.xavier_normal.__name__ == "xavier_normal"
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
        nn.init.kaiming_uniform_(braze.empty(0, 3))
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions are supported"):
        nn.init.sparse_(braze.empty(2), 0.5)


def test_gains_and_errors():
    assert nn.init.calculate_gain("relu") == math.sqrt(2)
    assert nn.init.calculate_gain("leaky_relu", 0.5) == math.sqrt(2 / 1.25)
    assert nn.init.calculate_gain("tanh") == 5 / 3 and nn.init.calculate_gain("linear") == 1
    with pytest.raises(ValueError, match="Unsupported nonlinearity nothing"):
        nn.init.calculate_gain("nothing")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_uniform_(braze.empty(3))
    with pytest.raises(ValueError, match="Mode sideways not supported"):
        nn.init.kaiming_normal_(braze.empty(3, 3), mode="sideways")


# Batch normalisation ------------------------------------------------------------------------------


def test_batch_norm_statistics():
    layer = nn.BatchNorm2d(3, momentum=0.2)
    mean, variance = np.zeros(3), np.ones(3)
    for step in range(3):
        x = draw(4, 3, 5, 5, seed=step) * 2 + 1
        y = layer(braze.tensor(x, dtype=braze.float32))
        flat = x.transpose(1, 0, 2, 3).reshape(3, -1)
        mean = 0.8 * mean + 0.2 * flat.mean(1)
        variance = 0.8 * variance + 0.2 * flat.var(1, ddof=1)
        np.testing.assert_allclose(values(y).mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(values(y).std((0, 2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(values(layer.running_mean), mean, rtol=1e-4)
    np.testing.assert_allclose(values(layer.running_var), variance, rtol=1e-4)
    assert layer.num_batches_tracked.item() == 3
    assert not layer.running_mean.requires_grad
    layer.eval()
    expected = (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    found = layer(braze.tensor(x, dtype=braze.float32))
    np.testing.assert_allclose(values(found), expected, rtol=1e-3, atol=1e-4)
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1.0] * 3 and layer.num_batches_tracked.item() == 0


def test_batch_norm_plain_average_and_without_statistics():
    layer = nn.BatchNorm1d(2, momentum=None, affine=False)
    batches = [draw(6, 2, seed=i) for i in range(3)]
    for x in batches:
        layer(braze.tensor(x, dtype=braze.float32))
    means = np.mean([x.mean(0) for x in batches], 0)
    np.testing.assert_allclose(values(layer.running_mean), means, rtol=1e-4, atol=1e-6)
    bare = nn.BatchNorm1d(2, track_running_stats=False).eval()
    assert bare.running_mean is None and "running_mean" not in bare.state_dict()
    y = bare(braze.tensor(batches[0], dtype=braze.float32))
    np.testing.assert_allclose(values(y).mean(0), 0, atol=1e-6)


def test_batch_norm_trains_as_one_graph_with_its_statistics_in_place():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = braze.optim.SGD(net.parameters(), 0.1)
    storage = None
    for step in range(4):
        if step == 1:
            storage = net[1].running_mean._handle.storage
            braze.stats.reset()
        optimizer.zero_grad()
        net(braze.tensor(draw(8, 4, seed=step), dtype=braze.float32)).sum().backward()
        optimizer.step()
    assert braze.stats.graphs == 0 and braze.stats.interpreted + braze.stats.native_calls == 3
    assert net[1].running_mean._handle.storage is storage
    assert net[1].num_batches_tracked.item() == 4


def test_batch_norm_against_torch():
    torch = pytest.importorskip("torch")
    mine, other = nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    for step in range(3):
        array = draw(4, 3, 5, 5, seed=step).astype(np.float32)
        x, y = braze.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        (mine(x) ** 3).sum().backward()
        (other(y) ** 3).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-3, atol=1e-4)
    for name, value in other.state_dict().items():
        np.testing.assert_allclose(mine.state_dict()[name].numpy(), value.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        mine.weight.grad.numpy(), other.weight.grad.numpy(), rtol=1e-4, atol=1e-3
    )


def test_normalisation_errors():
    with pytest.raises(ValueError, match=r"expected 4D input \(got 2D input\)"):
        nn.BatchNorm2d(3)(braze.zeros(2, 3))
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        nn.BatchNorm1d(3)(braze.zeros(3))
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        nn.GroupNorm(2, 3)


# Convolutions and the rest ------------------------------------------------------------------------


def test_convolution_layers_follow_their_settings():
    x = braze.tensor(draw(2, 4, 7, 7), dtype=braze.float32)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=2)
    assert layer.weight.shape == (6, 2, 3, 3) and layer(x).shape == (2, 6, 4, 4)
    assert nn.Conv2d(4, 4, 4, padding="same")(x).shape == (2, 4, 7, 7)
    assert nn.Conv2d(4, 4, 3)(x[0]).shape == (4, 5, 5)
    assert nn.Conv3d(2, 3, (1, 2, 3))(braze.zeros(1, 2, 4, 4, 4)).shape == (1, 3, 4, 3, 2)
    assert nn.Conv1d(2, 3, 3, bias=False).bias is None
    circular = nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="wrap")
    expected = F.conv2d(braze.tensor(padded), circular.weight, circular.bias)
    np.testing.assert_allclose(values(circular(x)), values(expected), rtol=1e-5, atol=1e-6)
    assert "padding_mode=circular" in repr(circular)


def test_convolution_errors():
    for settings, text in [
        ((4, 6, 3, 1, 0, 1, 3), "in_channels must be divisible by groups"),
        ((4, 6, 3, 1, 0, 1, 4), "out_channels must be divisible by groups"),
        ((4, 6, 3, 1, 0, 1, 0), "groups must be a positive integer"),
        ((4, 6, 3, 1, "full"), "Invalid padding string"),
        ((4, 6, 3, 2, "same"), "not supported for strided"),
        ((4, 6, 3, 1, 0, 1, 1, True, "odd"), "padding_mode must be one of"),
    ]:
        with pytest.raises(ValueError, match=text):
            nn.Conv2d(*settings)
    with pytest.raises(TypeError, match="kernel_size must be an int"):
        nn.Conv2d(4, 6, 1.5)
    with pytest.raises(RuntimeError, match="kernel_size needs 2 numbers"):
        nn.Conv2d(4, 6, (3, 3, 3))


def test_a_layers_call_is_looked_up_not_made():
    layer = nn.Conv2d(1, 2, 3, padding=1)
    x = braze.zeros(1, 1, 5, 5)
    assert layer(x).grad_fn.call is layer(x).grad_fn.call


def test_shape_layers_and_wrappers():
    x = braze.arange(24).float().reshape(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Unflatten(1, (3, 1))(x).shape == (2, 3, 1, 4)
    assert nn.Identity(1, some=2)(x) is x
    assert nn.MaxPool2d(2)(x).shape == (2, 1, 2) and nn.AvgPool1d(2)(x).shape == (2, 3, 2)
    assert nn.AdaptiveAvgPool2d((1, None))(x).shape == (2, 1, 4)
    assert nn.Bilinear(4, 4, 5)(x, x).shape == (2, 3, 5)
    assert nn.LayerNorm(4)(x).shape == x.shape and nn.GroupNorm(3, 3)(x).shape == x.shape
    assert nn.LayerNorm(4, bias=False).bias is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Mish, nn.Hardsigmoid, nn.Hardswish, nn.LeakyReLU,
        nn.ELU, nn.Hardtanh, nn.GELU, nn.Softplus, nn.PReLU, nn.GLU, nn.Sigmoid, nn.Tanh,
        nn.LogSigmoid, nn.Softsign, nn.Tanhshrink,
    ],
)  # fmt: skip
def test_activation_layers_against_torch(layer):
    torch = pytest.importorskip("torch")
    array = draw(3, 4).astype(np.float32) * 3
    expected = getattr(torch.nn, layer.__name__)()(torch.tensor(array)).detach().numpy()
    found = layer()(braze.tensor(array))
    np.testing.assert_allclose(values(found), expected, rtol=2e-5, atol=1e-6)
    text = repr(getattr(torch.nn, layer.__name__)())
    assert repr(layer()) == text


def test_losses_as_modules():
    x, t = braze.tensor(draw(5, 3)), braze.tensor([0, 2, 1, 1, 0])
    weight = braze.tensor([1.0, 2.0, 3.0], dtype=braze.float64)
    criterion = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1, ignore_index=1)
    expected = F.cross_entropy(x, t, weight, label_smoothing=0.1, ignore_index=1)
    assert criterion(x, t).item() == expected.item() and "weight" in criterion.state_dict()
    logs = F.log_softmax(x, 1)
    summed = F.nll_loss(logs, t, reduction="sum").item()
    assert nn.NLLLoss(reduction="sum")(logs, t).item() == summed
    y = braze.tensor(draw(5, 3, seed=1))
    assert nn.MSELoss()(x, y).item() == F.mse_loss(x, y).item()
    assert nn.L1Loss(reduction="none")(x, y).shape == (5, 3)
    assert nn.SmoothL1Loss(beta=0.5)(x, y).item() == F.smooth_l1_loss(x, y, beta=0.5).item()
    assert nn.HuberLoss(delta=2.0)(x, y).item() == F.huber_loss(x, y, delta=2.0).item()
    p = F.sigmoid(y)
    direct = nn.BCELoss()(F.sigmoid(x), p).item()
    assert nn.BCEWithLogitsLoss()(x, p).item() == pytest.approx(direct)
    assert nn.KLDivLoss(reduction="batchmean")(logs, F.softmax(y, 1)).item() > 0
