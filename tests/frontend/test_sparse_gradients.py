"""Gradients through sparse tensors, and sparse gradients of dense leaves."""

import numpy as np
import pytest
from sparse_tensors import check, check_gradients, drawn

import braze

F = braze.nn.functional
INDICES = np.array([[0, 1, 1, 2, 1], [2, 0, 2, 1, 0]])  # one place twice
VALUES = np.array([0.7, -1.2, 0.5, 2.0, 0.4])
D = np.random.default_rng(0).uniform(-1, 1, (3, 4))
SIZE = (3, 3)


@pytest.fixture(autouse=True)
def tier(request):
    """Most are interpreted: their kernels are those of tests of the operations they are made of."""
    braze.sync()
    with braze.config.using(tier=getattr(request, "param", "interpret")):
        yield
        braze.sync()


both_tiers = pytest.mark.parametrize("tier", ["interpret", "compile"], indirect=True)


def sparse(values, size=SIZE, **options):
    return braze.sparse_coo_tensor(INDICES, values, size, **options)


OTHER = drawn(SIZE, nnz=5, seed=4)[0]
ONE_OPERAND = {
    "to_dense": lambda v: sparse(v),
    "coalesce": lambda v: sparse(v).coalesce(),
    "values": lambda v: sparse(v).coalesce().values() ** 2,
    "scaled": lambda v: sparse(v) * 3 / 2,
    "sum": lambda v: braze.sparse.sum(sparse(v), 0),
    "sum of all": lambda v: sparse(v).sum(),
    "norm": lambda v: sparse(v).norm(),
    "sin": lambda v: sparse(v).sin(),
    "square": lambda v: sparse(v) * sparse(v),
    "power": lambda v: sparse(v) ** 3,
    "transpose": lambda v: sparse(v).t(),
    "select": lambda v: sparse(v)[1],
    "slice": lambda v: sparse(v)[1:, :2],
    "index_select": lambda v: sparse(v).index_select(0, braze.tensor([1, 1, 2])),
    "cat": lambda v: braze.cat([sparse(v), sparse(v) * 2], 1),
    "softmax": lambda v: braze.sparse.softmax(sparse(v), 1),
    "log_softmax": lambda v: braze.sparse.log_softmax(sparse(v), 0),
    "sparse product": lambda v: sparse(v) @ sparse(v),
    "sparse sum": lambda v: sparse(v) + OTHER,
    "sparse difference": lambda v: OTHER.coalesce() - sparse(v).coalesce(),
    "elements of both": lambda v: sparse(v) * OTHER,
    "mask": lambda v: sparse(v).sparse_mask(OTHER),
}


@pytest.mark.parametrize("name", ONE_OPERAND)
def test_gradients_of_the_values(name):
    check_gradients(ONE_OPERAND[name], VALUES)


TWO_OPERANDS = {
    "mm": lambda v, d: braze.sparse.mm(sparse(v), d),
    "dense @ sparse": lambda v, d: d.t() @ sparse(v),
    "mv": lambda v, d: sparse(v).mv(d[:, 0]),
    "addmm": lambda v, d: braze.sparse.addmm(d, sparse(v), d, beta=2, alpha=3),
    "hspmm": lambda v, d: braze.hspmm(sparse(v), d),
    "smm": lambda v, d: braze.smm(sparse(v), d),
    "dense + sparse": lambda v, d: d[:, :3] + sparse(v),
    "dense - sparse": lambda v, d: braze.sub(d[:, :3], sparse(v), alpha=2),
    "sparse * dense": lambda v, d: sparse(v) * d[:, :3],
    "sparse * row": lambda v, d: sparse(v) * d[0, :3],
}


@both_tiers
@pytest.mark.parametrize("name", TWO_OPERANDS)
def test_gradients_of_both_operands(name):
    check_gradients(TWO_OPERANDS[name], VALUES, D)


