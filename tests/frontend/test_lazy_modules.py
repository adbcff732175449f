"""Lazy modules, and parameters and buffers without a shape."""

import copy
import pickle

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.nn.modules.lazy import LazyModuleMixin
from braze.nn.uninitialized import is_lazy

pytestmark = pytest.mark.usefixtures("interpret")

LAYERS = {
    "Linear": (lambda kind: kind(2), (4, 3)),
    "Conv1d": (lambda kind: kind(4, 2, groups=2), (2, 4, 5)),
    "Conv2d": (lambda kind: kind(2, 2, bias=False), (2, 3, 4, 4)),
    "Conv3d": (lambda kind: kind(2, 2), (3, 3, 3, 3)),
    "ConvTranspose1d": (lambda kind: kind(4, 2, groups=2), (2, 4, 5)),
    "ConvTranspose2d": (lambda kind: kind(2, 3, 2), (2, 3, 4, 4)),
    "ConvTranspose3d": (lambda kind: kind(2, 2), (3, 3, 2, 2)),
    "BatchNorm1d": (lambda kind: kind(), (4, 3)),
    "BatchNorm2d": (lambda kind: kind(1e-3, affine=False), (4, 3, 2, 2)),
    "BatchNorm3d": (lambda kind: kind(track_running_stats=False), (4, 3, 2, 2, 1)),
    "InstanceNorm1d": (lambda kind: kind(), (4, 3, 5)),
    "InstanceNorm2d": (lambda kind: kind(affine=False), (4, 3, 2, 2)),
    "InstanceNorm3d": (lambda kind: kind(bias=False), (4, 3, 2, 2, 2)),
}


def draw(*shape):
    return braze.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", LAYERS)
def test_the_first_input_gives_the_shapes(name):
    build, shape = LAYERS[name]
    eager = getattr(nn, name)
    layer = build(getattr(nn, f"Lazy{name}"))
    assert layer.has_uninitialized_params()
    assert repr(layer).startswith(f"Lazy{name}(")
    # As the eager layer does, it draws its first values from the generator, in the same order.
    x = draw(*shape)
    braze.manual_seed(5)
    found = layer(x)
    assert type(layer) is eager and not hasattr(layer, "cls_to_become")
    assert not layer._forward_pre_hooks and not layer._load_state_dict_pre_hooks
    braze.manual_seed(5)
    if name == "Linear":
        same = nn.Linear(3, 2)
    elif "Conv" in name:
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
        same = eager(*sizes, groups=layer.groups, bias=layer.bias is not None)
    else:
        words = ("eps", "affine", "track_running_stats")
        settings = {word: getattr(layer, word) for word in words}
        same = eager(3, **settings, bias=layer.bias is not None)
    assert repr(same) == repr(layer)
    np.testing.assert_array_equal(same(x).detach().numpy(), found.detach().numpy())


def test_a_lazy_network_is_trained_like_another():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
    x, target = draw(3, 2, 5, 5), braze.tensor([0, 1, 0])
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert [tuple(p.shape) for p in model.parameters()] == [(4, 2, 3, 3), (4,), (2, 36), (2,)]


def test_the_dtype_can_change_before_the_shape_is_known():
    layer = nn.LazyBatchNorm1d().double()
    kinds = {name: tensor.dtype for name, tensor in layer.state_dict().items()}
    assert kinds.pop("num_batches_tracked") is braze.int64
    assert set(kinds.values()) == {braze.float64}
    assert layer(draw(4, 3).double()).dtype is braze.float64
    assert nn.LazyLinear(2, dtype=braze.float64)(draw(1, 3).double()).dtype is braze.float64


