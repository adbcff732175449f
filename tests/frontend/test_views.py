"""Views: memory shared as NumPy shares it, strides as PyTorch reports them, gradients, errors."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import braze


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


def ramp(*shape):
    return braze.arange(int(np.prod(shape))).reshape(shape).to(braze.float32)


def same(tensor, array):
    np.testing.assert_array_equal(tensor.numpy(force=True), array)


# Random programs ----------------------------------------------------------------------------------


def random_view(draw, array):
    """A step as (what to do to a tensor, what to do to an array); both share memory the same
    way."""
    rank, shape = array.ndim, array.shape
    kind = draw(st.sampled_from(["permute", "slice", "select", "unsqueeze", "diagonal", "unfold"]))
    if kind == "permute":
        order = draw(st.permutations(range(rank)))
        return lambda x: x.permute(*order), lambda a: a.transpose(order)
    if kind == "slice":
        key = tuple(slice(draw(st.integers(0, n)), None, draw(st.integers(1, 2))) for n in shape)
        return lambda x: x[key], lambda a: a[(*key, ...)]  # an array, also of no dimensions
    if kind == "select" and rank:
        d = draw(st.integers(0, rank - 1))
        if shape[d]:
            i = draw(st.integers(-shape[d], shape[d] - 1))
            index = (slice(None),) * d + (i,)
            return lambda x: x.select(d, i), lambda a: a[(*index, ...)]
    if kind == "diagonal" and rank >= 2:
        one, two = draw(st.permutations(range(rank)))[:2]
        offset = draw(st.integers(-2, 2))
        return (
            lambda x: x.diagonal(offset, one, two),
            # NumPy's own diagonal is read-only.
            lambda a: _writable(np.diagonal(a, offset, one, two)),
        )
    if kind == "unfold" and rank:
        d = draw(st.integers(0, rank - 1))
        if shape[d]:
            size = draw(st.integers(1, shape[d]))
            step = draw(st.integers(size, 3)) if size <= 3 else size
            return lambda x: x.unfold(d, size, step), lambda a: _windows(a, d, size, step)
    d = draw(st.integers(0, rank))
    return lambda x: x.unsqueeze(d), lambda a: np.expand_dims(a, d)


def _writable(view):
    view.flags.writeable = True
    return view


def _windows(a, d, size, step):
    shape, strides = list(a.shape), list(a.strides)
    shape[d] = (a.shape[d] - size) // step + 1
    strides[d] *= step
    return np.lib.stride_tricks.as_strided(a, (*shape, size), (*strides, a.strides[d]))


@given(st.data())
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_views_and_writes_share_memory_as_in_numpy(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    pairs = [(braze.tensor(array), array)]
    for number in range(data.draw(st.integers(2, 7))):
        x, a = data.draw(st.sampled_from(pairs))
        if data.draw(st.booleans()) and a.ndim < 5:
            ours, theirs = random_view(data.draw, a)
            pairs.append((ours(x), theirs(a)))
        elif data.draw(st.booleans()):
            x.mul_(2.0).add_(float(number))
            a *= 2.0
            a += number
        else:
            x[...] = float(number)
            a[...] = number
    for x, a in pairs:
        same(x, a)
        assert x.tolist() == a.tolist()
        if a.size and min(a.shape, default=2) > 1:
            assert x.stride() == tuple(s // 8 for s in a.strides)


# Strides ------------------------------------------------------------------------------------------


def test_strides_are_those_of_torch():
    x = ramp(2, 3, 4)
    assert x.stride() == (12, 4, 1) and x.stride(-1) == 1 and x.storage_offset() == 0
    y = x.transpose(0, 2)
    assert y.stride() == (1, 4, 12) and not y.is_contiguous() and y.contiguous().is_contiguous()
    assert x.contiguous() is x
    assert x[1, :, ::2].stride() == (4, 2) and x[1, :, ::2].storage_offset() == 12
    assert x.expand(5, 2, 3, 4).stride() == (0, 12, 4, 1)
    assert x.diagonal(1, 1, 2).stride() == (12, 5) and x.diagonal(1, 1, 2).storage_offset() == 1
    assert x.unfold(2, 2, 1).shape == (2, 3, 3, 2) and x.unfold(2, 2, 1).stride() == (12, 4, 1, 1)
    assert x[:, 1:2].view(2, 4).stride() == (12, 1)
    assert x[1].data_ptr() == x.data_ptr() + 12 * 4
    assert (y + 0).is_contiguous()


def test_view_needs_fitting_strides_and_reshape_copies():
    x = ramp(3, 4)
    with pytest.raises(RuntimeError, match=r"view size is not compatible with input tensor's size"):
        x.t().view(12)
    copy = x.t().reshape(12)
    copy.zero_()
    same(x, np.arange(12.0).reshape(3, 4))
    x.t().reshape(4, 3).zero_()
    assert x.sum().item() == 0


def test_numpy_shares_the_memory_of_views():
    x = ramp(3, 4)
    row = x[1]
    assert row.sum().item() == 22
    x.t().numpy()[:, 1] = 5.0
    assert row.tolist() == [5.0] * 4 and x[1].sum().item() == 20
    array = np.zeros(4, np.float32)
    part = braze.from_numpy(array)[2:]
    assert part.sum().item() == 0
    array[:] = 1
    assert part.sum().item() == 2


def test_as_strided():
    x = ramp(3, 4)
    y = x.as_strided((2, 3), (1, 4), 1)
    assert y.tolist() == [[1, 5, 9], [2, 6, 10]] and y.stride() == (1, 4)
    y.mul_(10)
    assert x.tolist() == [[0, 10, 20, 3], [4, 50, 60, 7], [8, 90, 100, 11]]
    assert x[1].as_strided((2,), (1,)).tolist() == [4, 50]
    same(x.t().as_strided((2, 2), (0, 2)), [[0, 20], [0, 20]])


def test_a_view_that_shows_elements_twice_cannot_be_written():
    x = ramp(3)
    message = "more than one element of the written-to tensor refers to a single memory location"
    for view in (x.expand(2, 3), x.as_strided((2, 2), (1, 1)), x.unfold(0, 2, 1)):
        with pytest.raises(RuntimeError, match=message):
            view.add_(1)
    x.expand(2, 3)[0].add_(1)  # one row of it shows each element once
    x.expand(1, 3).add_(1)
    same(x, [2, 3, 4])
    wide = x.expand(2, 3)
    x.zero_()
    assert wide.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.as_strided((9, 9), (1, 1)), RuntimeError, "out of bounds for storage of size"),
        (lambda x: x.as_strided((2,), (-1,)), RuntimeError, "Negative strides are not supported"),
        (lambda x: x.as_strided((2,), (1, 1)), RuntimeError, "mismatch in length of strides"),
        (lambda x: x.unfold(0, 9, 1), RuntimeError, "maximum size for tensor at dimension 0 is 3"),
        (lambda x: x.unfold(0, 1, 0), RuntimeError, "step is 0 but must be > 0"),
        (lambda x: x.diagonal(0, 1, -1), RuntimeError, "diagonal dimensions cannot be identical"),
        (lambda x: x.movedim((0, 1), (0,)), RuntimeError, "Invalid source or destination dims"),
        (lambda x: x.movedim((0, 0), (0, 1)), RuntimeError, "repeated dim in `source`"),
        (lambda x: x.hsplit(3), RuntimeError, "not divisible by the split_size 3"),
        (lambda x: x[0].vsplit(2), RuntimeError, "requires a tensor with at least 2 dimensions"),
        (lambda x: x.resize_(-1), RuntimeError, "negative dimension"),
        (lambda x: x.set_(braze.zeros(2, dtype=braze.int64)), RuntimeError, "Could not set tensor"),
        (lambda x: x[0].mT, RuntimeError, "only supported on matrices or batches"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(ramp(3, 4))


def test_splits():
    x = ramp(5, 4)
    array = x.numpy().copy()
    for ours, theirs in [
        (braze.tensor_split(x, 3), np.array_split(array, 3)),
        (x.tensor_split((1, -1), 1), np.array_split(array, (1, -1), 1)),
        (x.hsplit(2), np.hsplit(array, 2)),
        (x.vsplit((2, 9)), np.vsplit(array, (2, 9))),
        (x.reshape(5, 2, 2).dsplit(2), np.dsplit(array.reshape(5, 2, 2), 2)),
    ]:
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    x.hsplit(2)[1].zero_()
    assert x[:, 2:].sum().item() == 0


# Tensors that change in place ---------------------------------------------------------------------


def test_an_empty_vector_that_is_joined_has_a_gradient():
    empty, full = braze.zeros(0, requires_grad=True), braze.ones(2, requires_grad=True)
    braze.cat([empty, full]).sum().backward()
    assert empty.grad.shape == (0,) and full.grad.tolist() == [1, 1]
    assert braze.cat([braze.ones(2), empty]).requires_grad
    assert braze.cat([braze.ones(1, 2), empty]).shape == (1, 2)


def test_movement_in_place():
    x = ramp(2, 3)
    row = x[1]
    assert x.t_() is x and x.shape == (3, 2) and x.stride() == (1, 3)
    column = x[:, 0]
    x[0, 1] = 9.0
    assert row.tolist() == [9, 4, 5] and x.tolist() == [[0, 9], [1, 4], [2, 5]]
    row.zero_()
    assert x.tolist() == [[0, 0], [1, 0], [2, 0]]
    column.fill_(3)
    assert x.unsqueeze_(1).transpose_(0, 1).squeeze_(0).tolist() == [[3, 0]] * 3
    assert row.tolist() == [0, 0, 0] and x.swapaxes_(0, 1).shape == (2, 3)
    assert x.as_strided_((2,), (1,), 1).tolist() == [3, 3]


def test_set_and_resize():
    x, y = ramp(2, 3), ramp(4)
    old = x[0]
    x.set_(y)
    assert x.is_set_to(y) and not x.is_set_to(y[1:]) and x.shape == (4,)
    x[1] = 7.0
    assert y.tolist() == [0, 7, 2, 3] and old.tolist() == [0, 1, 2]
    x.set_(y, 1, (3,), (1,))
    assert x.tolist() == [7, 2, 3] and x.storage_offset() == 1
    x.resize_(2)
    assert x.tolist() == [7, 2]
    x.add_(1)
    assert y.tolist() == [0, 8, 3, 3]
    assert x.resize_(2, 2).tolist() == [[8, 3], [3, 0]]
    x.resize_as_(braze.zeros(1, 1))
    x.fill_(4)
    assert x.tolist() == [[4]] and y.tolist() == [0, 8, 3, 3]
    assert x.set_().numel() == 0
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        braze.zeros(2, requires_grad=True).resize_(3)


def test_the_version_counts_writes_through_views():
    x = ramp(3)
    before = x._version
    x[1:].add_(1)
    x.detach().mul_(2)
    assert x._version == before + 2 == x[0]._version
    row = x[:1]
    x.unsqueeze_(0).t_()
    assert x._version == before + 4 == row._version


# Gradients ----------------------------------------------------------------------------------------


def gradient(function, x):
    leaf = braze.tensor(x, requires_grad=True)
    function(leaf).backward()
    return leaf.grad.numpy()


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


def write_diagonal(x):
    y = x * 2.0
    y.diagonal(1).mul_(y[0, 0])
    return weighted(y)


def write_strided(x):
    y = x * x
    y.as_strided((2, 2), (5, 1), 1).mul_(3.0)
    y.t()[1:].add_(y.sum())
    return weighted(y)


def write_windows(x):
    y = x * 2.0
    y.unfold(1, 2, 2)[:, 0].mul_(x[:, :2])
    return weighted(y)


def move_in_place(x):
    y = x * 3.0
    y.t_()
    y[1].mul_(y[0])
    return weighted(y.unsqueeze_(0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: weighted(x.as_strided((3, 3), (2, 1)) ** 2),
        lambda x: weighted(x.unfold(1, 2, 1).exp()),
        lambda x: weighted(x.diagonal(-1) ** 3),
        lambda x: weighted(x.movedim(0, 1).expand(2, 4, 3) * x.t()),
        lambda x: weighted(braze.diagonal_scatter(x, x[0, :3] ** 2)),
        lambda x: weighted(braze.slice_scatter(x, x[:, :2] ** 2, 1, 0, 4, 2)),
        lambda x: weighted(braze.select_scatter(x, x[0] ** 2, 0, 1)),
        write_diagonal,
        write_strided,
        write_windows,
        move_in_place,
    ],
)
def test_gradients(function):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))
    np.testing.assert_allclose(gradient(function, x), numerical(function, x), rtol=1e-6, atol=1e-6)


def test_leaves_and_saved_values_are_guarded():
    x = braze.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad is being"):
        x[0].zero_()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being"):
        x.unsqueeze_(0)
    y = x.exp()
    y[1:].zero_()
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        y.sum().backward()


def test_a_leaf_that_is_a_view_stays_one():
    base = braze.zeros(3)
    leaf = base[1:].requires_grad_()
    base.fill_(2)
    (leaf * leaf).sum().backward()
    assert leaf.is_leaf and leaf.grad.tolist() == [4.0, 4.0]


def test_a_tensor_detached_after_it_was_moved_in_place():
    x = ramp(2, 3)
    x.t_()
    for view in (x.detach(), x.data):
        assert view.tolist() == x.tolist() and view.stride() == (1, 3)
        same(view, x.tolist())
    x.detach().numpy()[0, 1] = 9
    assert x.tolist() == [[0, 9], [1, 4], [2, 5]]


def test_any_strides_of_a_leaf_that_was_detached():
    leaf = ramp(2, 3).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        leaf.as_strided((2, 2), (1, 2)).mul_(2)
    leaf[1:].as_strided((2,), (2,), 1).sum().backward()
    assert leaf.grad.tolist() == [[0, 1, 0], [1, 0, 0]]


# Writes through `data`, and to elements that are shown twice --------------------------------------


def test_a_new_shape_of_data_is_no_change_of_the_tensor():
    x = braze.tensor([1.0, 2.0, 3.0])
    y = x.data
    y.unsqueeze_(0)
    y[braze.tensor([0])] = 2.0
    assert x._version == 0
    assert x.tolist() == [2.0, 2.0, 2.0]


def test_filling_a_view_that_shows_an_element_twice():
    x = braze.zeros(2, 2)
    view = x.as_strided((3,), (0,), 1)
    view.fill_(7.0)
    assert x.tolist() == [[0.0, 7.0], [0.0, 0.0]]
    assert x._version == 1
    x.data.as_strided((3,), (0,), 1).zero_()
    assert x.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert x._version == 1
    x.data.expand(3, 2, 2)[0].fill_(5.0)
    assert x.tolist() == [[5.0, 5.0], [5.0, 5.0]]
    assert x._version == 1
    leaf = braze.zeros(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
        leaf.expand(3, 2, 2).zero_()
    with braze.no_grad():
        hidden = leaf.expand(3, 2, 2)
    with pytest.raises(RuntimeError, match="no_grad"):
        hidden.fill_(1.0)
    with pytest.raises(RuntimeError, match="no_grad"):
        hidden.select(0, 1).mul_(2.0)


@pytest.mark.parametrize(
    "overwrite",
    [
        lambda x, y: x.copy_(y),
        lambda x, y: x.view(1, 3).copy_(y),
        lambda x, y: x.__setitem__(slice(None), y),
        lambda x, y: x.__setitem__(..., y),
    ],
)
def test_what_is_overwritten_whole_gets_a_gradient_of_zeros(overwrite):
    old, new = (braze.tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
    x = old.sin()
    overwrite(x, new)
    x.sum().backward()
    assert old.grad.tolist() == [0.0] * 3
    assert new.grad.tolist() == [1.0] * 3


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_a_product_is_written_to_through_a_view_of_other_rows(tier):
    with braze.config.using(tier=tier):
        x = braze.ones(3, 3) @ braze.ones(3, 2)
        x.view(2, -1)[1].mul_(2.0)
        x.view(2, -1).add_(1.0)
        assert x.tolist() == [[4.0, 4.0], [4.0, 7.0], [7.0, 7.0]]
