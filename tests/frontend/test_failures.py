"""A run that fails or is interrupted takes nothing with it: what was there before can still be read
and trained."""

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.runtime.executable import Executable

TIERS = ["interpret", "compile"]


@pytest.fixture(params=TIERS)
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield request.param


def training():
    braze.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    return net, braze.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def step(net, optimizer, labels):
    optimizer.zero_grad()
    F.cross_entropy(net(braze.ones(len(labels), 3)), braze.tensor(labels)).backward()
    optimizer.step()


def everything(net, optimizer):
    state = [v for s in optimizer.state.values() for v in s.values()]
    return [np.array(v.detach()) for v in [*net.parameters(), *state] if hasattr(v, "detach")]


def test_a_bad_label_is_found_though_nobody_keeps_the_loss(tier):
    net, optimizer = training()
    step(net, optimizer, [0, 1, 2])
    with pytest.raises(IndexError, match=r"cross_entropy.*4 is out of range"):
        step(net, optimizer, [0, 1, 4])
    log_probabilities = braze.zeros(2, 3, requires_grad=True)
    with pytest.raises(IndexError, match="nll_loss"):
        F.nll_loss(log_probabilities * 2, braze.tensor([0, 3])).backward()
        braze.sync()


def test_training_goes_on_after_a_failed_step(tier):
    net, optimizer = training()
    step(net, optimizer, [0, 1, 2])
    before = everything(net, optimizer)
    with pytest.raises(IndexError):
        step(net, optimizer, [0, 1, 9])
    for now, then in zip(everything(net, optimizer), before, strict=True):
        np.testing.assert_array_equal(now, then)
    step(net, optimizer, [0, 1, 2])
    other, its_optimizer = training()
    for _ in range(2):
        step(other, its_optimizer, [0, 1, 2])
    for now, then in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(np.array(now.detach()), np.array(then.detach()), rtol=1e-5)


def test_what_was_captured_before_the_failure_is_computed(tier):
    braze.manual_seed(3)
    layer = nn.Linear(3, 4)
    x = braze.ones(3)
    x.mul_(5)
    bad = braze.ones(3)[braze.tensor([7])]
    after = bad + 1
    with pytest.raises(IndexError):
        bad.item()
    braze.manual_seed(3)
    again = nn.Linear(3, 4)
    np.testing.assert_allclose(layer.weight.tolist(), again.weight.tolist(), rtol=1e-5)
    assert x.tolist() == [5, 5, 5]
    with pytest.raises(RuntimeError, match="has no value, because"):
        after.item()