def test_state_is_loaded_into_lazy_modules_and_out_of_them():
    source = nn.Sequential(nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4))
    x = draw(2, 3, 6)
    source(x)
    model = nn.Sequential(nn.LazyConv1d(4, 2), nn.LazyBatchNorm1d())
    empty = model.state_dict()
    assert all(map(is_lazy, list(empty.values())[:6]))
    assert list(empty) == list(source.state_dict())
    model.load_state_dict(empty)
    assert model[0].has_uninitialized_params()
    model.load_state_dict(source.state_dict())
    assert not model[0].has_uninitialized_params()
    found, expected = model.eval()(x), source.eval()(x)
    np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
    assert repr(model) == repr(source)
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized"):
        source[0].load_state_dict(nn.LazyConv1d(4, 2).state_dict())
    part = nn.LazyLinear(2)
    part.load_state_dict({"weight": braze.zeros(2, 3)}, strict=False)
    with pytest.raises(AssertionError, match="some of the module's parameters only"):
        part(draw(1, 3))
    other = nn.LazyLinear(2)
    other.load_state_dict(nn.Linear(5, 2).state_dict())
    with pytest.raises(AssertionError, match="in_features inferred from input: 3 is not equal"):
        other(draw(1, 3))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_lazy_too(way):
    original = nn.LazyLinear(2)
    copied = way(original)
    copied(draw(1, 3))
    assert type(copied) is nn.Linear and copied.weight.shape == (2, 3)
    assert type(original) is nn.LazyLinear and original.has_uninitialized_params()
    assert original(draw(1, 4)).shape == (1, 2)
    for kind in (nn.UninitializedParameter, nn.UninitializedBuffer):
        made = way(kind(False, dtype=braze.float64))
        assert type(made) is kind and made.dtype is braze.float64 and not made.requires_grad


def test_what_a_tensor_without_a_shape_can_do():
    parameter = nn.UninitializedParameter()
    assert repr(parameter) == "<UninitializedParameter>"
    assert parameter.requires_grad and parameter.is_leaf and parameter.data.shape == (0,)
    assert parameter.double().dtype is braze.float64
    parameter.materialize((2, 3), dtype=braze.float64)
    assert type(parameter) is nn.Parameter and parameter.dtype is braze.float64
    (braze.ones(2, 3, dtype=braze.float64) * parameter).sum().backward()
    assert parameter.grad.tolist() == [[1.0] * 3] * 2
    assert nn.parameter.is_lazy is is_lazy and not is_lazy(parameter)
    buffer = nn.UninitializedBuffer(persistent=False)
    assert not buffer.requires_grad and not buffer.persistent
    buffer.materialize((2,))
    assert type(buffer) is braze.Tensor and buffer.shape == (2,)


def test_errors():
    parameter, layer = nn.UninitializedParameter(), nn.LazyConv2d(4, 2, groups=2)
    for error, text, call in (
        (ValueError, "uninitialized parameter in numel", lambda: parameter.numel()),
        (ValueError, "uninitialized parameter in an operation", lambda: parameter + 1),
        (ValueError, "uninitialized parameter in an operation", lambda: F.relu(parameter)),
        (ValueError, "uninitialized parameter in __getitem__", lambda: parameter[0]),
        (RuntimeError, "Can't access the shape", lambda: parameter.shape),
        (RuntimeError, "Can't share memory", lambda: layer.share_memory()),
        (
            RuntimeError,
            "can require gradients",
            lambda: nn.UninitializedParameter(dtype=braze.int64),
        ),
        (ValueError, "in_channels must be divisible", lambda: layer(braze.zeros(1, 3, 4, 4))),
        (RuntimeError, r"Expected 3D \(unbatched\) or 4D", lambda: layer(braze.zeros(4))),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()
    # What failed left nothing behind.
    assert layer(braze.zeros(1, 2, 4, 4)).shape == (1, 4, 3, 3)


def test_a_module_of_ones_own():
    class Scale(LazyModuleMixin, nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.UninitializedParameter()

        def initialize_parameters(self, x, size=None):
            self.weight.materialize((size or x.shape[-1],))
            nn.init.ones_(self.weight)

        def forward(self, x, size=None):
            return x * self.weight

    assert Scale()(braze.ones(2, 3)).tolist() == [[1.0] * 3] * 2
    assert Scale()(braze.ones(2, 3), size=1).shape == (2, 3)
    made = Scale()
    made.initialize_parameters = lambda x: None
    with pytest.raises(RuntimeError, match="module Scale has not been fully initialized"):
        made(braze.ones(2))
    del Scale.initialize_parameters
    with pytest.raises(NotImplementedError, match="not implemented for Scale"):
        Scale()(braze.ones(2))
