"""Gradients through values and views that were overwritten in place."""

import numpy as np
import pytest

import braze


def doubled(n=3):
    w = braze.tensor(np.arange(1.0, n + 1), dtype=braze.float32, requires_grad=True)
    return w, w * 2


def gradient(result, w):
    (found,) = braze.autograd.grad(result, w)
    return found.tolist()


@pytest.mark.parametrize(
    "overwrite",
    [
        lambda y: y.zero_(),
        lambda y: y.fill_(3),
        lambda y: y.copy_(braze.ones(3)),
        lambda y: y.__setitem__(slice(None), 7.0),
        lambda y: y.view(3, 1).zero_(),
        lambda y: y[:].zero_(),
    ],
)
def test_nothing_flows_to_what_was_overwritten(overwrite):
    w, y = doubled()
    overwrite(y)
    assert y.requires_grad
    assert gradient(y.sum(), w) == [0, 0, 0]
    w, y = doubled()
    overwrite(y)
    kept = y.tolist()
    assert gradient((y * w).sum(), w) == kept


def test_a_view_is_overwritten_alone():
    w, y = doubled(4)
    v = y[:2]
    v.zero_()
    assert (v.tolist(), y.tolist()) == ([0, 0], [0, 0, 6, 8])
    assert gradient((y * 3).sum() + v.sum(), w) == [0, 0, 6, 6]


def test_an_in_place_product_keeps_what_its_own_gradient_needs():
    w, y = doubled()
    y.mul_(w)
    assert gradient(y.sum(), w) == [4, 8, 12]
    w, y = doubled()
    y.pow_(3)
    assert gradient(y.sum(), w) == [24, 96, 216]


def test_a_value_needed_elsewhere_is_refused():
    w, y = doubled()
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_reading_a_view_without_gradients_keeps_it_on_the_tape():
    w, y = doubled()
    v = y[0]
    y.add_(1)
    with braze.no_grad():
        assert v.item() == 3
    assert v.requires_grad and v.grad_fn is not None and not v.is_leaf
    assert gradient(v * 1, w) == [2, 0, 0]


def test_a_view_made_without_gradients_stays_off_the_tape():
    w, y = doubled()
    with braze.no_grad():
        v = y[:2]
    y.mul_(2)
    assert v.tolist() == [4, 8]
    assert v.is_leaf and v.requires_grad and not (v * 1).requires_grad
    with braze.no_grad():
        v.zero_()
    assert y.tolist() == [0, 0, 12]


def test_writing_through_data_and_detach_leaves_the_tape_alone():
    w, y = doubled()
    y.data[1] = 100
    y.detach()[0] = 50
    assert y.tolist() == [50, 100, 6]
    assert gradient(y.sum(), w) == [2, 2, 2]


def test_a_quotient_may_be_overwritten():
    w = braze.ones(3, requires_grad=True)
    y = 6 / (w + 1)
    y.add_(1)
    y.sum().backward()
    assert w.grad.tolist() == [-1.5] * 3


def test_a_detached_tensor_written_with_gradients_is_on_the_tape():
    w, y = doubled()
    d = y.detach()
    part = d[1:]
    d.add_(w)
    assert d.requires_grad and part.requires_grad and d.tolist() == y.tolist() == [3, 6, 9]
    assert gradient(d.sum() + part.sum() * 10 + y.sum() * 100, w) == [201, 211, 211]


def test_a_part_of_overlapping_windows_is_on_the_tape_once_it_is_written():
    w, base = doubled()
    x = braze.zeros(3)
    row = x.unfold(0, 2, 1)[1]
    x.add_(base)
    row[...] = 5.0
    assert row.requires_grad and x.tolist() == [2, 5, 5]
    assert gradient(x.sum() + row.sum(), w) == [2, 0, 0]
