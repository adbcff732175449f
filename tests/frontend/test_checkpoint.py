"""Checkpointing: the same gradients, fewer bytes kept, and its errors."""

import collections
import contextlib
import gc

import numpy as np
import pytest

import braze
from braze import nn
from braze.engine import Storage
from braze.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield
        braze.sync()


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).uniform(-1.0, 1.0, shape)
    return braze.tensor(values, requires_grad=True)


def part(x, w):
    return ((x @ w).tanh() * x).sin()


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("use_reentrant", [None, False, True])
def test_gradients_are_those_without(read, use_reentrant):
    found = []
    for use in (False, True):
        x, w = leaf(3, 4), leaf(4, 4, seed=1)
        y = x * 2.0
        y = checkpoint(part, y, w, use_reentrant=use_reentrant) if use else part(y, w)
        loss = (y * y).sum()
        if read:
            loss.item()
        loss.backward()
        found.append((loss.item(), x.grad.numpy(), w.grad.numpy()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-13)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-12)
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-12)


def test_parameters_that_the_function_closes_over():
    layer = nn.Linear(3, 3)
    x = braze.ones(2, 3)
    layer(x).tanh().sum().backward()
    expected = layer.weight.grad.tolist()
    layer.zero_grad()
    y = checkpoint(lambda x: layer(x).tanh(), x)
    assert y.requires_grad
    y.sum().backward()
    np.testing.assert_allclose(layer.weight.grad.tolist(), expected, rtol=1e-6)


