"""Making, printing, copying and resizing sparse COO tensors, and what they answer."""

import copy
import pickle

import numpy as np
import pytest
from sparse_tensors import check, check_form, drawn

import braze

INDICES, VALUES = [[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0]
ARRAY = np.array([[0, 0, 3.0], [4, 0, 5]])


@pytest.fixture(autouse=True)
def tier(request):
    """Most are interpreted: their kernels are those of tests of the operations they are made of."""
    braze.sync()
    with braze.config.using(tier=getattr(request, "param", "interpret")):
        yield
        braze.sync()


both_tiers = pytest.mark.parametrize("tier", ["interpret", "compile"], indirect=True)


def sample(**options):
    return braze.sparse_coo_tensor(INDICES, VALUES, (2, 3), **options)


# Making -------------------------------------------------------------------------------------------


@both_tiers
def test_the_parts_of_a_tensor():
    x = sample()
    check(x, ARRAY)
    assert x.is_sparse and x.layout is braze.sparse_coo and isinstance(x, braze.Tensor)
    assert (x.shape, x.dtype, x.ndim, x.numel()) == ((2, 3), braze.float32, 2, 6)
    assert (x.sparse_dim(), x.dense_dim(), x._nnz(), len(x)) == (2, 0, 3, 2)
    assert x._indices().tolist() == INDICES and x._values().tolist() == VALUES
    assert not x.is_coalesced()
    assert not braze.ones(2).is_sparse and braze.ones(2).layout is braze.strided


def test_the_size_may_be_left_out():
    x = braze.sparse_coo_tensor(INDICES, [[1, 2], [3, 4], [5, 6]])
    assert x.shape == (2, 3, 2) and x.dtype is braze.int64
    assert (x.sparse_dim(), x.dense_dim()) == (2, 1)
    check(braze.sparse_coo_tensor(np.zeros((2, 0)), np.zeros((0, 4))), np.zeros((0, 0, 4)))


def test_tensors_without_entries():
    for x in (
        braze.sparse_coo_tensor((2, 3)),
        braze.sparse_coo_tensor(size=(2, 3)),
        braze.zeros(2, 3, layout=braze.sparse_coo),
        braze.empty(2, 3, layout=braze.sparse_coo),
        braze.zeros_like(sample()),
        braze.empty_like(sample()),
        sample().new_zeros(2, 3),
        sample().new_empty((2, 3)),
        sample().new(2, 3),
        braze.sparse.FloatTensor(2, 3),
    ):
        assert x._nnz() == 0 and x.is_coalesced() and x.dtype is braze.float32
        check(x, np.zeros((2, 3)))
    assert braze.sparse_coo_tensor((2,), dtype=braze.float64).dtype is braze.float64
    assert braze.zeros_like(sample(), layout=braze.strided).layout is braze.strided
    assert braze.zeros_like(braze.ones(2), layout=braze.sparse_coo).is_sparse


def test_dtypes_of_the_parts():
    x = braze.sparse_coo_tensor(np.array(INDICES, np.int32), [1, 2, 3], dtype=braze.float64)
    assert x._indices().dtype is braze.int64 and x.dtype is braze.float64
    assert braze.sparse_coo_tensor([[0]], 5.0, (1,)).to_dense().tolist() == [5.0]


def test_values_share_memory_and_history():
    values = braze.tensor(VALUES)
    x = braze.sparse_coo_tensor(INDICES, values, (2, 3))
    values[0] = 9
    check(x, np.where(ARRAY == 3, 9, ARRAY))
    x.mul_(2)
    assert values.tolist() == [18, 8, 10]
    leaf = braze.tensor(VALUES, requires_grad=True)
    y = braze.sparse_coo_tensor(INDICES, leaf, (2, 3))
    assert y.requires_grad and not y.is_leaf and y.grad_fn is not None
    z = braze.sparse_coo_tensor(INDICES, leaf, (2, 3), requires_grad=True)
    assert z.requires_grad and z.is_leaf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0, 2], [0, 1]], [1.0, 2], (2, 3)), "for dim 0, size is 2 but found index 2"),
        (([[0, -1], [0, 1]], [1.0, 2], (2, 3)), "found negative index -1 for dim 0"),
        (([[0, -1], [0, 1]], [1.0, 2]), "found negative index -1 for dim 0"),
        (([[0, 1]], [1.0, 2, 3]), "must have same nnz, but got nnz from indices: 2"),
        (([[0, 1]], [1.0, 2], (2, 3)), r"len\(size\) = 2, sparse_dim = 1, dense_dim = 0"),
        (([[0]], [[1.0, 2]], (2, 3)), r"expected \[1, 3\], got \[1, 2\]"),
        (([0, 1], [1.0, 2]), "indices must be sparse_dim x nnz"),
        (([[0]], [1.0], (-1,)), "must not be negative"),
    ],
)
def test_parts_that_do_not_fit(arguments, message):
    with pytest.raises(RuntimeError, match=message):
        braze.sparse_coo_tensor(*arguments)


