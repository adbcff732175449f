"""Sparse tensors among modules, optimizers and tools."""

import copy
import pickle

import numpy as np
import pytest
from sparse_tensors import check

import braze
from braze.sparse.merging import Merged

F = braze.nn.functional
ADJACENCY = np.array([[0, 1.0, 0], [2, 0, 3], [0, 0, 0]])


@pytest.fixture(autouse=True)
def tier(request):
    """Most are interpreted: their kernels are those of tests of the operations they are made of."""
    braze.sync()
    with braze.config.using(tier=getattr(request, "param", "interpret")):
        yield
        braze.sync()


both_tiers = pytest.mark.parametrize("tier", ["interpret", "compile"], indirect=True)


class Layer(braze.nn.Module):
    """A graph convolution, whose graph is a buffer."""

    def __init__(self):
        super().__init__()
        self.linear = braze.nn.Linear(3, 2, bias=False)
        self.register_buffer("adjacency", braze.tensor(ADJACENCY).float().to_sparse())

    def forward(self, x):
        return self.adjacency @ self.linear(x)


@both_tiers
def test_modules_keep_sparse_buffers():
    layer, x = Layer(), braze.eye(3)
    expected = ADJACENCY @ layer.linear.weight.detach().numpy().T
    check(layer(x), expected, 1e-6)
    assert "adjacency" in layer.state_dict()
    other = Layer()
    with braze.no_grad():
        other.adjacency.zero_()
    other.load_state_dict(pickle.loads(pickle.dumps(layer.state_dict())))
    for new in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert new.adjacency.is_sparse
        check(new(x), expected, 1e-6)
    other.double()
    assert other.adjacency.is_sparse and other.adjacency.dtype is braze.float64
    check(other(x.double()), expected, 1e-6)
    check(braze.compile(layer)(x), expected, 1e-6)
    assert "%adjacency.values" in str(braze.inspect(layer, x))
    state = layer.state_dict()
    state["adjacency"] = state["adjacency"].to_dense()
    with pytest.raises(
        RuntimeError, match=r'named "adjacency".*copy_\(\) between dense and sparse'
    ):
        Layer().load_state_dict(state)


def test_compiled_modules_see_changed_buffers():
    layer, x = Layer(), braze.eye(3)
    layer.requires_grad_(False)
    compiled = braze.compile(layer)
    check(compiled(x), layer(x).numpy(), 1e-6)
    layer.adjacency.copy_(layer.adjacency.t())
    check(compiled(x), ADJACENCY.T @ layer.linear.weight.numpy().T, 1e-6)
    double = braze.compile(lambda s: s * 2)
    assert double(layer.adjacency).is_sparse
    check(double(layer.adjacency), 2 * ADJACENCY.T)
    dense = braze.compile(braze.nn.ReLU())
    check(dense(x), np.eye(3))
    assert dense(x.to_sparse()).is_sparse  # not the graph for dense tensors


def test_transforms_of_functions_of_sparse_tensors():
    x = braze.tensor(ADJACENCY).to_sparse()
    gradient = braze.func.grad(lambda s: (s * s).sum())(x)
    assert gradient.is_sparse
    check(gradient, 2 * ADJACENCY)
    values = braze.ones(3, dtype=braze.float64)
    jacobian = braze.autograd.functional.jacobian(
        lambda v: braze.sparse_coo_tensor(x.indices(), v, (3, 3)).to_dense(), values
    )
    assert jacobian.shape == (3, 3, 3)
    assert braze.autograd.gradcheck(
        lambda v: braze.sparse_coo_tensor(x.indices(), v, (3, 3)).to_dense().sin(),
        values.requires_grad_(),
    )
    with pytest.raises(NotImplementedError, match="sparse inputs are not supported"):
        braze.autograd.gradcheck(lambda s: s.to_dense(), x.clone().requires_grad_())
    with pytest.raises(ValueError, match="Sparse output is not supported at gradcheck"):
        braze.autograd.gradcheck(lambda d: d.to_sparse(), braze.ones(2).double().requires_grad_())
    again = braze.utils.checkpoint.checkpoint(
        lambda s, d: s @ d, x, braze.eye(3, dtype=braze.float64).requires_grad_()
    )
    check(again, ADJACENCY)


def test_parameters_are_dense():
    with pytest.raises(NotImplementedError, match="a Parameter cannot be sparse"):
        braze.nn.Parameter(braze.eye(3).to_sparse())
    with pytest.raises(NotImplementedError, match="cannot become an instance"):
        braze.eye(3).to_sparse().as_subclass(braze.nn.Parameter)


def test_tools_look_into_sparse_tensors():
    x = braze.eye(3).to_sparse()
    braze.testing.assert_close(x, x.clone())
    with pytest.raises(AssertionError, match="Mismatched elements: 3 / 9"):
        braze.testing.assert_close(x, x * 2)
    with pytest.raises(AssertionError, match="'layout' do not match"):
        braze.testing.assert_close(x, x.to_dense(), allow_subclasses=True)
    braze.testing.assert_close(x, x.to_dense(), check_layout=False)
    with pytest.warns(UserWarning), braze.autograd.detect_anomaly():
        table = braze.ones(3, 2, requires_grad=True)
        F.embedding(braze.tensor([1]), table, sparse=True).sum().backward()
        assert table.grad.is_sparse
        with pytest.raises(RuntimeError, match="returned nan values"):
            rows = F.embedding(braze.tensor([1]), table, sparse=True)
            (rows * float("nan")).sum().backward()


