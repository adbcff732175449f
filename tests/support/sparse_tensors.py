"""Random sparse tensors with their dense arrays, as tests of sparse operations want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import braze


def drawn(
    shape: Sequence[int], sparse_dim: int | None = None, nnz: int = 5, seed: int = 0
) -> tuple[Any, np.ndarray]:
    """An uncoalesced sparse f64 tensor, usually with repeated places, and its elements.

    Args:
        sparse_dim: how many of the dimensions are sparse; all by default.
    """
    generator = np.random.default_rng(seed)
    count = len(shape) if sparse_dim is None else sparse_dim
    nnz = nnz if np.prod(shape[:count]) else 0
    indices = np.array([generator.integers(0, n, nnz) for n in shape[:count]], np.int64)
    indices = indices.reshape(count, nnz)
    values = generator.uniform(0.5, 2, (nnz, *shape[count:])) * generator.choice([-1, 1])
    dense = np.zeros(shape)
    np.add.at(dense, tuple(indices), values)
    return braze.sparse_coo_tensor(indices, values, shape), dense


def check(found: Any, array: Any, tolerance: float = 1e-12) -> None:
    """Whether a tensor, of any layout, has these elements; and a sparse one is well-formed."""
    array = np.asarray(array)
    assert tuple(found.shape) == array.shape
    if found.is_sparse:
        check_form(found)
        found = found.to_dense()
    np.testing.assert_allclose(found.detach().numpy(), array, rtol=tolerance, atol=tolerance)


def check_form(sparse: Any) -> None:
    """Whether the parts of a sparse tensor fit, and it is as coalesced as it says."""
    indices, values = sparse._indices().numpy(), sparse._values().numpy()
    count = sparse.sparse_dim()
    assert indices.dtype == np.int64
    assert indices.shape == (count, sparse._nnz())
    assert values.shape == (sparse._nnz(), *sparse.shape[count:])
    assert sparse.dense_dim() == len(sparse.shape) - count
    sizes = np.array(sparse.shape[:count], np.int64).reshape(count, 1)
    assert np.all((indices >= 0) & (indices < sizes))
    if sparse.is_coalesced():
        places = list(zip(*indices.tolist(), strict=True)) if count else [()] * sparse._nnz()
        assert places == sorted(set(places))


def check_gradients(function: Callable[..., Any], *parts: Any, step: float = 1e-6) -> None:
    """Whether the gradients of a function's result, weighted at random, are numerical ones.

    Args:
        function: of f64 tensors that require a gradient; its result may be sparse.
        parts: their arrays.
    """
    arrays = [np.array(part, np.float64) for part in parts]
    weights: list[np.ndarray] = []

    def total(tensors: list[Any]) -> Any:
        result = function(*tensors)
        result = result.to_dense() if result.is_sparse else result
        if not weights:
            weights.append(np.random.default_rng(9).uniform(-1, 1, tuple(result.shape)))
        return (result * braze.tensor(weights[0])).sum()

    tensors = [braze.tensor(array, requires_grad=True) for array in arrays]
    total(tensors).backward()
    for position, tensor in enumerate(tensors):
        expected = np.zeros_like(arrays[position])
        for place in np.ndindex(*expected.shape):
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in arrays]
                moved[position][place] += sign * step
                ends.append(total([braze.tensor(array) for array in moved]).item())
            expected[place] = (ends[0] - ends[1]) / (2 * step)
        found = tensor.grad
        assert found is not None
        found = found.to_dense() if found.is_sparse else found
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)