@both_tiers
def test_unchecked_indices_are_found_at_the_next_sync():
    x = braze.sparse_coo_tensor([[0, 5]], [1.0, 2.0], (3,), check_invariants=False)
    with pytest.raises(IndexError, match="index 5 is out of range"):
        x.to_dense().numpy()


def test_being_coalesced_is_believed_or_checked():
    assert sample(is_coalesced=True).is_coalesced()
    wrong = {"indices": [[0, 0]], "values": [1.0, 2], "size": (2,), "is_coalesced": True}
    for options in ({}, {"check_invariants": True}):
        with pytest.raises(RuntimeError, match="cannot set is_coalesced to true"):
            braze.sparse_coo_tensor(**wrong, **options)
    believed = braze.sparse_coo_tensor(**wrong, check_invariants=False)
    assert believed.is_coalesced() and not believed._coalesced_(False).is_coalesced()
    with pytest.raises(RuntimeError, match="cannot set is_coalesced to true"):
        believed._coalesced_(True)


def test_the_switch_for_checks():
    checks = braze.sparse.check_sparse_tensor_invariants
    with checks():
        assert checks.is_enabled()
    assert not checks.is_enabled()
    assert checks()(checks.is_enabled)() and not checks(False)(checks.is_enabled)()
    checks.enable()
    assert checks.is_enabled()
    checks.disable()
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        braze.sparse_coo_tensor([[0]], [1], requires_grad=True)


def test_legacy_types():
    indices, values = braze.tensor(INDICES), braze.tensor(VALUES)
    x = braze.sparse.FloatTensor(indices, values, braze.Size([2, 3]))
    check(x, ARRAY)
    assert isinstance(x, braze.sparse.FloatTensor)
    assert not isinstance(x, (braze.FloatTensor, braze.sparse.DoubleTensor))
    assert not isinstance(values, braze.sparse.FloatTensor)
    assert x.type() == "braze.sparse.FloatTensor" == braze.typename(x)
    assert x.type(braze.sparse.DoubleTensor).dtype is braze.float64
    assert x.type("braze.sparse.LongTensor").type() == "braze.sparse.LongTensor"
    assert braze.sparse.LongTensor(indices, values.long()).dtype is braze.int64
    assert braze.sparse.FloatTensor().shape == (0,)
    assert x.new(indices, values, (4, 4)).shape == (4, 4)
    with pytest.raises(TypeError, match="expected values of"):
        braze.sparse.FloatTensor(indices, values.double())
    with pytest.raises(AttributeError, match="no attribute 'NoTensor'"):
        _ = braze.sparse.NoTensor


def test_diagonals():
    rows = braze.arange(9.0).reshape(3, 3)
    found = braze.sparse.spdiags(rows, braze.tensor([0, -1, 2]), (3, 3))
    check(found, np.diag([0.0, 1, 2]) + np.diag([3.0, 4], -1) + np.diag([8.0], 2))
    with pytest.raises(RuntimeError, match="duplicate values"):
        braze.sparse.spdiags(rows, braze.tensor([0, 0, 2]), (3, 3))
    with pytest.raises(RuntimeError, match="does not match the number of offsets"):
        braze.sparse.spdiags(rows, braze.tensor([0]), (3, 3))


# Conversions --------------------------------------------------------------------------------------