def test_gradients_of_hybrid_tensors():
    rows = np.random.default_rng(1).uniform(-1, 1, (5, 2))
    for function in (
        lambda v: braze.sparse.sum(sparse(v, (3, 3, 2)), 1),
        lambda v: braze.sparse.sum(sparse(v, (3, 3, 2)), (0, 2)),
        lambda v: braze.sparse.softmax(sparse(v, (3, 3, 2)), 0),
        lambda v: braze.sparse.softmax(sparse(v, (3, 3, 2)), 2),
        lambda v: sparse(v, (3, 3, 2)).select(2, 1).coalesce(),
    ):
        check_gradients(function, rows)


def test_gradients_through_conversions():
    check_gradients(lambda d: (d * d).to_sparse(), D)
    check_gradients(lambda d: d.to_sparse(1) * 2, D)
    check_gradients(lambda d: d[:, :3].sparse_mask(sparse(VALUES)), D)
    check_gradients(lambda d: d.to_sparse().values() ** 2, D)


@both_tiers
def test_second_derivatives():
    squares = braze.tensor(D * D)

    def first_derivative(v):
        v = v if v.requires_grad else v.requires_grad_()
        total = (sparse(v) @ squares).square().sum() + braze.sparse.softmax(sparse(v), 1).norm()
        return braze.autograd.grad(total, v, create_graph=True)[0]

    check_gradients(first_derivative, VALUES)
    x = leaf()
    (gradient,) = braze.autograd.grad((x @ squares).square().sum(), x, create_graph=True)
    assert gradient.is_sparse and gradient.requires_grad
    (gradient * gradient).sum().backward()
    assert x.grad.is_sparse


# Sparse leaves ------------------------------------------------------------------------------------


def leaf(**options):
    return sparse(braze.tensor(VALUES), requires_grad=True, **options)


@both_tiers
def test_the_gradient_of_a_leaf_has_its_pattern():
    x = leaf()
    (x @ braze.tensor(D[:, :3])).sum().backward()
    assert x.grad.is_sparse and x.grad.is_coalesced()
    expected = D[:, :3].sum(1)
    assert x.grad.indices().tolist() == [[0, 1, 1, 2], [2, 0, 2, 1]]
    np.testing.assert_allclose(x.grad.values().numpy(), expected[[2, 0, 2, 1]])
    (x * 2).to_dense().sum().backward()
    np.testing.assert_allclose(x.grad.values().numpy(), 2 + expected[[2, 0, 2, 1]])
    x.grad = None
    assert x.grad is None


def test_what_leaves_answer():
    x = leaf().detach().coalesce().requires_grad_()
    assert x.is_leaf and x.requires_grad and x.grad_fn is None
    values = x.values()
    assert values.requires_grad and not values.is_leaf
    assert not x._values().requires_grad and not x.indices().requires_grad
    (values * values).sum().backward()
    np.testing.assert_allclose(x.grad.values().numpy(), 2 * values.detach().numpy())
    assert x.grad is x.grad
    x.grad.zero_()
    assert not x.grad.to_dense().any()
    y = x * 2
    assert not y.is_leaf and y.grad_fn is not None
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.mul_(2)
    with braze.no_grad():
        x.mul_(2)
        assert not (x * 2).requires_grad
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    with pytest.raises(RuntimeError, match="different type"):
        x.grad = braze.zeros(3, 3, dtype=braze.float64)
    x.grad = OTHER
    check(x.grad, OTHER.sparse_mask(x).to_dense().numpy())


def test_in_place_operations_are_recorded():
    v = braze.tensor(VALUES, requires_grad=True)
    y = sparse(v) * 1
    y.mul_(3)
    y *= y
    y.to_dense().sum().backward()
    dense = np.zeros(SIZE)
    np.add.at(dense, tuple(INDICES), VALUES)
    np.testing.assert_allclose(v.grad.numpy(), 18 * dense[tuple(INDICES)])


