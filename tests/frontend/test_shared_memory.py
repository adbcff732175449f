"""Tensors and NumPy arrays on one memory: both sides see each other's writes, at once."""

import gc
import os

import numpy as np
import pytest

import braze
from braze.sharing import SNAPSHOT_BYTES


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


# A small value is copied when an operation reads it, a large one makes the operation run at once.
SIZES = [4, SNAPSHOT_BYTES // 4 + 8]


@pytest.mark.parametrize("size", SIZES)
def test_writes_on_either_side_are_seen(size):
    array = np.ones(size, np.float32)
    x = braze.from_numpy(array)
    array[0] = 5
    assert x[0].item() == 5
    x.add_(1)
    assert array[0] == 6 and array[1] == 2
    x.mul_(2)
    x[1] = 7
    assert array[:3].tolist() == [12, 7, 4]
    array[:] = 3
    x += x
    assert array[0] == 6 and x.data_ptr() == array.ctypes.data


@pytest.mark.parametrize("size", SIZES)
def test_what_was_called_before_a_write_does_not_see_it(size):
    array = np.ones(size, np.float32)
    x = braze.from_numpy(array)
    before = x + 1
    array[:] = 10
    after = x + 1
    array[:] = 20
    x.add_(5)
    array[0] = -1
    assert before[0].item() == 2 and after[0].item() == 11
    assert x[:2].tolist() == [-1, 25]


@pytest.mark.parametrize("size", SIZES)
def test_arrays_that_were_given_away(size):
    x = braze.zeros(size)
    array = x.numpy()
    x.add_(1)
    assert array[0] == 1
    x.fill_(2)
    x.copy_(x * 2)
    assert array[0] == 4
    before = x * 2
    array[:] = 0
    assert before[0].item() == 8 and x[0].item() == 0
    assert x.numpy().ctypes.data == array.ctypes.data


def test_views_share_with_their_bases_array():
    x = braze.arange(12.0).reshape(3, 4).clone()
    array = x.numpy()
    parts = {
        "row": (x[1], array[1]),
        "column": (x[:, 2], array[:, 2]),
        "transposed": (x.t(), array.T),
        "steps": (x[::2, 1:3], array[::2, 1:3]),
        "flat": (x.view(-1), array.reshape(-1)),
        "detached": (x.detach(), array),
        "again": (x.t()[1:], array.T[1:]),
    }
    for name, (view, part) in parts.items():
        given = view.numpy()
        assert np.shares_memory(given, array) and given.strides == part.strides, name
        assert view.data_ptr() == part.ctypes.data, name
    array[1, 2] = 100
    for name, (view, part) in parts.items():
        np.testing.assert_array_equal(view.tolist(), part, err_msg=name)
    x[1].mul_(2)
    assert array[1, 2] == 200
    x.t()[2].zero_()
    assert array[:, 2].tolist() == [0, 0, 0] and parts["column"][0].tolist() == [0, 0, 0]


def test_a_view_that_only_a_copy_can_show():
    x = braze.arange(6.0).reshape(2, 3).clone()
    flat = x.t().reshape(-1)
    given = flat.numpy()
    assert given.tolist() == [0, 3, 1, 4, 2, 5] and not np.shares_memory(given, x.numpy())


def test_gradients_use_the_values_of_the_call():
    array = np.array([1.0, 2.0], np.float32)
    x = braze.from_numpy(array)
    w = braze.ones(2, requires_grad=True)
    loss = (w * x).sum()
    array[:] = 50
    loss.backward()
    assert loss.item() == 3 and w.grad.tolist() == [1, 2]


def test_a_parameter_whose_array_is_alive_trains():
    w = braze.nn.Parameter(braze.ones(3))
    array = w.detach().numpy()
    optimizer = braze.optim.SGD([w], lr=0.5, momentum=0.9)
    for step in range(3):
        optimizer.zero_grad()
        (w * w).sum().backward()
        seen = array.copy()
        optimizer.step()
        if step == 0:
            assert seen.tolist() == [1, 1, 1] and array.tolist() == [0, 0, 0]
        np.testing.assert_allclose(w.tolist(), array)
    array[:] = 4
    assert (w + 1).tolist() == [5, 5, 5]


def test_a_parameter_that_takes_over_an_array():
    array = np.zeros(3, np.float32)
    w = braze.nn.Parameter(braze.ones(3))
    w.data = braze.from_numpy(array)
    array += 1
    before = w * 2
    array += 1
    assert before.tolist() == [2, 2, 2]
    with braze.no_grad():
        w.add_(1)
    assert array.tolist() == [3, 3, 3]


def test_gradients_whose_arrays_are_alive_accumulate():
    w = braze.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    array = w.grad.numpy()
    (w * 2).sum().backward()
    assert array.tolist() == [5, 5] and w.grad.tolist() == [5, 5]
    array[0] = 0
    optimizer = braze.optim.SGD([w], lr=1.0)
    optimizer.step()
    assert w.tolist() == [1, -4]
    optimizer.zero_grad(set_to_none=False)
    assert array.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("given", [True, False])
def test_any_order_of_writes_is_that_of_eager_numpy(seed, given, tier):
    """Random reads and writes on both sides, of the whole and of views, against NumPy alone."""
    if tier == "compile" and seed > 1:
        pytest.skip("each program is a new graph")
    rng = np.random.default_rng(seed)
    model = rng.integers(0, 5, (4, 6)).astype(np.float32)
    x = braze.tensor(model)
    array = x.numpy()
    if given:
        array = model.copy()
        x = braze.from_numpy(array)
    results = []
    for _ in range(30):
        rows, columns = slice(rng.integers(3), 4), slice(None, None, int(rng.integers(1, 3)))
        mine, seen, wanted = (
            (x, array, model),
            (x[rows], array[rows], model[rows]),
            (x.t()[columns], array.T[columns], model.T[columns]),
            (x[:, columns], array[:, columns], model[:, columns]),
        )[rng.integers(4)]
        number = int(rng.integers(1, 4))
        match rng.integers(6):
            case 0:
                mine.add_(number)
                wanted += number
            case 1:
                seen[...] = seen * -1 + number
                wanted[...] = wanted * -1 + number
            case 2:
                results.append((mine * number + 1, wanted * number + 1))
            case 3:
                results.append((mine.sum(), wanted.sum()))
            case 4:
                mine[0] = number
                wanted[0] = number
            case 5:
                results.append((mine.clone(), wanted.copy()))
                np.testing.assert_array_equal(array, model)
    np.testing.assert_array_equal(array, model)
    np.testing.assert_array_equal(x.tolist(), model)
    for result, expected in results:
        np.testing.assert_array_equal(result.tolist(), expected)


def test_memory_that_nobody_else_sees_any_more_costs_nothing():
    x = braze.from_numpy(np.ones(4, np.float32))
    x.numpy()
    gc.collect()
    before = braze.stats.captured_ops
    x.add_(1)
    y = x * 2
    assert braze.stats.captured_ops == before  # nothing has run
    assert y.tolist() == [4, 4, 4, 4] and x.tolist() == [2, 2, 2, 2]


def test_lifetimes():
    array = np.arange(1000.0)
    x = braze.from_numpy(array[:])
    del array
    gc.collect()
    assert x.sum().item() == 499500
    given = (x * 2).numpy()
    part = given[10:12]
    del x, given
    gc.collect()
    junk = [braze.zeros(1000, dtype=braze.float64) for _ in range(8)]
    braze.sync()
    assert part.tolist() == [20, 22] and len(junk) == 8


def test_strided_arrays_are_shared_as_views():
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    parts = {
        "transposed": whole.T,
        "permuted": whole.transpose(1, 0, 2),
        "columns": whole[:, :, 1:3],
        "steps": whole[:, ::2, ::3],
        "selected": whole[1, :, 2],
        "turned part": whole[1, 1:].T,
        "inserted": whole[:, None, 1, ::2],
    }
    for name, part in parts.items():
        x = braze.from_numpy(part)
        np.testing.assert_array_equal(x.tolist(), part, err_msg=name)
        part.flat[-1] += 100
        np.testing.assert_array_equal(x.tolist(), part, err_msg=name)
        before = whole.copy()
        x.add_(1)
        part -= 1
        np.testing.assert_array_equal(whole, before, err_msg=name)
        assert np.shares_memory(x.numpy(), whole), name
        twin = braze.from_numpy(part).requires_grad_()
        (twin * 2).sum().backward()
        assert twin.grad.shape == part.shape and twin.grad.reshape(-1)[0].item() == 2


@pytest.mark.parametrize(
    "array",
    [np.arange(4)[::-1], np.broadcast_to(np.arange(3), (2, 3)).copy()[:, ::-1]],
    ids=["reversed", "reversed columns"],
)
def test_reversed_arrays_are_refused(array):
    with pytest.raises(ValueError, match="stride in the given numpy array is negative"):
        braze.from_numpy(array)
    assert braze.tensor(array).tolist() == array.tolist()


def test_arrays_that_cannot_be_shared_are_copied():
    fixed = np.ones(3)
    fixed.flags.writeable = False
    x = braze.from_numpy(fixed)
    x.add_(1)
    assert fixed.tolist() == [1, 1, 1] and x.tolist() == [2, 2, 2]
    swapped = braze.from_numpy(np.array([1, 2], dtype=">i4"))
    assert swapped.dtype is braze.int32 and swapped.tolist() == [1, 2]


def test_compile_and_trace_ignore_exposure():
    net = braze.nn.Linear(2, 2)
    array = net.weight.detach().numpy()
    compiled = braze.compile(net)
    x = braze.from_numpy(np.ones((1, 2), np.float32))
    with braze.no_grad():
        first = compiled(x).tolist()
        array[:] = 0
        np.testing.assert_allclose(compiled(x).tolist(), [net.bias.tolist()])
    assert first != compiled(x).tolist()


def test_array_protocol():
    x = braze.arange(6.0).reshape(2, 3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, dtype=np.int32).dtype == np.int32
    copied = np.array(x)
    assert not np.shares_memory(copied, x.numpy())
    assert np.shares_memory(np.array(x, copy=False), x.numpy())
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float64, copy=False)
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(braze.ones(2, requires_grad=True))
    assert np.asarray(braze.ones(2, requires_grad=True).detach()).tolist() == [1, 1]
    assert braze.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    half = braze.tensor([1.5, 2.0], dtype=braze.bfloat16)
    assert half.numpy().dtype.name == "bfloat16" and half.numpy().tolist() == [1.5, 2.0]
    buffer = x.__buffer__(0)
    buffer[0, 1] = 9.0
    assert x[0, 1].item() == 9 and buffer.format == "f" and buffer.shape == (2, 3)
    with pytest.raises(BufferError, match="bfloat16"):
        half.__buffer__(0)