@both_tiers
def test_dense_to_sparse():
    x = braze.tensor(ARRAY).to_sparse()
    assert x.indices().tolist() == INDICES and x.values().tolist() == VALUES
    hybrid = braze.tensor(ARRAY).to_sparse(1)
    assert hybrid.values().tolist() == ARRAY.tolist() and hybrid.sparse_dim() == 1
    assert braze.tensor(ARRAY).to_sparse(dense_dim=1).dense_dim() == 1
    assert x.to_sparse() is x
    check(braze.tensor(2.0).to_sparse(), 2.0)
    for call, message in (
        (lambda: braze.ones(2, 3).to_sparse(5), r"must be in \[1,2\] range, but 5 is given"),
        (lambda: x.to_sparse(1), "conversion from Sparse to Sparse"),
        (lambda: braze.ones(2).to_sparse(layout=braze.strided), "only layout"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()


@both_tiers
def test_coalescing_sums_and_sorts():
    x = braze.sparse_coo_tensor([[1, 0, 1], [0, 2, 0]], [1.0, 2, 3], (2, 3))
    for call in (x.indices, x.values):
        with pytest.raises(RuntimeError, match="on an uncoalesced tensor, please call"):
            call()
    merged = x.coalesce()
    assert merged.indices().tolist() == [[0, 1], [2, 0]] and merged.values().tolist() == [2, 4]
    flags = braze.sparse_coo_tensor([[0, 0, 1]], [True, False, False], (2,)).coalesce()
    assert flags.dtype is braze.bool and flags.values().tolist() == [True, False]
    halves = braze.sparse_coo_tensor([[0, 0]], [1.5, 2], (1,), dtype=braze.float16).coalesce()
    assert halves.dtype is braze.float16 and halves.values().tolist() == [3.5]
    nowhere = braze.sparse_coo_tensor(np.zeros((0, 2), np.int64), [1.0, 2], ())
    assert nowhere.coalesce()._nnz() == 1 and nowhere.to_dense().item() == 3


def test_too_many_places_to_number():
    x = braze.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2], (2**40, 2**40))
    with pytest.raises(RuntimeError, match="more places than int64 can number"):
        x.coalesce()


@both_tiers
def test_masks_pick_elements():
    mask, _ = drawn((4, 5, 2), 2, nnz=7, seed=3)
    array = np.random.default_rng(0).uniform(size=(4, 5, 2))
    is_there = mask.coalesce().to_dense().numpy() != 0
    picked = braze.tensor(array).sparse_mask(mask)
    assert picked._nnz() == mask.coalesce()._nnz()
    check(picked, np.where(is_there, array, 0))
    x, other = drawn((4, 5, 2), 2, nnz=9, seed=4)
    found = x.sparse_mask(mask)
    assert found._indices().tolist() == mask.coalesce().indices().tolist()
    check(found, np.where(is_there, other, 0))
    check(
        braze.sparse_coo_tensor((4, 5, 2)).sparse_mask(braze.zeros(4, 5, 2).to_sparse()), 0 * array
    )
    for call, error, message in (
        (lambda: braze.ones(3, 2).sparse_mask(mask), RuntimeError, "incompatible sizes"),
        (lambda: braze.ones(2).sparse_mask(braze.ones(2)), NotImplementedError, "must be a sparse"),
        (lambda: sample().sparse_mask(braze.ones(2, 3).to_sparse(1)), RuntimeError, "2 sparse dim"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_dense_tensors_say_that_they_are_dense():
    x = braze.ones(2, 3)
    assert (x.sparse_dim(), x.dense_dim()) == (0, 2) and x.to_dense() is x
    for name in ("coalesce", "indices", "values", "is_coalesced"):
        with pytest.raises(RuntimeError, match=f"{name} expected sparse"):
            getattr(x, name)()
    with pytest.raises(NotImplementedError, match="_nnz"):
        x._nnz()


# Printing, copies ---------------------------------------------------------------------------------


def test_printing():
    assert repr(sample()) == (
        "tensor(indices=tensor([[0, 1, 1],\n"
        "                       [2, 0, 2]]),\n"
        "       values=tensor([3., 4., 5.]),\n"
        "       size=(2, 3), nnz=3, layout=braze.sparse_coo)"
    )
    empty = braze.sparse_coo_tensor((2, 3), dtype=braze.float64, requires_grad=True)
    assert repr(empty) == (
        "tensor(indices=tensor([], size=(2, 0)),\n"
        "       values=tensor([], size=(0,)),\n"
        "       size=(2, 3), nnz=0, dtype=braze.float64, layout=braze.sparse_coo,\n"
        "       requires_grad=True)"
    )
    assert "grad_fn=<MulBackward0>" in repr(sample(requires_grad=True) * 2)


def test_copies_and_pickles():
    x = sample(requires_grad=True, is_coalesced=True)
    x.note = "kept"
    for new in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert new.is_coalesced() and new.requires_grad and new.is_leaf and new.note == "kept"
        check(new, ARRAY)
        with braze.no_grad():
            new.mul_(2)
        check(x, ARRAY)
    shallow = copy.copy(x)
    with braze.no_grad():
        shallow.mul_(2)
    check(x, 2 * ARRAY)
    (x * 3).to_dense().sum().backward()
    assert copy.deepcopy(x).grad.values().tolist() == [3, 3, 3]
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


def test_clones_and_detached_tensors():
    x = sample()
    clone, detached = x.clone(), x.detach()
    x.mul_(2)
    check(clone, ARRAY)
    check(detached, 2 * ARRAY)
    check(braze.tensor(x), 2 * ARRAY)
    assert braze.as_tensor(x) is x and braze.tensor(x, dtype=braze.float64).dtype is braze.float64
    y = sample(requires_grad=True)
    assert not y.detach().requires_grad and not y.data.requires_grad and y.clone().requires_grad
    y.data = x
    check(y, 2 * ARRAY)
    assert y.requires_grad and y.is_leaf
    z = y * 2
    z.detach_()
    assert z.is_leaf and not z.requires_grad


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.transpose(0, 1).transpose(0, 1),
        lambda x: x.unsqueeze(0).squeeze(0),
        lambda x: x.narrow(0, 0, 2),
        lambda x: x.expand(2, 3, 2),
        lambda x: x[:, :, 0:2],
        lambda x: x.permute(0, 1, 2),
        lambda x: braze.cat([x]),
        lambda x: x.clone(),
        lambda x: x.sparse_mask(x),
    ],
)
def test_results_are_no_views(function):
    array = np.arange(12.0).reshape(2, 3, 2)
    x = braze.tensor(array).to_sparse(2)
    y = function(x)
    y.mul_(2)
    check(x, array)
    check(y, 2 * array)
    y.requires_grad_()
    assert not x.requires_grad