def test_gradients_of_modules_are_set_to_zero():
    table = braze.nn.Embedding(4, 2, sparse=True)
    table(braze.tensor([1])).sum().backward()
    table.zero_grad(set_to_none=False)
    assert table.weight.grad.is_sparse and table.weight.grad._nnz() == 0
    table(braze.tensor([2])).sum().backward()
    check(table.weight.grad, [[0, 0], [0, 0], [1, 1], [0, 0]])


def adam(start, gradients, lr, betas, eps):
    """The elements that each gradient, dense with nan where there is no entry, moves."""
    p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step, g in enumerate(gradients, 1):
        at = ~np.isnan(g)
        m[at] += (1 - betas[0]) * (g[at] - m[at])
        v[at] += (1 - betas[1]) * (g[at] ** 2 - v[at])
        size = lr * np.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
        p[at] -= size * m[at] / (np.sqrt(v[at]) + eps)
    return p


@both_tiers
@pytest.mark.parametrize("maximize", [False, True])
def test_sparse_adam_moves_what_has_a_gradient(maximize):
    start = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    table = braze.tensor(start, requires_grad=True)
    stepper = braze.optim.SparseAdam([table], 0.1, betas=(0.8, 0.9), eps=1e-6, maximize=maximize)
    gradients = []
    for index in ([1, 1, 3], [0, 3, 3], [2, 1, 2]):
        stepper.zero_grad()
        (F.embedding(braze.tensor(index), table, sparse=True) ** 2).sum().backward()
        dense = table.grad.to_dense().numpy()
        absent = np.ones(5, bool)
        absent[index] = False
        gradients.append(np.where(absent[:, None], np.nan, -dense if maximize else dense))
        stepper.step()
    check(table, adam(start, gradients, 0.1, (0.8, 0.9), 1e-6))
    np.testing.assert_array_equal(table.detach().numpy()[4], start[4])
    again = braze.optim.SparseAdam([table])
    again.load_state_dict(stepper.state_dict())
    assert again.state[table]["step"] == 3


def test_sparse_adam_refuses():
    table = braze.ones(3, 2, requires_grad=True)
    table.sum().backward()
    with pytest.raises(RuntimeError, match="does not support dense gradients, please consider"):
        braze.optim.SparseAdam([table]).step()
    for options in ({"lr": 0.0}, {"eps": 0.0}, {"betas": (1.0, 0.9)}):
        with pytest.raises(ValueError, match="Invalid"):
            braze.optim.SparseAdam([table], **options)
    with pytest.raises(ValueError, match="requires dense parameter"):
        braze.optim.SparseAdam([braze.eye(3).to_sparse().requires_grad_()])


@pytest.mark.parametrize("tier", ["compile"], indirect=True)
@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad"])
def test_a_step_is_one_graph_however_many_rows_it_touches(name):
    table = braze.zeros(7, 3, requires_grad=True)
    stepper = getattr(braze.optim, name)([table], 0.1)

    def step(index):
        stepper.zero_grad()
        (F.embedding(braze.tensor(index), table, sparse=True) - 1).square().sum().backward()
        stepper.step()

    for index in ([0, 1, 2, 3], [6, 5, 4, 3]):  # the optimizer's state begins in the first
        step(index)
    braze.stats.reset()
    for index in ([5, 5, 5, 5], [0, 6, 0, 6], [1, 2, 3, 2], [4, 0, 1, 2]):
        step(index)
    assert braze.stats.graphs == 0 and braze.stats.native_calls == 4
    assert (table > 0.05).all()


@both_tiers
def test_entries_know_the_sum_of_their_place_without_a_sync():
    rng = np.random.default_rng(4)
    for shape, dims in (((6, 2), 1), ((3, 4), 2), ((2, 3, 2), 2)):
        places = np.stack([rng.integers(0, size, 9) for size in shape[:dims]])
        x = braze.sparse_coo_tensor(places, rng.standard_normal((9, *shape[dims:])), shape)
        merged, whole = Merged(x), x.to_dense().numpy()
        keys = np.sort(np.ravel_multi_index(tuple(places), shape[:dims]))
        rows = whole.reshape(-1, *shape[dims:])[keys]
        np.testing.assert_allclose(merged.values.numpy(), rows, rtol=1e-12)
        np.testing.assert_allclose(merged.of(x.to_dense()).numpy(), rows, rtol=1e-12)
        start = rng.standard_normal(shape)
        put = merged.put_in(braze.tensor(start), merged.values).numpy()
        touched = np.zeros(shape[:dims], bool)
        touched[tuple(places)] = True
        np.testing.assert_allclose(put[touched], whole[touched], rtol=1e-12)
        np.testing.assert_array_equal(put[~touched], start[~touched])
