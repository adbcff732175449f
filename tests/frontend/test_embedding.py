"""Embeddings and bags of them: values, gradients, padding, norms, and what they refuse."""

import numpy as np
import pytest

import braze
from braze import nn
from braze.nn import functional as F

pytestmark = pytest.mark.usefixtures("interpret")

TABLE = np.random.default_rng(0).normal(size=(6, 3))
INDEX = np.array([0, 2, 1, 2, 0, 5, 5])
OFFSETS = np.array([0, 2, 2, 5])
BAGS = [[0, 2], [], [1, 2, 0], [5, 5]]
COMBINE = {"sum": np.sum, "mean": np.mean, "max": np.max}


def expected(mode, bags):
    rows = [COMBINE[mode](TABLE[bag], axis=0) if bag else np.zeros(3) for bag in bags]
    return np.array(rows)


@pytest.mark.parametrize("mode", COMBINE)
def test_bags(mode):
    table = braze.tensor(TABLE)
    index, offsets = braze.tensor(INDEX), braze.tensor(OFFSETS)
    found = F.embedding_bag(index, table, offsets, mode=mode)
    np.testing.assert_allclose(found.numpy(), expected(mode, BAGS), rtol=1e-12)
    last = braze.tensor([*OFFSETS, 7])
    found = F.embedding_bag(index, table, last, mode=mode, include_last_offset=True)
    np.testing.assert_allclose(found.numpy(), expected(mode, BAGS), rtol=1e-12)
    found = F.embedding_bag(index, table, offsets, mode=mode, padding_idx=-4)
    without = [[k for k in bag if k != 2] for bag in BAGS]
    np.testing.assert_allclose(found.numpy(), expected(mode, without), rtol=1e-12)
    square = braze.tensor([[0, 2, 2], [1, 3, 0]])
    found = F.embedding_bag(square, table, mode=mode)
    np.testing.assert_allclose(found.numpy(), expected(mode, square.tolist()), rtol=1e-12)


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_gradients_of_bags(tier):
    table = braze.tensor(TABLE, requires_grad=True)
    index, offsets = braze.tensor(INDEX), braze.tensor(OFFSETS)
    weights = braze.tensor(np.linspace(0.5, 1.5, 7), requires_grad=True)

    def bags(table, weights):
        sums = F.embedding_bag(index, table, offsets, mode="sum", per_sample_weights=weights)
        means = F.embedding_bag(index, table, offsets, padding_idx=2)
        return sums, means, F.embedding_bag(index, table, offsets, mode="max")

    with braze.config.using(tier=tier):
        assert braze.autograd.gradcheck(bags, (table, weights))


def test_gradients_by_frequency_and_sparse():
    index, offsets = braze.tensor(INDEX), braze.tensor(OFFSETS)
    counts = np.bincount(INDEX, minlength=6)
    grads = []
    for settings in ({}, {"scale_grad_by_freq": True}, {"sparse": True}):
        table = braze.tensor(TABLE, requires_grad=True)
        F.embedding_bag(index, table, offsets, mode="sum", **settings).sin().sum().backward()
        grads.append(table.grad)
    assert grads[2].is_sparse
    plain, scaled, sparse = grads[0].numpy(), grads[1].numpy(), grads[2].to_dense().numpy()
    np.testing.assert_allclose(scaled, plain / np.maximum(counts, 1)[:, None], rtol=1e-12)
    np.testing.assert_allclose(sparse, plain, rtol=1e-12)


def test_what_the_top_level_gives_besides():
    table, index, offsets = (braze.tensor(x) for x in (TABLE, INDEX, OFFSETS))
    result, bag, sizes, rows = braze.embedding_bag(table, index, offsets, False, 2)
    assert bag.tolist() == [0, 0, 2, 2, 2, 3, 3] and sizes.tolist() == [2, 0, 3, 2]
    for found, maxima, members in zip(rows.tolist(), result.numpy(), BAGS, strict=True):
        if not members:
            assert found == [0, 0, 0]
        else:
            np.testing.assert_array_equal(TABLE[found, range(3)], maxima)
    assert braze.embedding_bag(table, index, offsets)[0].tolist() == expected("sum", BAGS).tolist()


def test_norms_are_limited_in_place():
    layer = nn.Embedding(6, 3, max_norm=0.5)
    with braze.no_grad():
        layer.weight.copy_(braze.tensor(TABLE))
        layer(braze.tensor([0, 2]))
    norms = np.linalg.norm(layer.weight.detach().numpy(), axis=1)
    before = np.linalg.norm(TABLE, axis=1)
    wanted = [min(n, 0.5) if k in (0, 2) else n for k, n in enumerate(before)]
    np.testing.assert_allclose(norms, wanted, rtol=1e-5)


def test_modules():
    assert repr(nn.Embedding(6, 3, 1, 2.0, 1.0, True, True)) == (
        "Embedding(6, 3, padding_idx=1, max_norm=2.0, norm_type=1.0, scale_grad_by_freq=True, "
        "sparse=True)"
    )
    assert repr(nn.EmbeddingBag(6, 3, padding_idx=-1)) == (
        "EmbeddingBag(6, 3, mode='mean', padding_idx=5)"
    )
    bag = nn.EmbeddingBag(6, 3, padding_idx=2)
    assert bag.weight[2].tolist() == [0, 0, 0]
    frozen = nn.Embedding.from_pretrained(braze.tensor(TABLE))
    assert not frozen.weight.requires_grad and frozen.num_embeddings == 6
    assert nn.EmbeddingBag.from_pretrained(braze.tensor(TABLE), False).weight.requires_grad


def test_what_they_refuse():
    table, index = braze.tensor(TABLE), braze.tensor(INDEX)
    with pytest.raises(ValueError, match="offsets has to be a 1D Tensor but got None"):
        F.embedding_bag(index, table)
    with pytest.raises(RuntimeError, match=r"offsets\[0\] has to be 0"):
        F.embedding_bag(index, table, braze.tensor([1, 2])).numpy()
    with pytest.raises(RuntimeError, match="offsets must not descend"):
        F.embedding_bag(index, table, braze.tensor([0, 3, 2])).numpy()
    with pytest.raises(RuntimeError, match=r"offsets\[-1\] can not be greater than .* 7"):
        F.embedding_bag(index, table, braze.tensor([0, 8])).numpy()
    with pytest.raises(NotImplementedError, match="only supported for mode='sum'"):
        F.embedding_bag(index, table, braze.tensor([0]), per_sample_weights=index.double())
    with pytest.raises(RuntimeError, match="index 6 is out of range"):
        F.embedding_bag(index + 1, table, braze.tensor([0])).numpy()
    with pytest.raises(RuntimeError, match="must be 2-D"):
        F.embedding(index, table[0])
    with pytest.raises(RuntimeError, match="not supported with sparse gradients"):
        F.embedding(index, table.requires_grad_(), scale_grad_by_freq=True, sparse=True)
