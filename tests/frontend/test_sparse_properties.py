"""Random sparse tensors of random layouts: every operation against its dense form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_tensors import check, drawn

import braze


@pytest.fixture(autouse=True)
def interpreted():
    """The shapes vary, and each would be compiled anew."""
    braze.sync()
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()


LAYOUTS = st.tuples(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(0, 999),
)


def sample(layout, seed=0):
    shape, sparse, nnz, own = layout
    return drawn(shape, min(sparse, len(shape)), nnz, own + seed)


@given(layout=LAYOUTS)
@settings(max_examples=60, deadline=None)
def test_conversions_keep_the_elements(layout):
    x, array = sample(layout)
    check(x, array)
    merged = x.coalesce()
    assert merged.is_coalesced() and merged.coalesce() is merged
    check(merged, array)
    back = braze.tensor(array).to_sparse(x.sparse_dim())
    assert back.is_coalesced() and back.sparse_dim() == x.sparse_dim()
    check(back, array)
    check(x.clone(), array)


@given(layout=LAYOUTS)
@settings(max_examples=60, deadline=None)
def test_arithmetic(layout):
    x, a = sample(layout)
    y, b = sample(layout, seed=1)
    dense = np.random.default_rng(5).uniform(size=a.shape)
    check(x + y, a + b)
    check(x.coalesce() - y.coalesce(), a - b)
    check(x * y, a * b)
    check(x * x, a * a)
    check(braze.tensor(dense) + x, dense + a)
    check(x * braze.tensor(dense), a * dense)
    check(x.sum(), a.sum(), 1e-10)
    check(x.abs(), np.abs(a))


@given(layout=LAYOUTS, data=st.data())
@settings(max_examples=80, deadline=None)
def test_sums_over_dimensions(layout, data):
    x, array = sample(layout)
    dims = data.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))
    keepdim = data.draw(st.booleans())
    expected = array.sum(axis=tuple(dims), keepdims=keepdim)
    check(x.sum(tuple(dims), keepdim), expected, 1e-10)


@given(layout=LAYOUTS, data=st.data())
@settings(max_examples=80, deadline=None)
def test_parts(layout, data):
    x, array = sample(layout)
    dim = data.draw(st.integers(0, x.ndim - 1))
    size = array.shape[dim]
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    step = data.draw(st.integers(1, 3))
    key = (slice(None),) * dim
    check(x[(*key, slice(start, stop, step))], array[(*key, slice(start, stop, step))])
    check(x.narrow(dim, start, stop - start), array[(*key, slice(start, stop))])
    index = data.draw(st.lists(st.integers(0, max(size - 1, 0)), max_size=5 if size else 0))
    picked = x.index_select(dim, braze.tensor(index, dtype=braze.int64))
    check(picked, np.take(array, np.array(index, np.int64), dim))
    if size:
        place = data.draw(st.integers(-size, size - 1))
        check(x.select(dim, place), np.take(array, place, dim))
    y, other = sample(layout, seed=1)
    check(braze.cat([x, y, x], dim), np.concatenate([array, other, array], dim))


@given(layout=LAYOUTS, data=st.data())
@settings(max_examples=80, deadline=None)
def test_new_dimensions_and_orders(layout, data):
    x, array = sample(layout)
    dim = data.draw(st.integers(0, x.ndim))
    wide = x.unsqueeze(dim)
    check(wide, np.expand_dims(array, dim))
    check(wide.squeeze(dim), array)
    check(x.squeeze(), array.squeeze())
    count = x.sparse_dim()
    order = [*data.draw(st.permutations(range(count)))]
    order += data.draw(st.permutations(range(count, x.ndim)))
    check(x.permute(order), array.transpose(order))
    y, other = sample(layout, seed=1)
    check(braze.stack([x, y]), np.stack([array, other]))


@given(
    sizes=st.tuples(*(st.integers(0, 5),) * 3),
    counts=st.tuples(*(st.integers(0, 12),) * 2),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_products(sizes, counts, seed):
    m, k, n = sizes
    x, a = drawn((m, k), nnz=counts[0], seed=seed)
    y, b = drawn((k, n), nnz=counts[1], seed=seed + 1)
    dense = np.random.default_rng(seed).uniform(size=(k, n))
    check(x @ braze.tensor(dense), a @ dense)
    check(braze.tensor(dense.T) @ x.t(), dense.T @ a.T)
    check(x @ y, a @ b)
    check(x @ braze.tensor(dense[:, :1].reshape(-1)[:k]) if n else x, a @ dense[:, 0] if n else a)
    check(braze.smm(x, braze.tensor(dense)), a @ dense)
    check(braze.hspmm(x, braze.tensor(dense)), a @ dense)


STEPS = {
    "scale": lambda x, r: x * float(r.uniform(0.5, 2)),
    "transpose": lambda x, r: x.t(),
    "add": lambda x, r: x + x * 0.5,
    "sine": lambda x, r: x.sin(),
    "square": lambda x, r: x * x,
    "mask": lambda x, r: x * braze.tensor(r.uniform(size=tuple(x.shape))),
    "in place": lambda x, r: x.clone().mul_(2),
    "join": lambda x, r: braze.cat([x, x], int(r.integers(0, 2))),
    "pick": lambda x, r: x.index_select(0, braze.tensor(r.integers(0, x.shape[0], 3))),
    "cut": lambda x, r: x[: max(1, x.shape[0] - 1)],
}


@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=5),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 8)),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_programs_and_their_gradients_are_those_of_dense_tensors(steps, sizes, seed):
    rows, columns, nnz = sizes
    generator = np.random.default_rng(seed)
    indices = np.stack([generator.integers(0, rows, nnz), generator.integers(0, columns, nnz)])
    values = generator.uniform(0.5, 2, nnz)

    def run(is_sparse):
        draws = np.random.default_rng(seed)
        leaf = braze.tensor(values, requires_grad=True)
        x = braze.sparse_coo_tensor(indices, leaf, (rows, columns))
        x = x if is_sparse else x.to_dense()
        for step in steps:
            x = STEPS[step](x, draws)
        assert x.is_sparse == is_sparse
        y = x @ braze.tensor(draws.uniform(size=(x.shape[1], 2)))
        y.square().sum().backward()
        return y.detach().numpy(), leaf.grad.numpy()

    for found, expected in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
