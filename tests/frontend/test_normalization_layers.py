"""Normalisation beside batch normalisation, against NumPy; states of early programs; errors."""

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(found, expected, **tolerance):
    np.testing.assert_allclose(found.detach().numpy(), expected, **{"atol": 1e-9} | tolerance)


# Instance normalisation ---------------------------------------------------------------------------


def normalised(x, epsilon=1e-5):
    axes = tuple(range(2, x.ndim))
    spread = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return (x - x.mean(axes, keepdims=True)) / spread


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_instance_norm(rank):
    x = draw(2, 3, *(5, 4, 2)[:rank])
    layer = getattr(nn, f"InstanceNorm{rank}d")
    close(layer(3)(braze.tensor(x)), normalised(x))
    close(layer(3).eval()(braze.tensor(x)), normalised(x))
    close(layer(3)(braze.tensor(x[0])), normalised(x)[0])
    affine = layer(3, affine=True).double()
    with braze.no_grad():
        affine.weight.copy_(braze.tensor([1.0, 2, 3]))
        affine.bias.copy_(braze.tensor([4.0, 5, 6]))
    shape = (3, *(1,) * rank)
    expected = normalised(x) * np.reshape([1, 2, 3], shape) + np.reshape([4, 5, 6], shape)
    close(affine(braze.tensor(x)), expected)
    assert layer(3, affine=True, bias=False).bias is None


def test_instance_norm_statistics():
    layer = nn.InstanceNorm1d(3, momentum=0.3, track_running_stats=True).double()
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(2):
        x = draw(4, 3, 6, seed=seed) + 2
        close(layer(braze.tensor(x)), normalised(x))
        mean = 0.7 * mean + 0.3 * x.mean((0, 2))
        variance = 0.7 * variance + 0.3 * x.var(2, ddof=1).mean(0)
    close(layer.running_mean, mean)
    close(layer.running_var, variance)
    assert layer.num_batches_tracked.item() == 0  # as in PyTorch, which counts batches only there
    layer.eval()
    expected = (x - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
    close(layer(braze.tensor(x)), expected)


def test_instance_norm_errors():
    with pytest.raises(ValueError, match="expected 3D or 4D input"):
        nn.InstanceNorm2d(3)(braze.zeros(2, 3))
    with pytest.raises(ValueError, match=r"match num_features \(4\), but got: 3"):
        nn.InstanceNorm2d(4, affine=True)(braze.zeros(2, 3, 2, 2))
    with pytest.warns(UserWarning, match="does not match num_features"):
        nn.InstanceNorm2d(4)(braze.zeros(2, 3, 2, 2))
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        nn.InstanceNorm1d(3)(braze.zeros(2, 3, 1))


# Over channels, and by the root mean square -------------------------------------------------------


def response(x, before, after, size, alpha, beta, k):
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(c - before, 0) : c + after + 1]
        out[:, c] = x[:, c] / (k + alpha / size * (window**2).sum(1)) ** beta
    return out


