"""Indexing, writing through indices, scatters, masks and rearrangements: values, gradients,
errors."""

import numpy as np
import pytest

import braze


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


def same(tensor, array):
    np.testing.assert_array_equal(tensor.numpy(force=True), array)


def ramp(*shape):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


KEYS = [
    ([0, 2, 0],),
    (slice(None), [[0, -1], [3, 3]]),
    ([0, 1], slice(1, 3), [4, -5]),
    (None, [2, 2], ..., slice(1, 3)),
    (np.array([True, False, True]),),
    (slice(None), np.arange(20).reshape(4, 5) % 3 == 0),
    (True, [1]),
    (False,),
    (np.zeros(0, np.int64),),
    ([[0], [2]], [1, 1, 3]),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_reading_and_writing_follow_numpy(key):
    array, x = ramp(3, 4, 5), braze.tensor(ramp(3, 4, 5))
    same(x[key], array[key])
    values = ramp(*array[key].shape)
    x[key] = braze.tensor(values)
    array[key] = values
    same(x, array)
    x[key] += 10
    array[key] += 10
    same(x, array)
    x[key] = -1
    array[key] = -1
    same(x, array)


def test_index_tensors_are_not_read():
    x, i = braze.zeros(4, 3), braze.tensor(2)
    x.sum().item()
    before = braze.stats.captured_ops
    rows = x[i]
    x[i] = 1.0
    x[i, braze.tensor([0, 0])] += 2.0
    x[:, i] += 1.0
    assert braze.stats.captured_ops == before and rows.shape == (3,)
    assert x[2].tolist() == [3.0, 1.0, 2.0] and x[:, 2].tolist() == [1.0, 1.0, 2.0, 1.0]


def test_the_last_write_stays():
    x = braze.zeros(3)
    x[[1, 1, 2, 1]] = braze.tensor([1.0, 2.0, 3.0, 4.0])
    assert x.tolist() == [0, 4, 3]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[[9]].sum().item(), IndexError, r"index 9 is out of range \[-3, 3\)"),
        (lambda x: x.take(braze.tensor([12])).sum().item(), IndexError, "index 12 is out of range"),
        (lambda x: x[1.5], IndexError, "only integers, slices"),
        (lambda x: x[0, 0][0], IndexError, "invalid index of a 0-dim tensor"),
        (lambda x: x[braze.tensor([True])], IndexError, r"shape of the mask \[1\] at index 0"),
        (lambda x: x[[0, 1], [0, 1, 2]], IndexError, r"together with shapes \[2\], \[3\]"),
        (
            lambda x: x.__setitem__([0, 1], braze.ones(3, dtype=x.dtype)),
            RuntimeError,
            r"value tensor of shape \[3\] cannot be broadcast to indexing result of shape \[2, 4\]",
        ),
        (lambda x: x.__setitem__(0, braze.ones(3)), RuntimeError, r"expanded size of the tensor"),
        (lambda x: x.__setitem__([0], braze.ones(4)), RuntimeError, "source and destination dtype"),
        (lambda x: x.scatter(0, braze.zeros(1, 4), x), RuntimeError, "Expected dtype int32/int64"),
        (
            lambda x: x.scatter(0, braze.zeros(4, 4).long(), x),
            RuntimeError,
            r"Expected index \[4, 4\] to be no larger than self \[3, 4\]",
        ),
        (
            lambda x: x.scatter(0, braze.full((1, 4), 3), x).sum().item(),
            RuntimeError,
            r"\[scatter\] index 3 is out of range \[0, 3\)",
        ),
        (
            lambda x: x.index_add(0, braze.tensor([0]), x),
            RuntimeError,
            r"Number of indices \(1\) should be equal to source.size\(dim\)",
        ),
        (
            lambda x: x.index_copy(0, braze.tensor([0]), x[:1, :2]),
            RuntimeError,
            "source tensor shape must match self tensor shape",
        ),
        (lambda x: x.put_(braze.tensor([0]), x), IndexError, "same number of elements"),
        (lambda x: x.masked_select(x), RuntimeError, "expected BoolTensor for mask"),
        (lambda x: x.masked_scatter(x > 0, x[0]), RuntimeError, "Number of elements of source"),
        (lambda x: x.scatter_reduce(0, x.long(), x, "no"), RuntimeError, "got no"),
        (lambda x: x.roll((1, 2), 0), RuntimeError, "shifts and dimensions must align"),
        (lambda x: x.rot90(1, (0, 0)), RuntimeError, "rotation dims to be different"),
        (lambda x: braze.meshgrid(x), RuntimeError, "Expected 0D or 1D tensor"),
        (lambda x: braze.diag(x[None]), RuntimeError, "Supports 1D or 2D tensors. Got 3D"),
        (lambda x: x.repeat_interleave(-1), RuntimeError, "must be non-negative"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(braze.tensor(ramp(3, 4)))


INDEX = np.array([[0, 2, 2, 1], [1, 2, 0, 1]])


def by_elements(x, index, src, combine):
    out = x.copy()
    for i, j in np.ndindex(*index.shape):
        out[index[i, j], j] = combine(out[index[i, j], j], src[i, j])
    return out


def test_scatters():
    x, src, index = braze.tensor(ramp(3, 4)), braze.tensor(ramp(3, 4) + 50), braze.tensor(INDEX)
    a, s = ramp(3, 4), ramp(3, 4) + 50
    write = by_elements(a, INDEX, s, lambda old, new: new)
    same(x.scatter(0, index, src), write)
    same(x.scatter(0, index, 7.0), by_elements(a, INDEX, s, lambda old, new: 7.0))
    same(x.scatter(0, index, src, reduce="add"), by_elements(a, INDEX, s, np.add))
    same(
        x.scatter(0, index, value=2.0, reduce="multiply"),
        by_elements(a, INDEX, s * 0 + 2, np.multiply),
    )
    same(x.scatter_add(0, index.int(), src), by_elements(a, INDEX, s, np.add))
    for name, combine in [
        ("sum", np.add),
        ("prod", np.multiply),
        ("amax", np.maximum),
        ("amin", np.minimum),
    ]:
        same(x.scatter_reduce(0, index, src, name), by_elements(a, INDEX, s, combine))
    counts = by_elements(a * 0 + 1, INDEX, s * 0 + 1, np.add)
    same(x.scatter_reduce(0, index, src, "mean"), by_elements(a, INDEX, s, np.add) / counts)
    touched = by_elements(a, INDEX, s, lambda old, new: -np.inf)
    same(
        x.scatter_reduce(0, index, src, "amax", include_self=False),
        by_elements(touched, INDEX, s, np.maximum),
    )
    assert x.scatter_(0, index, src) is x
    same(x, write)


def test_rows_and_flat_places():
    x, a = braze.tensor(ramp(4, 3)), ramp(4, 3)
    index, rows = braze.tensor([2, 0, 2]), braze.tensor(ramp(3, 3) + 1)
    added = a.copy()
    np.add.at(added, [2, 0, 2], (ramp(3, 3) + 1) * 2)
    same(x.index_add(0, index, rows, alpha=2), added)
    copied = a.copy()
    copied[[2, 0, 2]] = ramp(3, 3) + 1
    same(x.index_copy(0, index, rows), copied)
    filled = a.copy()
    filled[:, [0, -1]] = 9
    same(x.index_fill(1, braze.tensor([0, -1]), 9), filled)
    same(x.take(braze.tensor([[0, -1], [5, 5]])), a.take([[0, -1], [5, 5]]))
    order = np.argsort(-a, axis=1)
    same(braze.take_along_dim(x, braze.tensor(order), 1), np.take_along_axis(a, order, 1))
    places = (braze.tensor([0, 0]), braze.tensor([1, 1]))
    same(
        x.index_put(places, braze.tensor([1.0, 2.0], dtype=x.dtype), accumulate=True)[0], [0, 4, 2]
    )
    x.put_(braze.tensor([0, -1, 0]), braze.tensor([5.0, 6.0, 7.0], dtype=x.dtype))
    assert x[0, 0].item() == 7 and x[3, 2].item() == 6


def test_masks():
    x, a = braze.tensor(ramp(3, 4)), ramp(3, 4)
    same(x.masked_select(x > 6), a[a > 6])
    same(x.masked_select(braze.tensor([True, False, False, True])), a[:, [0, 3]].reshape(-1))
    same(braze.nonzero(x), np.argwhere(a))
    same(braze.argwhere(x % 2), np.argwhere(a % 2))
    for ours, theirs in zip(braze.where(x > 6), np.nonzero(a > 6), strict=True):
        same(ours, theirs)
    assert braze.tensor(5).nonzero().shape == (1, 0)
    x.masked_scatter_(x > 8, braze.tensor([-1.0, -2.0, -3.0, -4.0], dtype=x.dtype))
    assert x[2].tolist() == [8, -1, -2, -3]
    x[x < 0] = braze.tensor([1.0, 2.0, 3.0], dtype=braze.float64)
    x[braze.tensor([True, False, False])] = braze.tensor([4.0, 3.0, 2.0, 1.0], dtype=braze.float64)
    assert x[2].tolist() == [8, 1, 2, 3] and x[0].tolist() == [4, 3, 2, 1]


def numerical(function, x, step=1e-5):
    out = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            values.append(function(braze.tensor(moved)).item())
        out[place] = (values[0] - values[1]) / (2 * step)
    return out


def weighted(y):
    return (y * braze.arange(y.numel()).reshape(y.shape).to(braze.float64).sin()).sum()


def assign(x):
    y = x * 1.0
    y[[0, 2], 1:] = x[1, :3] ** 2
    y[braze.tensor(1)] *= y[0]
    y[y > 1.2] = 0.5
    return weighted(y)


ROWS = braze.tensor([2, 0])
ONCE = braze.tensor([[0, 2, 1, 1], [1, 0, 2, 0]])


@pytest.mark.parametrize(
    "function",
    [
        assign,
        lambda x: weighted(x.scatter(0, ONCE, x**2)),
        lambda x: weighted(x.scatter_add(0, braze.tensor(INDEX), x**2)),
        lambda x: weighted(x.scatter_reduce(0, braze.tensor(INDEX), x**2, "prod")),
        lambda x: weighted(x.scatter_reduce(0, ONCE, x**2, "amax", include_self=False)),
        lambda x: weighted(x.scatter_reduce(0, braze.tensor(INDEX), x**2, "mean")),
        lambda x: weighted(x.index_copy(0, ROWS, x[:2] ** 2)),
        lambda x: weighted(x.index_add(0, ROWS, x[:2] ** 2, alpha=3)),
        lambda x: weighted((x * x).index_fill(1, ROWS, x[0, 0])),
        lambda x: weighted((x * x).put(braze.tensor([3, -1]), x[0, :2])),
        lambda x: weighted((x * x).masked_scatter(x > 1, x.exp())),
        lambda x: weighted(x.take(braze.tensor([0, 5, 5, -1])) ** 2),
        lambda x: weighted(x.diag() ** 2) + weighted(braze.diagflat(x, -1)),
        lambda x: weighted(x.roll((1, -1), (0, 1)) * x.rot90(2) + x.tril(1) * x.fliplr()),
        lambda x: weighted(x.repeat_interleave(braze.tensor([1, 0, 2]), 0) ** 2),
        lambda x: weighted(braze.block_diag(x, x**2)),
    ],
)
def test_gradients(function):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))
    leaf = braze.tensor(x, requires_grad=True)
    function(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), numerical(function, x), rtol=1e-5, atol=1e-6)