def test_starting_from_a_sparse_result():
    start, array = drawn(SIZE, nnz=7, seed=6)
    merged = leaf().detach().coalesce()
    is_there = merged.to_dense().numpy() != 0
    for gradient in (start, start.to_dense()):
        x = merged.clone().requires_grad_()
        (x * 2).backward(gradient)
        check(x.grad, np.where(is_there, 2 * array, 0))
        (again,) = braze.autograd.grad(x * 2, x, gradient)
        check(again, np.where(is_there, 2 * array, 0))
    x = leaf()
    with pytest.raises(RuntimeError, match="created only for scalar outputs, this one is sparse"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (x * 2).backward(braze.ones(2, dtype=braze.float64))
    with pytest.raises(RuntimeError, match="does not require grad"):
        merged.backward(merged)
    braze.autograd.backward([x * 2], [start], inputs=[x])
    assert x.grad is not None
    unused = leaf()
    (nothing,) = braze.autograd.grad((x * 2).sum(), [unused], allow_unused=True)
    assert nothing is None


def test_hooks_and_retained_gradients():
    x = leaf()
    y = x * 2
    y.retain_grad()
    seen = []
    y.register_hook(lambda g: seen.append(g) or g * 10)
    x.register_post_accumulate_grad_hook(seen.append)
    handle = x.register_hook(lambda g: g * 100)
    handle.remove()
    y.to_dense().sum().backward()
    assert y.retains_grad and seen[0].is_sparse and seen[1] is x
    assert seen[0].values().tolist() == [1, 1, 1, 1]
    assert y.grad.values().tolist() == [10] * 4 and x.grad.values().tolist() == [20] * 4


class Product(braze.autograd.Function):
    """The product of a sparse and a dense matrix, as graph networks write it."""

    @staticmethod
    def forward(ctx, indices, values, shape, b):
        a = braze.sparse_coo_tensor(indices, values, shape)
        ctx.save_for_backward(a, b)
        return braze.matmul(a, b)

    @staticmethod
    def backward(ctx, gradient):
        a, b = ctx.saved_tensors
        places = a._indices()[0] * a.shape[1] + a._indices()[1]
        values = gradient.matmul(b.t()).reshape(-1)[places]
        return None, values, None, a.t().matmul(gradient)


def test_custom_functions_that_save_sparse_tensors():
    indices = braze.tensor(INDICES)
    check_gradients(lambda v, d: Product.apply(indices, v, SIZE, d), VALUES, D)


class Twice(braze.autograd.Function):
    """Takes and gives a sparse tensor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        assert gradient.is_sparse and x.is_sparse
        return gradient * 2


def test_custom_functions_of_sparse_tensors():
    check_gradients(lambda v: Twice.apply(sparse(v).coalesce()).sin(), VALUES)
    x = leaf()
    Twice.apply(x).to_dense().sum().backward()
    assert x.grad.values().tolist() == [2] * 4


# Sparse gradients of dense leaves -----------------------------------------------------------------


@both_tiers
def test_embeddings_leave_sparse_gradients():
    weight = braze.tensor(np.random.default_rng(2).uniform(size=(5, 2)), requires_grad=True)
    plain = weight.detach().clone().requires_grad_()
    index = braze.tensor([[1, 1], [3, 0]])
    factor = braze.tensor(np.random.default_rng(3).uniform(size=(2, 2, 2)))
    for table, options in ((weight, {"sparse": True}), (plain, {})):
        (F.embedding(index, table, **options) * factor).sum().backward()
    assert weight.grad.is_sparse and not weight.grad.is_coalesced() and weight.grad._nnz() == 4
    assert weight.grad.sparse_dim() == 1
    check(weight.grad, plain.grad.numpy())
    for table, options in ((weight, {"sparse": True}), (plain, {})):
        (F.embedding(braze.tensor([2]), table, 2, **options)).sum().backward()
        (F.embedding(braze.tensor([4]), table, 2, **options)).square().sum().backward()
    assert weight.grad.is_sparse
    check(weight.grad, plain.grad.numpy())
    for table, options in ((weight, {"sparse": True}), (plain, {})):
        (F.embedding(index, table, **options).sum() + (table * table).sum()).backward()
    assert not weight.grad.is_sparse
    check(weight.grad, plain.grad.numpy())
    for table, options in ((weight, {"sparse": True}), (plain, {})):
        F.embedding(index, table, **options).sum().backward()  # onto a dense gradient
    check(weight.grad, plain.grad.numpy())


@both_tiers
def test_gathering_leaves_sparse_gradients():
    x = braze.tensor(D, requires_grad=True)
    index = braze.tensor([[0, 0], [1, 2]])
    (
        braze.gather(x, 1, index, sparse_grad=True) * braze.tensor([[1.0, 2], [3, 4]])
    ).sum().backward()
    assert x.grad.is_sparse and x.grad._nnz() == 4
    check(x.grad, [[3, 0, 0, 0], [0, 3, 4, 0], [0, 0, 0, 0]])
    (hooked,) = braze.autograd.grad(x.gather(0, index, sparse_grad=True).sum(), x)
    assert hooked.is_sparse


def test_a_sparse_gradient_of_an_inner_value_is_refused():
    weight = braze.ones(4, 2, requires_grad=True)
    rows = F.embedding(braze.tensor([1]), weight * 2, sparse=True)
    with pytest.raises(NotImplementedError, match="no sparse form"):
        rows.sum().backward()


def test_modules_with_sparse_gradients():
    table = braze.nn.Embedding(5, 2, padding_idx=1, sparse=True)
    assert "sparse=True" in repr(table)
    table(braze.tensor([1, 1, 3])).sum().backward()
    check(table.weight.grad, [[0, 0], [0, 0], [0, 0], [1, 1], [0, 0]])
    norm = braze.nn.utils.clip_grad_norm_(table.parameters(), 1.0)
    check(norm, np.sqrt(2), 1e-6)
    check(table.weight.grad, np.array([[0, 0], [0, 0], [0, 0], [1, 1], [0, 0]]) / np.sqrt(2), 1e-5)


@both_tiers
@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("maximize", [False, True])
def test_sgd_takes_sparse_gradients(momentum, maximize):
    start = np.random.default_rng(5).uniform(size=(5, 2))
    tables = [braze.tensor(start, requires_grad=True) for _ in range(2)]
    options = {"lr": 0.1, "momentum": momentum, "maximize": maximize}
    steppers = [braze.optim.SGD([table], **options) for table in tables]
    for index in ([1, 1, 3], [0, 3, 3], [2, 2, 2]):
        for table, stepper, is_sparse in zip(tables, steppers, (True, False), strict=True):
            stepper.zero_grad()
            (F.embedding(braze.tensor(index), table, sparse=is_sparse) ** 2).sum().backward()
            assert table.grad.is_sparse == is_sparse
            stepper.step()
    check(tables[0], tables[1].detach().numpy())
    steppers[0].zero_grad(set_to_none=False)
    assert tables[0].grad._nnz() == 0


def test_steps_that_would_be_dense_are_refused():
    table = braze.ones(5, 2, requires_grad=True)
    F.embedding(braze.tensor([1]), table, sparse=True).sum().backward()
    with pytest.raises(RuntimeError, match="weight decay is not supported with sparse gradients"):
        braze.optim.SGD([table], lr=0.1, weight_decay=0.1).step()
    with pytest.raises(RuntimeError, match="Adam does not support sparse gradients"):
        braze.optim.Adam([table]).step()
    check(table, np.ones((5, 2)))


@both_tiers
def test_a_training_step_with_a_fixed_pattern_is_one_graph():
    """No value is read between the look-up and the update, so an iteration is one run."""
    adjacency = braze.sparse_coo_tensor(INDICES, VALUES, SIZE)
    table = braze.ones(3, 2, dtype=braze.float64).requires_grad_()
    stepper = braze.optim.SGD([table], lr=0.1)
    runs = []
    for _ in range(3):
        braze.sync()
        before = braze.stats.native_calls + braze.stats.interpreted
        stepper.zero_grad()
        (adjacency @ F.embedding(braze.arange(3), table, sparse=True)).sum().backward()
        stepper.step()
        runs.append(braze.stats.native_calls + braze.stats.interpreted - before)
    assert runs == [1, 1, 1]
