"""Writes through `data`, which the tape does not see, and views made while nothing is recorded."""

import pytest

import braze


def leaf(*values):
    return braze.tensor(values, requires_grad=True)


@pytest.mark.parametrize("synced", [False, True])
def test_what_is_written_through_data_reaches_what_the_tape_kept(synced):
    x, c = leaf(1.0, 2.0), braze.tensor([3.0, 4.0])
    loss = (x * c).sum()
    if synced:
        braze.sync()
    c.data.mul_(2)
    c.data[0] = 10.0
    if synced:
        braze.sync()
    loss.backward()
    assert x.grad.tolist() == [10.0, 8.0]
    assert c.tolist() == [10.0, 8.0]
    assert c._version == 0


def test_the_same_where_the_tape_kept_an_intermediate_value():
    x = leaf(1.0, 2.0)
    y = x * 3
    loss = (y * y).sum()
    y.data.fill_(1.0)
    loss.backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_a_tracked_write_after_one_through_data_is_refused():
    x, c = leaf(1.0, 2.0), braze.tensor([3.0, 4.0])
    loss = (x * c).sum()
    c.data.mul_(2)
    c.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_detach_shares_the_count_of_writes():
    x, c = leaf(1.0, 2.0), braze.tensor([3.0, 4.0])
    loss = (x * c).sum()
    c.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_views_made_without_recording_say_what_their_base_says():
    x = leaf(1.0, 2.0)
    with braze.no_grad():
        views = [x[:1], x.view(2, 1), x[1:].view(1), *x.unbind(), x.reshape(1, 2), x.flatten()]
        assert all(view.requires_grad and view.is_leaf for view in views)
        assert not x.clone().requires_grad
        assert not x.detach()[:1].requires_grad
    assert not x.data.requires_grad


def test_and_are_written_to_without_recording_only():
    x = leaf(1.0, 2.0)
    with braze.no_grad():
        view = x[:1]
        view.mul_(5)
    assert x.tolist() == [5.0, 2.0]
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        view.mul_(2)
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        view[0] = 2.0
    with braze.no_grad():
        view.mul_(2)
    assert x.tolist() == [10.0, 2.0]


def test_detach_and_data_after_a_change_of_shape_in_place():
    x = braze.arange(6.0).reshape(2, 3)
    x.t_()
    assert x.detach().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    x.unsqueeze_(0)
    x.data.add_(1)
    assert x.tolist() == [[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]]


def test_views_cannot_be_detached_in_place():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        x.view(2, 1).detach_()
    assert not (x * 2).detach_().requires_grad


def test_deleting_a_gradient():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    del x.grad
    assert x.grad is None


def test_filling_a_view_that_shows_elements_twice():
    x = braze.arange(4.0)
    x.expand(2, 4).fill_(7)
    assert x.tolist() == [7.0] * 4
    x.unfold(0, 2, 1).zero_()
    assert x.tolist() == [0.0] * 4
    with pytest.raises(RuntimeError, match="more than one element"):
        x.expand(2, 4).add_(1)


def test_a_view_that_must_not_be_written_leaves_no_check_behind():
    x = braze.ones(3, requires_grad=True)
    with braze.no_grad():
        view = x[:2]
    for write in (
        lambda: view.index_add_(0, braze.tensor([99]), braze.ones(1)),
        lambda: view.__setitem__(braze.tensor([99]), 1.0),
    ):
        with pytest.raises(RuntimeError, match="created in no_grad mode"):
            write()
        braze.sync()
