"""Rarely called methods, keywords of methods that take any number of sizes, older orders."""

import pytest

import braze


def test_what_tensors_are_not():
    x = braze.ones(2, 3)
    assert not (x.is_mkldnn or x.is_nested or x.is_sparse_csr or x.is_xpu or x.is_neg())
    assert x.name is None and x.volatile is False and x.output_nr == 0
    assert x[0]._is_view() and not x._is_view()


def test_strides():
    x = braze.ones(2, 3)
    made = x.new_empty_strided((2, 2), (1, 3), dtype=braze.int32)
    assert made.stride() == (1, 3) and made.dtype is braze.int32
    assert x.new_empty_strided((0, 2), (1, 1)).shape == (0, 2)
    assert x.dim_order() == (0, 1) and x.t().dim_order() == (1, 0)


def test_diagonals_filled_in_place():
    assert braze.zeros(2, 3).fill_diagonal_(5).tolist() == [[5, 0, 0], [0, 5, 0]]
    tall = braze.zeros(7, 2).fill_diagonal_(1, wrap=True)
    assert tall.nonzero().tolist() == [[0, 0], [1, 1], [3, 0], [4, 1], [6, 0]]
    base = braze.zeros(3, 2)
    base.t().fill_diagonal_(4)
    assert base.tolist() == [[4, 0], [0, 4], [0, 0]]
    cube = braze.zeros(2, 2, 2).fill_diagonal_(1)
    assert cube.sum().item() == 2 and cube[1, 1, 1].item() == 1
    x = braze.ones(2, 2, requires_grad=True)
    (x * 1).fill_diagonal_(3).sum().backward()
    assert x.grad.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(RuntimeError, match="larger than 1"):
        braze.zeros(3).fill_diagonal_(1)
    with pytest.raises(RuntimeError, match="equal length"):
        braze.zeros(2, 3, 3).fill_diagonal_(1)


def test_sums_and_python_functions():
    assert braze.ones(2, 3).sum_to_size(1, 3).tolist() == [[2, 2, 2]]
    assert braze.ones(2, 3).sum_to_size((3,)).tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError):
        braze.ones(2, 3).sum_to_size(2)
    x = braze.ones(2)
    x.map2_(braze.tensor([1.0, 2.0]), braze.tensor(3.0), lambda a, b, c: a + b * c)
    assert x.tolist() == [4, 7]
    for call in (
        lambda y: y.apply_(abs),
        lambda y: y.map_(x, max),
        lambda y: y.map2_(x, x, max),
    ):
        with pytest.raises(RuntimeError, match="requires grad"):
            call(braze.ones(2, requires_grad=True) * 1)


def test_older_protocols():
    x = braze.arange(3)
    assert reversed(x).tolist() == [2, 1, 0]
    with pytest.raises(TypeError, match="deleting"):
        del x[0]
    assert x.__rdiv__(2.0)[1].item() == 2.0