def test_rearrangements():
    x, a = braze.tensor(ramp(3, 4)), ramp(3, 4)
    v = braze.tensor([1.0, 2.0, 3.0])
    for ours, theirs in [
        (braze.diag(v, -1), np.diag([1.0, 2, 3], -1)),
        (braze.diag(x, 1), np.diag(a, 1)),
        (braze.diagflat(x[:2, :2]), np.diagflat(a[:2, :2])),
        (braze.diag_embed(x)[1], np.diag(a[1])),
        (x.tril(-1), np.tril(a, -1)),
        (braze.tril_indices(3, 4, 1), np.stack(np.tril_indices(3, 1, 4))),
        (braze.triu_indices(3, 4), np.stack(np.triu_indices(3, 0, 4))),
        (x.roll(5), np.roll(a, 5)),
        (x.roll((1, -1), (0, 1)), np.roll(a, (1, -1), (0, 1))),
        (x.fliplr(), np.fliplr(a)),
        (x.flipud(), np.flipud(a)),
        (x.tile(2), np.tile(a, 2)),
        (x.tile((2, 1, 1)), np.tile(a, (2, 1, 1))),
        (x.repeat_interleave(2), np.repeat(a, 2)),
        (x.repeat_interleave(2, 1), np.repeat(a, 2, 1)),
        (braze.repeat_interleave(braze.tensor([2, 0, 1])), [0, 0, 2]),
        (braze.hstack([v, v]), np.hstack([[1, 2, 3]] * 2)),
        (braze.vstack([x, x]), np.vstack([a, a])),
        (braze.dstack([x, x]), np.dstack([a, a])),
        (braze.column_stack([v, x]), np.column_stack([[1, 2, 3], a])),
        (braze.broadcast_to(v, (2, 3)), np.broadcast_to([1, 2, 3], (2, 3))),
        (x.t().ravel(), a.T.ravel()),
        (x.reshape_as(braze.zeros(2, 6)), a.reshape(2, 6)),
        *((x.rot90(k), np.rot90(a, k)) for k in (-1, 0, 1, 2, 3)),
    ]:
        same(ours, theirs)
    for indexing in ("ij", "xy"):
        grids = braze.meshgrid(v, v[:2], indexing=indexing)
        for ours, theirs in zip(
            grids, np.meshgrid([1, 2, 3], [1, 2], indexing=indexing), strict=True
        ):
            same(ours, theirs)
    assert [braze.atleast_3d(y).shape for y in (v[0], v, x)] == [(1, 1, 1), (1, 3, 1), (3, 4, 1)]
    assert braze.broadcast_shapes((2, 1), (3,), 1) == (2, 3)
    assert [y.shape for y in braze.atleast_2d(v, v[0])] == [(1, 3), (1, 1)]
    x.triu_()
    same(x, np.triu(a))


