"""Pruning: which weights go, what is left of them after pruning again, and how it ends."""

import math

import numpy as np
import pytest

import braze
from braze import nn
from braze.nn.utils import prune

pytestmark = pytest.mark.usefixtures("interpret")

WEIGHT = np.array([[0.5, -3.0, 1.0, -0.25], [2.0, 0.75, -0.1, 4.0], [-1.5, 0.3, 2.5, 0.05]])


def layer():
    made = nn.Linear(4, 3, dtype=braze.float64)
    with braze.no_grad():
        made.weight.copy_(braze.tensor(WEIGHT))
    return made


def test_the_smallest_weights_go_first():
    made = layer()
    original = made.weight
    assert prune.l1_unstructured(made, "weight", 3) is made
    mask = np.abs(WEIGHT) > 0.25
    assert np.array_equal(made.weight.detach().numpy(), WEIGHT * mask)
    assert made.weight_orig is original and list(made.state_dict()) == [
        "bias",
        "weight_orig",
        "weight_mask",
    ]
    prune.l1_unstructured(made, "weight", 1 / 3)  # of the nine that are left
    mask = np.abs(WEIGHT) > 0.75
    assert np.array_equal(made.weight_mask.numpy(), mask)
    (hook,) = made._forward_pre_hooks.values()
    assert [type(method) for method in hook] == [prune.L1Unstructured] * 2
    prune.ln_structured(made, "weight", 1, 1, 0)  # the row with the least sum of what is left
    mask[np.abs(WEIGHT * mask).sum(1).argmin()] = False
    assert np.array_equal(made.weight_mask.numpy(), mask)


def test_masked_weights_stay_zero_in_training_and_after_it():
    made = prune.l1_unstructured(layer(), "weight", 6)
    optimizer = braze.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    x = braze.ones(2, 4, dtype=braze.float64)
    for _ in range(3):
        optimizer.zero_grad()
        made(x).square().sum().backward()
        optimizer.step()
    made(x)
    assert (made.weight == 0).sum().item() == 6 and prune.is_pruned(nn.Sequential(made))
    pruned, original = made.weight.tolist(), made.weight_orig
    prune.remove(made, "weight")
    assert made.weight is original and made.weight.tolist() == pruned
    assert not prune.is_pruned(made) and list(made.state_dict()) == ["bias", "weight"]
    with pytest.raises(ValueError, match="has to be pruned before pruning can be removed"):
        prune.remove(made, "weight")


def test_random_pruning_and_masks_of_ones_own():
    braze.manual_seed(0)
    made = prune.random_unstructured(layer(), "weight", 0.5)
    assert made.weight_mask.sum().item() == 6
    prune.random_structured(made, "weight", 1, dim=1)
    assert made.weight_mask.sum(0).ne(0).sum().item() <= 3
    mask = np.eye(3, 4)
    made = prune.custom_from_mask(layer(), "weight", braze.tensor(mask))
    assert np.array_equal(made.weight.detach().numpy(), WEIGHT * mask)
    assert prune.identity(layer(), "bias").bias_mask.tolist() == [1.0] * 3


def test_pruning_over_several_layers():
    one, two = layer(), layer()
    with braze.no_grad():
        two.weight.mul_(7.0)
    pairs = [(one, "weight"), (two, "weight")]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=12)
    both = np.concatenate([np.abs(WEIGHT).ravel(), 7 * np.abs(WEIGHT).ravel()])
    limit = np.sort(both)[11]
    assert np.array_equal(one.weight_mask.numpy(), np.abs(WEIGHT) > limit)
    assert np.array_equal(two.weight_mask.numpy(), 7 * np.abs(WEIGHT) > limit)
    with pytest.raises(TypeError, match='Only "unstructured" PRUNING_TYPE supported'):
        prune.global_unstructured(pairs, prune.LnStructured, amount=1, n=2)


@pytest.mark.parametrize(
    ("amount", "error", "text"),
    [
        (1.5, ValueError, "float in the range"),
        (-1, ValueError, "non-negative integer"),
        (math.nan, ValueError, "float in the range"),
        ("x", TypeError, "Invalid type for amount: x"),
        (13, ValueError, "should be smaller than the number of parameters to prune=12"),
    ],
)
def test_amounts_that_are_refused_leave_the_layer_as_it_was(amount, error, text):
    made = layer()
    with pytest.raises(error, match=text):
        prune.l1_unstructured(made, "weight", amount)
    assert list(made.state_dict()) == ["weight", "bias"] and not made._forward_pre_hooks
    with pytest.raises(IndexError, match="Invalid index 2"):
        prune.ln_structured(made, "weight", 1, 2, 2)
    with pytest.raises(ValueError, match="only be applied to multidimensional tensors"):
        prune.random_structured(made, "bias", 1, 0)
