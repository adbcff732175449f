"""Sparse tensors on a GPU: where they are, what moves them, and gradients. What operations compute
is tested by the tests of the CPU, which run on a device, too."""

import copy
import io
import pickle

import cuda_device  # noqa: F401  (comes before PyCUDA)
import numpy as np
import pytest

import braze
from braze import nn

INDICES = [[0, 1, 1], [2, 0, 2]]


def made(**named):
    return braze.sparse_coo_tensor(INDICES, [3.0, 4.0, 5.0], (2, 3), **named)


def parts_are_on(tensor, place):
    parts = (tensor, tensor._indices(), tensor._values())
    return {str(part.device) for part in parts} == {place}


def test_where_they_are_made():
    values = braze.tensor([3.0, 4.0, 5.0], device="cuda:1")
    assert parts_are_on(made(device="cuda"), "cuda:0")
    assert parts_are_on(braze.sparse_coo_tensor(INDICES, values, (2, 3)), "cuda:1")
    assert parts_are_on(braze.sparse_coo_tensor(INDICES, values, device="cpu"), "cpu")
    with braze.device("cuda:1"):
        assert parts_are_on(made(), "cuda:1")
        assert parts_are_on(braze.sparse_coo_tensor(size=(2, 3)), "cuda:1")
    with pytest.raises(RuntimeError, match=r"indices \(cpu\) must match device of values \(cuda:1"):
        braze.sparse_coo_tensor(braze.tensor(INDICES), values, (2, 3))
    assert "device='cuda:1', size=(2, 3), nnz=3" in repr(braze.sparse_coo_tensor(INDICES, values))


def test_what_is_made_of_them_is_there_too():
    x = made(device="cuda:1")
    files = io.BytesIO()
    braze.save(x, files)
    files.seek(0)
    for other in (
        x.t(),
        x * 2,
        x.coalesce(),
        x.to_dense().to_sparse(),
        x.new_zeros(2, 3),
        braze.zeros_like(x),
        x.clone().zero_(),
        copy.deepcopy(x),
        pickle.loads(pickle.dumps(x)),
        braze.load(files),
        made().to(x),
        made().cuda(1),
        made(device="cuda").to("cuda:1"),
        x @ x.t(),
    ):
        assert parts_are_on(other, "cuda:1")
    assert parts_are_on(x.cpu(), "cpu") and x.to("cuda:1") is x
    files.seek(0)
    assert parts_are_on(braze.load(files, map_location="cpu"), "cpu")
    y = made()
    assert parts_are_on(y.copy_(x), "cpu")
    with pytest.raises(RuntimeError, match="same device"):
        x @ braze.ones(3, 2)


def test_gradients_find_their_way_back_to_the_cpu():
    x = made(requires_grad=True)
    y = braze.arange(6.0, device="cuda").reshape(3, 2).requires_grad_()
    product = x.cuda() @ y
    assert str(product.device) == "cuda:0"
    product.sum().backward()
    assert parts_are_on(x.grad, "cpu") and y.grad.is_cuda
    np.testing.assert_array_equal(x.grad.to_dense().numpy(), [[0, 0, 9], [1, 0, 9]])
    expected = x.detach().to_dense().numpy().sum(0)[:, None] * np.ones(2)
    np.testing.assert_array_equal(y.grad.cpu().numpy(), expected)


def test_an_embedding_with_sparse_gradients_trains():
    def trained(place):
        layer = nn.Embedding(5, 3, sparse=True, _weight=braze.arange(15.0).reshape(5, 3)).to(place)
        optimizer = braze.optim.SparseAdam(layer.parameters(), lr=0.1)
        for rows in ([0, 3, 0], [4, 3, 1]):
            optimizer.zero_grad()
            layer(braze.tensor(rows, device=place)).square().sum().backward()
            assert parts_are_on(layer.weight.grad, place)
            optimizer.step()
        return layer.weight.detach().cpu().numpy()

    np.testing.assert_allclose(trained("cuda:0"), trained("cpu"), rtol=1e-6)
