"""Sparse tensors in coordinate (COO) layout, under the names of `torch.sparse`.

A sparse tensor is a `braze.Tensor` whose `layout` is `braze.sparse_coo`. It stores the places
(`indices`) and `values` of its entries; elements without entry are zero. The last dimensions may be
dense (a *hybrid* tensor): then each entry is a tensor. Make one with `braze.sparse_coo_tensor` or
`Tensor.to_sparse`; the functions and methods of dense tensors take it where they have a sparse form
(arithmetic, functions with f(0) = 0, products, sums, transposes, parts, `cat`), and raise
NotImplementedError where they have none: nothing becomes dense unasked.

Computations are captured and compiled like all others, on indices and values. The number of entries
is part of the shapes, so what decides it, `coalesce`, `to_sparse`, sums over some of the sparse
dimensions, products of two sparse tensors, parts, is a sync point.

Gradients flow through the values. The gradient of a sparse leaf has the leaf's pattern; look-ups
with sparse gradients (`nn.Embedding(sparse=True)`, ``gather(sparse_grad=True)``) leave sparse ones
in dense leaves, which `optim.SGD` and `optim.SparseAdam` take.
"""

from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.sparse.construction import check_sparse_tensor_invariants, spdiags
from braze.sparse.products import addmm, mm
from braze.sparse.reductions import log_softmax, softmax, sum
from braze.sparse.types import TYPES as _TYPES

__all__ = [
    "addmm",
    "check_sparse_tensor_invariants",
    "log_softmax",
    "mm",
    "softmax",
    "spdiags",
    "sum",
    *sorted(_TYPES),
]


def __getattr__(name: str) -> Any:
    try:
        return _TYPES[name]
    except KeyError:
        raise AttributeError(f"module 'braze.sparse' has no attribute {name!r}") from None