def test_state_survives_when_nothing_else_can_be_computed(tier, monkeypatch):
    net, optimizer = training()
    step(net, optimizer, [0, 1, 2])
    before = everything(net, optimizer)

    def broken(*arguments):
        raise ValueError("a second failure")

    monkeypatch.setattr("braze.undoing.salvage", broken)
    with pytest.raises(IndexError, match="cross_entropy") as caught:
        step(net, optimizer, [0, 1, 9])
    assert "a second failure" in caught.value.__notes__[0]
    for now, then in zip(everything(net, optimizer), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_an_interrupt_before_the_run_changes_nothing(monkeypatch):
    with braze.config.using(tier="compile"):
        net, optimizer = training()
        step(net, optimizer, [0, 1, 2])
        before = everything(net, optimizer)

        def interrupted(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("braze.runtime.executable.get_pool", interrupted)
            with pytest.raises(KeyboardInterrupt):
                step(net, optimizer, [0, 1, 2])
        for now, then in zip(everything(net, optimizer), before, strict=True):
            np.testing.assert_array_equal(now, then)
        step(net, optimizer, [0, 1, 2])


def test_an_interrupt_behind_the_native_call_loses_no_result(monkeypatch):
    """Python runs a signal's handler once a foreign call has returned."""
    with braze.config.using(tier="compile"):
        net, optimizer = training()
        expected, its_optimizer = training()
        for _ in range(3):
            step(net, optimizer, [0, 1, 2])
            step(expected, its_optimizer, [0, 1, 2])
        run = Executable.run

        def interrupted(self, *arguments):
            main = self._main

            def then(*addresses):
                main(*addresses)
                raise KeyboardInterrupt

            self._main = then
            try:
                run(self, *arguments)
            finally:
                self._main = main

        with monkeypatch.context() as patch:
            patch.setattr(Executable, "run", interrupted)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(braze.ones(3, 3)), braze.tensor([0, 1, 2]))
            loss.backward()
            with pytest.raises(KeyboardInterrupt):
                optimizer.step()
        step(expected, its_optimizer, [0, 1, 2])
        assert np.isfinite(loss.item())
        for one, other in zip(net.parameters(), expected.parameters(), strict=True):
            np.testing.assert_array_equal(np.array(one.detach()), np.array(other.detach()))


def test_eager_mode_and_short_traces_run_operations_without_results():
    index = braze.tensor([1, 0])
    expected = np.full((2, 6), 2.0)
    for limit in (1, 2, 5, 9):
        braze.sync()
        with braze.config.using(trace_limit=limit):
            np.testing.assert_array_equal(np.array((braze.ones(4, 6) * 2)[index]), expected)
    with braze.config.using(eager=True):
        np.testing.assert_array_equal(np.array((braze.ones(4, 6) * 2)[index]), expected)
        assert nn.Embedding(4, 2)(braze.tensor([1, 3])).shape == (2, 2)


def test_captured_operations_are_counted_not_their_results():
    braze.sync()
    before = braze.stats.captured_ops
    values, indices = braze.ones(2, 3).max(1)
    braze.sync()
    assert braze.stats.captured_ops - before == 2
    assert (values.shape, indices.shape) == ((2,), (2,))


# What the failing line and those after it replaced ------------------------------------------------


def bad_index():
    return braze.tensor([99])


def fails(change):
    with pytest.raises(IndexError):
        change()
        braze.sync()


def test_the_value_before_a_failed_write_is_there(tier):
    x = braze.ones(3)
    x.mul_(5)
    fails(lambda: x.__setitem__(bad_index(), 1))
    assert x.tolist() == [5, 5, 5] and x._version == 1
    y = x * 2
    row = y[1:]
    row.add_(1)
    fails(lambda: row.index_fill_(0, bad_index(), 0))
    assert y.tolist() == [10, 11, 11] and row.tolist() == [11, 11] and y._version == 1


def test_what_was_checked_before_the_failure_stays(tier):
    x = braze.arange(4.0)
    picked = x[braze.tensor([1, 2])]
    x.index_add_(0, braze.tensor([3]), braze.ones(1))
    fails(lambda: x.index_add_(0, bad_index(), braze.ones(1)))
    assert picked.tolist() == [1, 2] and x.tolist() == [0, 1, 2, 4]


def test_lines_behind_the_failing_one_have_done_nothing(tier):
    x, z = braze.ones(3), braze.ones(2)
    braze.sync()

    def lines():
        x[bad_index()] = 1
        z.zero_()
        x.add_(1)

    fails(lines)
    assert x.tolist() == [1, 1, 1] and z.tolist() == [1, 1]


def test_a_tensor_on_the_tape_is_where_it_was(tier):
    w = braze.ones(3, requires_grad=True)
    y = w * 2
    y.retain_grad()
    square = y * y
    fails(lambda: y.__setitem__(bad_index(), 1.0))
    (y.sum() + square.sum()).backward()
    assert w.grad.tolist() == [10, 10, 10] and y.grad.tolist() == [5, 5, 5]


def test_a_failed_write_through_data_leaves_what_the_tape_kept(tier):
    w, x = braze.ones(2, requires_grad=True), braze.tensor([1.0, 2.0])
    y = w * x
    braze.sync()

    def lines():
        braze.ones(3)[bad_index()]
        x.data.mul_(10)

    fails(lines)
    y.sum().backward()
    assert w.grad.tolist() == [1, 2] == x.tolist() and x._version == 0


def test_an_array_sees_nothing_of_a_failed_write(tier):
    x = braze.ones(3)
    array = x.numpy()
    for bad in (-99, 99):
        fails(lambda: x.__setitem__(braze.tensor([bad]), 7))  # noqa: B023
        assert array.tolist() == [1, 1, 1] == x.tolist()


def test_what_must_not_be_written_leaves_no_check_behind(tier):
    leaf = braze.ones(3, requires_grad=True)
    overlapping = braze.ones(3).as_strided((2, 2), (1, 1))
    for tensor in (leaf, leaf[:], overlapping):
        for write in (
            lambda t: t.__setitem__(bad_index(), 1.0),
            lambda t: t.index_fill_(0, bad_index(), 1.0),
        ):
            with pytest.raises(RuntimeError, match="leaf Variable|single memory location"):
                write(tensor)
            braze.sync()


def test_what_a_failing_check_needs_is_overwritten_once(tier):
    x, table = braze.tensor([3, 1]), braze.arange(4.0)
    braze.sync()
    x.add_(1)
    x.cumsum_(0)
    fails(lambda: table[x.sum() * 50])
    assert x.tolist() == [4, 6]


@pytest.mark.parametrize("name", ["index_add_", "index_copy_"])
def test_a_scatter_in_place_writes_nothing_if_an_index_is_wrong(name, monkeypatch):
    monkeypatch.setattr(braze.config, "tier", "compile")
    x = braze.zeros(5, 3)
    braze.sync()
    with pytest.raises(IndexError, match="index 9 is out of range"):
        getattr(x, name)(0, braze.tensor([1, 9]), braze.ones(2, 3))
        braze.sync()
    assert not x.any()