def test_masked_scatter_reads_nothing_where_the_source_is_large_enough():
    array = np.linspace(-2.0, 3.0, 12).reshape(3, 4)
    x, source = braze.tensor(array), braze.tensor(np.arange(12.0))
    braze.sync()
    before = braze.stats.native_calls + braze.stats.interpreted
    result = x.masked_scatter(x > 1.0, source)
    assert braze.stats.native_calls + braze.stats.interpreted == before
    expected = array.copy()
    expected[array > 1] = np.arange((array > 1).sum())
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize(
    "pick",
    [
        lambda x: x[braze.zeros(3, dtype=braze.bool)],
        lambda x: x[braze.zeros(0, dtype=braze.int64)],
        lambda x: x.gather(0, braze.zeros(0, dtype=braze.int64)),
        lambda x: x.take(braze.zeros(0, dtype=braze.int64)),
        lambda x: x[False],
    ],
)
def test_an_empty_selection_is_on_the_tape(pick):
    x = braze.ones(3, requires_grad=True)
    picked = pick(x * 2)
    assert picked.numel() == 0 and picked.requires_grad
    picked.sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_what_was_written_is_read_in_another_dtype(monkeypatch):
    """The reader of a scatter's only element is not taken for a change of its shape."""
    monkeypatch.setattr(braze.config, "tier", "compile")
    x = braze.tensor(False)
    row = x.unsqueeze(0)
    row[braze.tensor([0])] = True
    total, flags = row.sum(), row.to(braze.float64)
    assert total.item() == 1 and flags.tolist() == [1.0] and x.item() is True