def in_child(work):
    """Run something in a forked process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def test_forked_processes_share():
    braze.config.tier = "interpret"  # a forked process has no threads
    x = braze.arange(6.0).reshape(2, 3).clone()
    row = x[1]
    assert not x.is_shared() and not row.storage().is_shared()
    assert row.share_memory_() is row and x.is_shared() and row.is_shared()
    address = x.data_ptr()
    assert x.share_memory_().data_ptr() == address and x.storage().share_memory_().is_shared()
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    pending = x * 2
    assert in_child(lambda: x.add_(10)) == 0
    assert x.tolist() == [[10, 11, 12], [13, 14, 15]] and row.tolist() == [13, 14, 15]
    assert pending.tolist() == [[0, 2, 4], [6, 8, 10]]
    x.mul_(2)
    assert x.data_ptr() == address and x.is_shared() and not (x + 0).is_shared()


def test_a_module_shares_its_state():
    braze.config.tier = "interpret"
    net = braze.nn.BatchNorm1d(2)
    assert net.share_memory() is net and net.running_mean.is_shared()

    def train():
        loss = (net(braze.arange(4.0).reshape(2, 2)) * braze.tensor([1.0, 2.0])).sum()
        loss.backward()
        braze.optim.SGD(net.parameters(), lr=1.0).step()

    assert in_child(train) == 0
    assert net.bias.tolist() == [-2, -4] and net.num_batches_tracked.item() == 1
    assert net.bias.grad is None