def test_local_response_norm():
    for shape in [(2, 6, 3), (1, 5, 2, 3), (1, 3, 2, 1, 2)]:
        x = draw(*shape)
        for size in (1, 2, 3, 8):
            expected = response(x, size // 2, (size - 1) // 2, size, 0.5, 0.6, 2.0)
            close(F.local_response_norm(braze.tensor(x), size, 0.5, 0.6, 2.0), expected)
    layer = nn.LocalResponseNorm(3, alpha=0.2)
    close(layer(braze.tensor(x)), response(x, 1, 1, 3, 0.2, 0.75, 1.0))
    assert repr(layer) == "LocalResponseNorm(3, alpha=0.2, beta=0.75, k=1.0)"
    x = braze.tensor(draw(1, 4, 3), requires_grad=True)
    f = lambda x: F.local_response_norm(x, 3, 0.5)  # noqa: E731
    assert gradcheck(f, x) and gradgradcheck(f, x)
    with pytest.raises(ValueError, match="3D or higher"):
        f(braze.zeros(2, 3))


def test_cross_map_windows_are_symmetric():
    x = draw(2, 6, 2, 2)
    for size, side in [(3, 1), (4, 1), (5, 2)]:
        layer = nn.CrossMapLRN2d(size, 0.5, 0.7, 2)
        close(layer(braze.tensor(x)), response(x, side, side, size, 0.5, 0.7, 2))
    with pytest.raises(ValueError, match="Expected input to be 4D, got 3D"):
        layer(braze.zeros(2, 3, 4))


def test_rms_norm():
    x = draw(2, 3, 4)
    layer = nn.RMSNorm((3, 4), eps=0.1).double()
    with braze.no_grad():
        layer.weight.copy_(braze.arange(12).reshape(3, 4))
    expected = x / np.sqrt((x**2).mean((1, 2), keepdims=True) + 0.1) * np.arange(12).reshape(3, 4)
    close(layer(braze.tensor(x)), expected)
    assert nn.RMSNorm(4, elementwise_affine=False).weight is None
    layer.reset_parameters()
    assert layer.weight.tolist() == [[1.0] * 4] * 3
    assert repr(layer) == "RMSNorm((3, 4), eps=0.1, elementwise_affine=True)"


def test_normalize():
    x = draw(3, 4, 2)
    close(F.normalize(braze.tensor(x)), x / np.sqrt((x**2).sum(1, keepdims=True)))
    close(F.normalize(braze.tensor(x), 1, (0, 2)), x / np.abs(x).sum((0, 2), keepdims=True))
    close(F.normalize(braze.tensor(x), eps=100.0), x / 100)
    out = braze.empty(3, 4, 2, dtype=braze.float64)
    assert F.normalize(braze.tensor(x), dim=0, out=out) is out
    close(out, x / np.sqrt((x**2).sum(0, keepdims=True)))
    assert F.normalize(braze.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


# Synchronised batch normalisation -----------------------------------------------------------------


def test_sync_batch_norm_of_one_process_is_batch_norm():
    x = braze.tensor(draw(4, 3, 5))
    one, other = nn.SyncBatchNorm(3, momentum=None).double(), nn.BatchNorm1d(3, momentum=None)
    other.double()
    for batch in (x, x * 2 + 1):
        close(one(batch), other(batch).detach().numpy(), rtol=1e-12)
    for name, value in other.state_dict().items():
        close(one.state_dict()[name], value.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="at least 2D"):
        one(braze.zeros(3))


def test_convert_sync_batch_norm():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3, affine=False)))
    norm = nn.BatchNorm2d(3, momentum=0.3).eval()
    net.add_module("norm", norm)
    assert nn.SyncBatchNorm.convert_sync_batchnorm(net) is net
    assert isinstance(net[1][0], nn.SyncBatchNorm) and isinstance(net.norm, nn.SyncBatchNorm)
    assert net.norm.weight is norm.weight and net.norm.running_var is norm.running_var
    assert not net.norm.training and net[1][0].training and net[1][0].weight is None
    assert net.norm.momentum == 0.3


# States and settings ------------------------------------------------------------------------------


def test_states_without_counts_load_where_they_were_saved_before_there_were_any():
    layer = nn.BatchNorm1d(3)
    layer(braze.tensor(draw(4, 3), dtype=braze.float32))
    state = layer.state_dict()
    del state["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        layer.load_state_dict(state)
    layer.load_state_dict(dict(state))  # a plain dictionary has no version
    assert layer.num_batches_tracked.item() == 1
    with pytest.raises(RuntimeError, match="Unexpected running stats"):
        nn.InstanceNorm1d(3).load_state_dict(dict(state))


def test_keys_of_what_a_layer_lacks_are_unexpected():
    state = nn.LayerNorm(3).state_dict()
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "bias"'):
        nn.LayerNorm(3, bias=False).load_state_dict(state)


def test_settings_are_printed_as_pytorch_prints_them():
    assert repr(nn.BatchNorm2d(3, bias=False)) == (
        "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=False, track_running_stats=True)"
    )
    assert repr(nn.LayerNorm(3)) == (
        "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)"
    )
    assert repr(nn.GroupNorm(1, 2, bias=False)) == (
        "GroupNorm(1, 2, eps=1e-05, affine=True, bias=False)"
    )


def test_statistics_of_single_numbers_are_refused():
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*\[1, 3\]"):
        nn.BatchNorm1d(3)(braze.zeros(1, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.group_norm(braze.zeros(1, 4, 1), 4)
    with pytest.raises(ValueError, match="eps must be positive"):
        F.batch_norm(braze.zeros(2, 3), None, None, training=True, eps=0.0)


def test_compiled():
    x = draw(2, 6, 4, 4).astype(np.float32)
    net = nn.Sequential(nn.InstanceNorm2d(6), nn.LocalResponseNorm(3, 0.5), nn.RMSNorm(4))
    with braze.config.using(tier="compile"):
        found = net(braze.tensor(x)).detach().numpy()
    y = response(normalised(x), 1, 1, 3, 0.5, 0.75, 1.0)
    expected = y / np.sqrt((y**2).mean(-1, keepdims=True) + np.finfo(np.float32).eps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
