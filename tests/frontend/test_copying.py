"""Copies and pickles: what they keep, what they share."""

import copy
import pickle

import numpy as np
import pytest

import braze
from braze import nn

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Named(braze.Tensor):
    pass


def pickled(value, protocol=pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint32", "int64", "float16", "bfloat16"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_every_protocol(dtype, protocol):
    x = braze.tensor([[0, 1], [1, 1]], dtype=getattr(braze, dtype))
    y = pickled(x, protocol)
    assert y.dtype is x.dtype and y.tolist() == x.tolist() and type(y) is braze.Tensor
    y[0, 0] = 1
    assert x.tolist()[0][0] == 0


def test_pickles_keep_class_gradient_flag_and_attributes():
    x = braze.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = pickled(x)
    assert y.requires_grad and y.is_leaf and y.grad is None
    assert not pickled(x * 2).is_leaf or pickled(x * 2).requires_grad
    weight = nn.Parameter(braze.ones(2), requires_grad=False)
    weight.note = "kept"
    again = pickled(weight)
    assert type(again) is nn.Parameter and not again.requires_grad and again.note == "kept"
    named = Named([1.0, 2.0])
    assert type(pickled(named)) is Named and pickled(named).tolist() == [1, 2]
    assert pickled(braze.zeros(0, 3)).shape == (0, 3) and pickled(braze.tensor(3)).item() == 3
    assert pickled(x.shape) == (2,) and type(pickled(x.shape)) is braze.Size
    assert pickled(x.device) == braze.device("cpu") and pickled(braze.strided) is braze.strided
    assert pickled(braze.bfloat16) is braze.bfloat16


def test_pickled_views_share_again():
    x = braze.arange(6.0).reshape(2, 3).clone()
    column, again, turned = pickled((x[:, 1], x, x.t()))
    again[0, 1] = 50
    assert column.tolist() == [50, 4] and turned.tolist()[1] == [50, 4]
    column.zero_()
    assert again.tolist() == [[0, 0, 2], [3, 0, 5]] and x.tolist()[0][1] == 1


def test_deep_copies_of_leaves():
    x = braze.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.note = "kept"
    y = copy.deepcopy(x)
    assert y.requires_grad and y.grad.tolist() == [2, 4] and y.note == "kept"
    with braze.no_grad():
        y.zero_()
        y.grad.zero_()
    assert x.tolist() == [1, 2] and x.grad.tolist() == [2, 4]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)
    assert copy.deepcopy((x * 2).detach()).tolist() == [2, 4]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_views_in_one_deep_copy_share(order):
    x = braze.arange(6.0).reshape(2, 3).clone()
    parts = [x, x[1], x.t()]
    copied = dict(zip(order, copy.deepcopy([parts[i] for i in order]), strict=True))
    copied[0][1, 0] = 30
    assert copied[1].tolist() == [30, 4, 5] and copied[2][0, 1].item() == 30
    copied[2].zero_()
    assert copied[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]


def test_tied_parameters_stay_tied():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    other = copy.deepcopy(net)
    assert other[1].weight is other[0].weight and other[0].weight is not net[0].weight
    assert type(other[0].weight) is nn.Parameter


def test_shallow_copies_share_memory():
    x = nn.Parameter(braze.ones(2))
    y = copy.copy(x)
    assert type(y) is nn.Parameter and y is not x and y.requires_grad and y.is_leaf
    with braze.no_grad():
        y.add_(1)
        x.mul_(3)
    assert x.tolist() == [6, 6] and y.tolist() == [6, 6]
    assert np.shares_memory(x.detach().numpy(), y.detach().numpy())
    y.grad = braze.ones(2)
    assert x.grad is None