def test_resizing():
    x = sample()
    assert x.sparse_resize_((3, 4), 2, 0) is x
    check(x, np.pad(ARRAY, ((0, 1), (0, 1))))
    hybrid = braze.tensor(ARRAY).to_sparse(1).sparse_resize_((2, 5), 1, 1)
    check(hybrid, np.pad(ARRAY, ((0, 0), (0, 2))))
    for size, sparse, dense, message in (
        ((1, 4), 2, 0, r"shrinking the size of sparse dimensions \(from \[3, 4\] to \[1, 4\]\)"),
        ((3, 4, 2), 2, 1, "changing the number of dense dimensions"),
        ((3, 4, 2), 3, 0, "changing the number of sparse dimensions"),
        ((3, 4), 1, 0, "is not satisfied"),
    ):
        with pytest.raises(RuntimeError, match=message):
            x.sparse_resize_(size, sparse, dense)
    assert x.resize_as_(braze.zeros(5, 5).to_sparse()).shape == (5, 5)
    x.sparse_resize_and_clear_((4, 4), 1, 1)
    assert (x._nnz(), x.sparse_dim(), x.dense_dim()) == (0, 1, 1)
    check(x.sparse_resize_((2, 2), 2, 0), np.zeros((2, 2)))
    check(sample().zero_(), np.zeros((2, 3)))
    with pytest.raises(RuntimeError, match="is not satisfied"):
        x.sparse_resize_and_clear_((4, 4), 1, 0)