def test_parameters_that_are_replaced_for_the_call():
    """The second run is outside of `functional_call`, and has its tensors all the same."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, found = braze.ones(2, 3), []
    for use in (False, True):
        net.zero_grad()
        other = {name: (3.0 * p).to(braze.bfloat16) for name, p in net.named_parameters()}
        wrapped = nn.Module()
        wrapped.net = net
        wrapped.forward = lambda x, use=use: checkpoint(net, x) if use else net(x)
        other = {f"net.{name}": tensor for name, tensor in other.items()}
        y = nn.utils.stateless.functional_call(wrapped, other, x.to(braze.bfloat16))
        y.sum().backward()
        found.append([p.grad.tolist() for p in net.parameters()])
    assert found[0] == found[1]


def test_second_derivatives_and_repeated_passes():
    def second(through):
        x, w = leaf(2, 2), leaf(2, 2, seed=1)
        y = through(part, x, w)
        (first,) = braze.autograd.grad((y * y).sum(), x, create_graph=True)
        (again,) = braze.autograd.grad((y * y).sum(), x, retain_graph=True)
        np.testing.assert_allclose(again.numpy(), first.detach().numpy(), rtol=1e-12)
        return braze.autograd.grad((first * first).sum(), (x, w))

    expected = second(lambda function, *args: function(*args))
    for actual, wanted in zip(second(checkpoint), expected, strict=True):
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=1e-11)


def test_nested():
    def inner(x):
        return x.sin().exp()

    def outer(x):
        return checkpoint(inner, x * 2.0).tanh() * checkpoint(inner, x)

    x = leaf(5)
    expected = (((x * 2.0).sin().exp()).tanh() * x.sin().exp()).sum()
    (wanted,) = braze.autograd.grad(expected, x)
    y = checkpoint(outer, x).sum()
    y.item()
    (first,) = braze.autograd.grad(y, x, retain_graph=True)
    np.testing.assert_allclose(first.numpy(), wanted.numpy(), rtol=1e-12)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), wanted.numpy(), rtol=1e-12)


def test_custom_functions_inside():
    class Square(braze.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.0 * ctx.saved_tensors[0]

    x = leaf(4)
    y = checkpoint(lambda x: Square.apply(x.exp()), x)
    assert y.sum().item() > 0
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(2 * x.detach().numpy()), rtol=1e-12)


@pytest.mark.parametrize("read", [False, True])
def test_dropout_masks_match(read):
    braze.manual_seed(3)
    x = braze.ones(200, requires_grad=True)
    y = checkpoint(lambda x: nn.functional.dropout(x * x, 0.5), x)
    if read:
        y.sum().item()
    position = braze.random.default_generator.position
    y.sum().backward()
    assert braze.random.default_generator.position == position
    np.testing.assert_array_equal(x.grad.numpy() != 0, y.detach().numpy() != 0)
    assert 60 < int((x.grad != 0).sum().item()) < 140


def test_other_numbers_are_drawn_if_the_state_is_not_preserved():
    braze.manual_seed(3)
    x = braze.ones(200, requires_grad=True)
    y = checkpoint(lambda x: braze.rand(200) * x, x, preserve_rng_state=False)
    values = y.detach().numpy().copy()
    y.sum().backward()
    assert (x.grad.numpy() != values).mean() > 0.9


def living_bytes():
    gc.collect()
    return sum(o.nbytes for o in gc.get_objects() if type(o) is Storage)


def kept_bytes(through):
    """Bytes of memory that the tape holds between the passes."""
    x = braze.ones(64, 64, requires_grad=True)
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)])
    braze.sync()
    before = living_bytes()
    loss = through(layers, x).sum()
    loss.item()
    kept = living_bytes() - before
    loss.backward()
    assert np.isfinite(x.grad.numpy()).all()
    return kept


def test_fewer_bytes_are_kept_between_the_passes():
    one = 64 * 64 * 4
    plain = kept_bytes(lambda layers, x: layers(x))
    segments = kept_bytes(lambda layers, x: checkpoint_sequential(layers, 4, x))
    whole = kept_bytes(lambda layers, x: checkpoint(layers, x))
    assert plain >= 8 * one
    assert segments <= 6 * one
    assert whole < one


def test_the_arguments_are_kept_no_longer_than_the_graph():
    x = braze.ones(64, 64, requires_grad=True)
    y = checkpoint(lambda x: x.exp(), x * 1.0).sum()
    y.item()
    gc.disable()
    try:
        holding = y.grad_fn
        assert holding is not None
        before = len([o for o in gc.get_objects() if type(o).__name__ == "_Part"])
        del y, holding
        after = len([o for o in gc.get_objects() if type(o).__name__ == "_Part"])
        assert after == before - 1
    finally:
        gc.enable()


def test_sequential():
    layers = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    x = braze.ones(2, 4, requires_grad=True)
    expected = layers(x)
    actual = checkpoint_sequential(layers, 2, x, use_reentrant=False)
    np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    actual = checkpoint_sequential([braze.sin, braze.exp, braze.tanh], 3, x)
    np.testing.assert_allclose(
        actual.detach().numpy(), np.tanh(np.exp(np.sin(np.ones((2, 4))))), rtol=1e-6
    )


def test_without_gradients_it_is_a_plain_call():
    x = leaf(2)
    with braze.no_grad():
        assert not checkpoint(braze.sin, x).requires_grad


def test_keywords_structures_and_contexts():
    entered = []

    @contextlib.contextmanager
    def note(name):
        entered.append(name)
        yield

    def function(pair, scale=1.0):
        return {"out": pair[0].exp() * pair[1] * scale}

    x, y = leaf(2), leaf(2, seed=1)
    out = checkpoint(
        function, (x, y), scale=3.0, context_fn=lambda: (note("first"), note("second"))
    )
    assert entered == ["first"]
    out["out"].sum().backward()
    assert entered == ["first", "second"]
    np.testing.assert_allclose(y.grad.numpy(), 3.0 * np.exp(x.detach().numpy()), rtol=1e-12)


def test_errors():
    calls = []

    def changing(x):
        calls.append(None)
        return x.exp().sin() if len(calls) == 1 else x.exp()

    with pytest.raises(CheckpointError, match="different number of operations.*2 and 1"):
        checkpoint(changing, leaf(2)).sum().backward()
    calls.clear()

    def other(x):
        calls.append(None)
        return x.exp() if len(calls) == 1 else x.sin()

    with pytest.raises(CheckpointError, match="ExpBackward0 of .* SinBackward0 of"):
        checkpoint(other, leaf(2)).sum().backward()
    x = leaf(2)
    y = x * 1.0
    z = checkpoint(braze.exp, y)
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    z = checkpoint(braze.exp, x).sum()
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()
    with pytest.raises(ValueError, match="Unexpected keyword arguments: scale"):
        checkpoint(braze.exp, x, use_reentrant=True, scale=1.0)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint(braze.exp, x, determinism_check="all")


def test_results_keep_the_factory_of_a_defaultdict():
    def grouped(x):
        found = collections.defaultdict(list)
        found["doubled"].append(x * 2)
        return found

    x = braze.ones(3, requires_grad=True)
    found = checkpoint(grouped, x, use_reentrant=True)
    found["new"].append(0)
    found["doubled"][0].sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