def test_sizes_by_keyword():
    x = braze.arange(6).reshape(2, 3)
    assert x.reshape(shape=(3, 2)).shape == x.view(size=(3, 2)).shape == (3, 2)
    assert x.permute(dims=(1, 0)).shape == (3, 2)
    assert x.expand(size=(4, -1, 3)).shape == x.repeat(repeats=(4, 1, 1)).shape == (4, 2, 3)
    assert x.tile(dims=(2,)).shape == (2, 6)
    assert x.flip(dims=(1,)).tolist() == [[2, 1, 0], [5, 4, 3]]
    for name in ("new_zeros", "new_ones", "new_empty"):
        assert getattr(x, name)(size=(1, 2)).shape == (1, 2)
    assert x.float().view(dtype=braze.int32)[0].tolist() == [0, 0x3F800000, 0x40000000]
    for wrong in (
        lambda: x.reshape(),
        lambda: x.view(),
        lambda: x.reshape(2.0, 3),
        lambda: x.expand(shape=(2, 3)),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_sizes_that_cannot_be():
    with pytest.raises(RuntimeError, match="negative dimension"):
        braze.zeros(2, -1)
    with pytest.raises(RuntimeError, match="leading, non-existing"):
        braze.ones(3).expand(-1, 3)
    with pytest.raises(IndexError):
        braze.tensor(1.0).transpose(0, 1)
    assert braze.tensor(1.0).mT.shape == ()


def test_numbers_before_tensors():
    x = braze.tensor([1.0, 2.0])
    assert x.add(10, x).tolist() == braze.add(x, 10, x).tolist() == [11, 22]
    assert x.sub(10, x).tolist() == [-9, -18]
    assert x.addcmul(10, x, x).tolist() == [11, 42]
    assert x.clone().addcdiv_(0.5, x, x).tolist() == [1.5, 2.5]
    assert x.clone().add_(-0.5, x).tolist() == [0.5, 1.0]


def test_lists_of_lists_are_keys_of_several_dimensions():
    x = braze.arange(12).reshape(3, 4)
    assert x[[[0, 1], [2, 3]]].tolist() == x[[0, 1], [2, 3]].tolist() == [2, 7]
    assert x[[slice(0, 1), [1, 2]]].tolist() == [[1, 2]]
    assert x[[0, 1]].shape == (2, 4)


def test_looking_into_a_storage():
    x = braze.arange(6.0).reshape(2, 3)
    y = braze.empty(0).set_(x.storage(), 1, (2,), (2,))
    assert y.tolist() == [1, 3]
    y.zero_()
    assert x.tolist() == [[0, 0, 2], [0, 4, 5]]
    assert braze.empty(0).set_(x.storage()).tolist() == [0, 0, 2, 0, 4, 5]


def test_powers_in_float64():
    assert braze.tensor([2], dtype=braze.uint8).float_power(-1).tolist() == [0.5]
    with pytest.raises(RuntimeError, match="requires dtype float64"):
        braze.ones(2).float_power_(2)
    assert braze.ones(2, dtype=braze.float64).float_power_(2).tolist() == [1, 1]


@pytest.mark.parametrize("other", ["a", None, [1]])
@pytest.mark.parametrize("name", ["logical_and", "logical_xor", "ldexp", "add", "lt"])
def test_what_is_no_number(name, other):
    with pytest.raises(TypeError):
        getattr(braze.ones(2), name)(other)


def test_numbers_with_a_history_fill_and_replace():
    x, v = braze.ones(3, requires_grad=True), braze.tensor(2.0, requires_grad=True)
    y = x * 1
    y.fill_(v)
    (y * braze.arange(3.0)).sum().backward()
    assert v.grad.item() == 3.0 and x.grad.tolist() == [0, 0, 0]
    x, v = braze.ones(3, requires_grad=True), braze.ones(1, requires_grad=True)
    y = x * 1
    y.copy_(v).sum().backward()
    assert v.grad.tolist() == [3.0] and x.grad.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="0-dimension"):
        braze.ones(2).fill_(braze.ones(2))
    with pytest.raises(RuntimeError, match="0-dimensional"):
        braze.ones(2).masked_fill(braze.ones(2) > 0, braze.ones(2))
    for wrong in (
        lambda: braze.ones(2).fill_("a"),
        lambda: braze.ones(2).masked_fill(braze.ones(2) > 0, "a"),
        lambda: ~braze.ones(2),
        lambda: braze.ones(3).gather(0, [1]),
        lambda: braze.ones(2).set_(3),
        lambda: braze.ones(2).to(braze.float32, 1, 2),
        lambda: braze.ones(2).softmax(),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_copies_and_pieces():
    x = braze.arange(4.0)
    assert x.to(braze.float32) is x and x.to("cpu", copy=True) is not x
    assert x.to(braze.float32, False, True) is not x
    assert [len(p) for p in x.split(split_size=3)] == [3, 1]


def test_bounds_of_random_numbers_by_keyword():
    x = braze.zeros(1000).uniform_(**{"from": 2.0, "to": 3.0})
    assert x.min() >= 2 and x.max() < 3
    y = braze.zeros(1000, dtype=braze.int64).random_(to=3)
    assert y.unique().tolist() == [0, 1, 2]
    assert y.random_(**{"from": 5, "to": 7}).unique().tolist() == [5, 6]
    with pytest.raises(RuntimeError, match="out of bounds for uint8"):
        braze.zeros(3, dtype=braze.uint8).random_(300)
    with pytest.raises(TypeError, match="until"):
        x.uniform_(until=3)


def test_picks_of_nothing_keep_their_history():
    x = braze.ones(3, 2, requires_grad=True)
    for picked in (x[[]], x[:, []], x.gather(0, braze.zeros(0, dtype=braze.int64).reshape(0, 2))):
        assert picked.numel() == 0 and picked.requires_grad
        x.grad = None
        picked.sum().backward()
        assert x.grad.tolist() == [[0, 0]] * 3


def test_lists_of_truth_values_assign_as_masks():
    x = braze.arange(3)
    x[[True, False, True]] = braze.tensor(7.9)
    assert x.tolist() == [7, 1, 7]