def test_copying_in_place():
    x = braze.sparse_coo_tensor((2, 3))
    x.copy_(sample(dtype=braze.float64))
    check(x, ARRAY)
    assert x.dtype is braze.float32
    for call, message in (
        (lambda: braze.zeros(2, 3).copy_(x), "between dense and sparse Tensors is not impl"),
        (lambda: x.copy_(braze.zeros(2, 3)), "between dense and sparse Tensors is not impl"),
        (lambda: x.copy_(sample().t()), r"of shape \[2, 3\], given \[3, 2\]"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()


# What has no sparse form --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x.numpy(), TypeError),
        (lambda x: np.asarray(x), TypeError),
        (lambda x: x.tolist(), NotImplementedError),
        (lambda x: bool(x), RuntimeError),
        (lambda x: x.item(), RuntimeError),
        (lambda x: x.data_ptr(), RuntimeError),
        (lambda x: x.storage(), NotImplementedError),
        (lambda x: x.nbytes, RuntimeError),
        (lambda x: x.contiguous(), RuntimeError),
        (lambda x: x.__dlpack__(), NotImplementedError),
        (lambda x: x.fill_(1), NotImplementedError),
        (lambda x: x.new_ones(2), NotImplementedError),
        (lambda x: x.nonzero(), NotImplementedError),
        (lambda x: x.exp(), NotImplementedError),
        (lambda x: x.cumsum(0), NotImplementedError),
        (lambda x: x.sort(), NotImplementedError),
        (lambda x: x == x, NotImplementedError),
        (lambda x: x.max(), NotImplementedError),
        (lambda x: x.mean(), NotImplementedError),
        (lambda x: braze.softmax(x, 1), NotImplementedError),
        (lambda x: braze.stack([x, braze.ones(2, 3)]), RuntimeError),
        (lambda x: braze.ones_like(x), NotImplementedError),
        (lambda x: braze.full_like(x, 2), NotImplementedError),
        (lambda x: braze.fill(x, 2), NotImplementedError),
        (lambda x: braze.rand_like(x), NotImplementedError),
        (lambda x: braze.bernoulli(x, 0.5), NotImplementedError),
        (lambda x: braze.normal(x), NotImplementedError),
        (lambda x: braze.randn_like(x), NotImplementedError),
        (lambda x: braze.ones(2, layout=braze.sparse_coo), NotImplementedError),
        (lambda x: braze.nn.functional.gelu(braze.ones(2, 3)) @ x, RuntimeError),
        (lambda x: x.reshape(3, 2), RuntimeError),
        (lambda x: x.expand(2, 2, 3), RuntimeError),
        (lambda x: x.__setitem__(0, 1), TypeError),
        (lambda x: braze.ones(2, 3).__setitem__(0, x), RuntimeError),
        (lambda x: braze.equal(x, x), NotImplementedError),
        (lambda x: x.uniform_(), NotImplementedError),
        (lambda x: x.set_(braze.ones(2, 3)), NotImplementedError),
        (lambda x: braze.ones(2, 3).set_(x), NotImplementedError),
        (lambda x: setattr(braze.ones(2, 3), "data", x), NotImplementedError),
        (lambda x: setattr(x, "data", braze.ones(2, 3)), RuntimeError),
        (lambda x: x.resize_(3, 3), NotImplementedError),
        (lambda x: braze.add(braze.ones(2, 3), 1, out=x), NotImplementedError),
        (lambda x: braze.add(x, x, out=braze.ones(2, 3)), NotImplementedError),
        (lambda x: braze.ones(2, 3)[x.long()], NotImplementedError),
        (lambda x: x.as_strided((2,), (1,)), NotImplementedError),
    ],
)
def test_nothing_becomes_dense_unasked(call, error):
    x = sample()
    with pytest.raises(error):
        call(x)
    check(x, ARRAY)


def test_the_message_names_operation_and_operand():
    with pytest.raises(
        NotImplementedError, match=r"\[exp\].*sparse f32\[2,3\].*3 entries.*to_dense"
    ):
        sample().exp()


def test_single_elements_are_numbers():
    x = braze.sparse_coo_tensor([[0, 0]], [2.0, 3.0], (1,))
    assert x.item() == 5 and bool(x) and not braze.sparse_coo_tensor((1,))


@both_tiers
def test_parts_of_a_program_run_compiled():
    """Sums of entries are captured like any other operations, and run at the sync."""
    x, y = sample(), braze.ones(3, 2)
    braze.sync()
    before = braze.stats.captured_ops
    z = (x * 2).to_dense() @ y
    assert braze.stats.captured_ops == before
    np.testing.assert_array_equal(z.numpy(), 2 * ARRAY @ np.ones((3, 2)))
    assert braze.stats.captured_ops > before


def test_the_form_is_checked_by_these_tests():
    options = {"is_coalesced": True, "check_invariants": False}
    x = braze.sparse_coo_tensor([[1, 0]], [1.0, 2.0], (2,), **options)
    with pytest.raises(AssertionError):
        check_form(x)
