"""Weights that are computed from others: normalised, orthogonal, fused, and one's own."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import engine, nn
from braze.nn.utils import parametrizations, parametrize

pytestmark = pytest.mark.usefixtures("interpret")


def linear(inputs=3, outputs=4):
    braze.manual_seed(0)
    return nn.Linear(inputs, outputs, dtype=braze.float64)


def array(tensor):
    return np.array(tensor.detach().numpy())


def old_weight_norm(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(*args, **options)


# Weight normalisation -----------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim):
    layers = old_weight_norm(linear(), dim=dim), parametrizations.weight_norm(linear(), dim=dim)
    weight = array(linear().weight)
    for layer, g, v in (
        (layers[0], layers[0].weight_g, layers[0].weight_v),
        (layers[1], *layers[1].parametrizations.weight.parameters()),
    ):
        x = braze.ones(1, 3, dtype=braze.float64)
        layer(x)
        np.testing.assert_allclose(array(layer.weight), weight, rtol=1e-12)
        assert g.numel() == (1 if dim is None else weight.shape[dim]) and v.shape == (4, 3)
        with braze.no_grad():
            g.mul_(2.0)
            v.mul_(7.0)
        expected = x.numpy() @ (2 * weight).T + array(layer.bias)
        np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-12)
    state = layers[0].state_dict()
    assert set(state) == {"bias", "weight_g", "weight_v"}
    new = parametrizations.weight_norm(linear(), dim=dim)
    new.load_state_dict(state)
    np.testing.assert_allclose(array(new.weight), 2 * weight, rtol=1e-12)
    nn.utils.remove_weight_norm(layers[0])
    np.testing.assert_allclose(array(layers[0].weight), 2 * weight, rtol=1e-12)
    assert set(layers[0].state_dict()) == {"bias", "weight"}


def test_weight_norm_warns_and_refuses():
    layer = linear()
    with pytest.warns(FutureWarning, match="in favor of `braze.nn.utils.parametrizations"):
        nn.utils.weight_norm(layer)
    with pytest.raises(RuntimeError, match="two weight_norm hooks on the same parameter weight"):
        old_weight_norm(layer)
    with pytest.raises(ValueError, match="weight_norm of 'bias' not found"):
        nn.utils.remove_weight_norm(layer, "bias")


# Spectral normalisation ---------------------------------------------------------------------------


def test_spectral_norm_finds_the_largest_singular_value():
    weight = array(linear().weight)
    value = np.linalg.svd(weight)[1][0]
    old = nn.utils.spectral_norm(linear(), n_power_iterations=30)
    new = parametrizations.spectral_norm(linear(), n_power_iterations=30)
    for layer in (old, new):
        for _ in range(2):
            layer(braze.ones(1, 3, dtype=braze.float64))
        np.testing.assert_allclose(array(layer.eval().weight), weight / value, rtol=1e-9)
    assert set(old.state_dict()) == {"bias", "weight_orig", "weight_u", "weight_v"}
    nn.utils.remove_spectral_norm(old)
    parametrize.remove_parametrizations(new, "weight")
    for layer in (old, new):
        assert set(layer.state_dict()) == {"bias", "weight"} and type(layer) is nn.Linear
        np.testing.assert_allclose(array(layer.weight), weight / value, rtol=1e-9)
    lone = parametrizations.spectral_norm(linear(), "bias")
    assert np.linalg.norm(array(lone.bias)) == pytest.approx(1.0)


@pytest.mark.parametrize("wrap", [nn.utils.spectral_norm, parametrizations.spectral_norm])
def test_power_iteration_is_part_of_the_step(wrap):
    layer = wrap(linear())
    optimizer = braze.optim.SGD(layer.parameters(), lr=0.1)
    x = braze.tensor(np.random.default_rng(0).standard_normal((5, 3)))
    before = [array(buffer) for buffer in layer.buffers()]
    runs = []
    for _ in range(3):
        optimizer.zero_grad()
        (layer(x).square().sum() - layer(2 * x).sum()).backward()  # two calls, one backward pass
        start = engine.stats.interpreted + engine.stats.native_calls
        optimizer.step()
        runs.append(engine.stats.interpreted + engine.stats.native_calls - start)
    after = [array(buffer) for buffer in layer.buffers()]
    assert runs == [1, 1, 1]
    assert all(not np.allclose(a, b) for a, b in zip(before, after, strict=True))
    layer.eval()(x)
    assert all(np.array_equal(a, array(b)) for a, b in zip(after, layer.buffers(), strict=True))


def test_spectral_norm_refuses():
    with pytest.raises(ValueError, match="n_power_iterations to be positive, but got n_power"):
        nn.utils.spectral_norm(linear(), n_power_iterations=0)
    with pytest.raises(ValueError, match="as parameter `bias` is None"):
        nn.utils.spectral_norm(nn.Linear(2, 2, bias=False), "bias")
    with pytest.raises(RuntimeError, match="two spectral_norm hooks on the same parameter weight"):
        nn.utils.spectral_norm(nn.utils.spectral_norm(linear()))
    with pytest.raises(IndexError, match=r"expected to be in range of \[-2, 1\] but got 2"):
        parametrizations.spectral_norm(linear(), dim=2)


# One's own ----------------------------------------------------------------------------------------


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, x):
        return x.triu()


class Shifted(nn.Module):
    calls = 0

    def forward(self, x):
        Shifted.calls += 1
        return x + 1


class Difference(nn.Module):
    def forward(self, one, two):
        return one - two

    def right_inverse(self, x):
        return x * 2, x


def test_parametrised_tensors_are_computed_and_trained():
    layer = linear(3, 3)
    original = layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Shifted())
    assert layer.parametrizations.weight.original is original
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    names = ["bias", "parametrizations.weight.original"]
    assert list(layer.state_dict()) == names
    weight = array(layer.weight)
    assert np.array_equal(weight, weight.T)
    layer(braze.ones(1, 3, dtype=braze.float64)).sum().backward()
    # Each element above the diagonal is there twice.
    assert original.grad.tolist() == [[1.0, 2.0, 2.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    text = repr(layer)
    assert text.startswith(
        "ParametrizedLinear(\n  in_features=3, out_features=3, bias=True\n  (par"
    )
    with pytest.raises(RuntimeError, match="Shifted does not implement right_inverse"):
        layer.weight = braze.eye(3, dtype=braze.float64)
    copied = copy.deepcopy(layer)
    assert copied.parametrizations.weight.original is not original
    assert braze.equal(copied.weight, layer.weight)
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)


def test_assignment_goes_through_the_inverse():
    layer = linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", Difference())
    originals = dict(layer.named_parameters())
    layer.weight = braze.ones(3, 3, dtype=braze.float64)
    layer.bias = braze.arange(3, dtype=braze.float64)
    assert layer.weight.tolist() == [[1.0] * 3] * 3 and layer.bias.tolist() == [0.0, 1.0, 2.0]
    stack = layer.parametrizations
    assert stack.weight.original.tolist() == [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    assert stack.bias.original0.tolist() == [0.0, 2.0, 4.0]
    assert all(p is originals[name] for name, p in layer.named_parameters())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is originals["parametrizations.weight.original"]
    assert type(layer).__name__ == "ParametrizedLinear"
    parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is nn.Linear and layer.bias.tolist() == [0.0, 1.0, 2.0]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    with pytest.raises(ValueError, match="does not have a parametrization on weight"):
        parametrize.remove_parametrizations(layer, "weight")


def test_cached_tensors_are_computed_once():
    layer = parametrize.register_parametrization(linear(), "bias", Shifted())
    x = braze.ones(1, 3, dtype=braze.float64)
    Shifted.calls = 0
    with parametrize.cached():
        assert layer.bias is layer.bias
        layer(x), layer(x)
    assert Shifted.calls == 1 and layer.bias is not layer.bias


def test_parametrizations_that_do_not_fit_are_refused():
    class Given(nn.Module):
        def __init__(self, function, inverse=lambda x: x):
            super().__init__()
            self.forward, self.right_inverse = function, inverse

    def attempt(*functions):
        parametrize.register_parametrization(linear(), "weight", Given(*functions))

    with pytest.raises(ValueError, match="not change the shape of the tensor, unless `unsafe`"):
        attempt(lambda x: x[0])
    with pytest.raises(ValueError, match="not change the dtype of the tensor, unless `unsafe`"):
        attempt(lambda x: x.float())
    with pytest.raises(ValueError, match="must return a tensor. Got list."):
        attempt(lambda x: [x])
    with pytest.raises(ValueError, match="Got element 1 of the sequence with type int"):
        attempt(lambda x, y: x, lambda x: (x, 3))
    with pytest.raises(ValueError, match="outputs one tensor, it may not change the dtype"):
        attempt(lambda x: x, lambda x: x.float())
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized"):
        parametrize.register_parametrization(linear(), "nothing", Shifted())


# Orthogonal matrices ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder"])
def test_orthogonal_matrices(kind, shape):
    made = nn.Module()
    start = np.random.default_rng(0).standard_normal(shape)
    made.weight = nn.Parameter(braze.tensor(start))
    parametrizations.orthogonal(made, "weight", kind)
    original = made.parametrizations.weight.original

    def check():
        q = array(made.weight)
        q = q if shape[-2] >= shape[-1] else q.swapaxes(-1, -2)
        one = np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], q.shape[-1], q.shape[-1]))
        np.testing.assert_allclose(q.swapaxes(-1, -2) @ q, one, atol=1e-12)

    check()
    turned = (*shape[:-2], *sorted(shape[-2:], reverse=True))
    target = np.linalg.qr(np.random.default_rng(1).standard_normal(turned))[0]
    target = braze.tensor(target if turned == shape else target.swapaxes(-1, -2).copy())
    optimizer = braze.optim.SGD([original], lr=0.05)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (made.weight - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    check()


def test_orthogonal_matrices_are_assigned_and_refused():
    q = braze.tensor(np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0])
    for options in ({}, {"orthogonal_map": "householder", "use_trivialization": False}):
        layer = parametrizations.orthogonal(linear(3, 3), **options)
        layer.weight = q
        np.testing.assert_allclose(array(layer.weight), q.numpy(), atol=1e-12)
    layer = parametrizations.orthogonal(linear(3, 3), "weight", "cayley", use_trivialization=False)
    with pytest.raises(NotImplementedError, match="not possible to assign to the matrix expon"):
        layer.weight = q
    with pytest.raises(ValueError, match="Got a tensor of 1 dimensions"):
        parametrizations.orthogonal(linear(), "bias")
    with pytest.raises(ValueError, match='has to be one of "matrix_exp", "cayley", "householder"'):
        parametrizations.orthogonal(linear(), orthogonal_map="qr")


# Others -------------------------------------------------------------------------------------------


def test_batch_norm_is_folded_into_the_layer_before_it():
    braze.manual_seed(0)
    convolution, norm = nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3)
    layer, norm1 = nn.Linear(2, 3), nn.BatchNorm1d(3)
    for one, x in ((norm, braze.randn(4, 3, 5, 5)), (norm1, braze.randn(9, 3))):
        for parameter in one.parameters():
            nn.init.uniform_(parameter, 0.5, 2.0)
        one(x)
        one.eval()
    with pytest.raises(AssertionError, match="Fusion only for eval!"):
        nn.utils.fuse_conv_bn_eval(convolution, norm)
    x, y = braze.randn(2, 2, 4, 4), braze.randn(5, 2)
    fused = nn.utils.fuse_conv_bn_eval(convolution.eval(), norm)
    assert fused.bias.shape == (3,) and convolution.bias is None
    assert (fused(x) - norm(convolution(x))).abs().max().item() < 1e-5
    fused = nn.utils.fuse_linear_bn_eval(layer.eval(), norm1)
    assert (fused(y) - norm1(layer(y))).abs().max().item() < 1e-5
    assert fused.weight.requires_grad and fused.weight.is_leaf


def test_modules_without_first_values_draw_no_numbers():
    braze.manual_seed(4)
    expected = braze.rand(3).tolist()
    braze.manual_seed(4)
    layer = nn.utils.skip_init(nn.Linear, 5, 2, dtype=braze.float64)
    assert braze.rand(3).tolist() == expected
    assert layer.weight.shape == (2, 5) and layer.weight.dtype is braze.float64
    assert F.linear(braze.ones(5, dtype=braze.float64), layer.weight).shape == (2,)
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        nn.utils.skip_init(nn.ReLU)
    with pytest.raises(RuntimeError, match="Expected a Module"):
        nn.utils.skip_init(int)
