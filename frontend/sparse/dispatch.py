"""From an operation on tensors, some of them sparse, to its sparse form.

A form is a function of the call and its operands that computes the result by operations on indices
and values. `braze.tensors.apply` comes here when an operation could not be captured because of a
sparse operand, so every function made of operations that have a form takes sparse tensors too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.capture import Call
from braze.handle import SparseHandle
from braze.ir.dtypes import DType
from braze.ir.errors import DimensionError, ShapeError
from braze.ir.graph import Graph, Node, Value
from braze.ir.interpreter import interpret
from braze.ir.op import Op
from braze.ir.types import tensor_type
from braze.sparse import elementwise, movement, products, reductions, updates
from braze.sparse.entries import coalesced, with_values
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor, apply

Form = Callable[..., Any]

FORMS: dict[str, Form] = {
    **elementwise.FORMS,
    **movement.FORMS,
    **products.FORMS,
    **reductions.FORMS,
    **updates.FORMS,
}
# Forms that need no merged entries: f(x) + f(y) = f(x + y).
_LINEAR = frozenset({"neg"})


def sparse_form(call: Call, tensors: Sequence[Tensor]) -> Any:
    """The result of an operation of which at least one operand is sparse.

    Raises:
        NotImplementedError: it has no sparse form.
    """
    form = FORMS.get(call.op.name)
    try:
        if form is not None:
            result = form(call, *tensors)
            return _own(result, tensors) if isinstance(result, SparseTensor) else result
        dtype = tensors[0]._handle.type.dtype
        if _is_elementwise(call.op, dtype) and _keeps_zero(call.op, dtype):
            return _on_values(call, tensors[0])
        types = ", ".join(describe(t) for t in tensors)
        raise NotImplementedError(
            f"[{call.op.name}] there is no sparse form of this operation, given {types}; use "
            "Tensor.to_dense() first"
        )
    except Exception as error:
        error.__suppress_context__ = True  # how the operation came here helps nobody
        raise


def _own(result: SparseTensor, operands: Sequence[Tensor]) -> SparseTensor:
    """A result that shares no memory with an operand: no sparse tensor is a view of another."""
    values = result._handle.values
    for operand in operands:
        handle = operand._handle
        if isinstance(handle, SparseHandle) and handle.values is values:
            return with_values(result, values.clone())
    return result if values._base is None else with_values(result, values.clone())


def describe(tensor: Tensor) -> str:
    """The type of an operand, with its layout."""
    handle = tensor._handle
    if isinstance(handle, SparseHandle):
        shape = handle.indices._handle.type.shape
        return f"sparse {handle.type} ({shape[0]} sparse dimensions, {shape[1]} entries)"
    return str(handle.type)


@functools.cache
def _is_elementwise(op: Op, dtype: DType) -> bool:
    """Whether an operation is a function of the single elements of its one operand."""
    if op.category not in ("pointwise", "composite") or op.attributes or op.variadic:
        return False
    if len(op.operands) != 1 or len(op.results) != 1:
        return False
    x = tensor_type(dtype, (2, 3))
    try:
        return op.infer(x)[0].shape == x.shape
    except (ShapeError, DimensionError):
        return False


@functools.cache
def _keeps_zero(op: Op, dtype: DType) -> bool:
    """Whether an elementwise function gives 0 for 0, which is what is not stored."""
    zero = Value(tensor_type(dtype, (1,)))
    node = Node(op, [zero], {}, op.result_types([zero.type], {}))
    graph = Graph("zero")
    graph.inputs, graph.roles = [zero], ["data"]
    graph.nodes, graph.outputs = [node], list(node.results)
    with np.errstate(all="ignore"):
        (found,) = interpret(graph, [np.zeros(1, dtype.numpy)])
    return not np.any(found)


def _on_values(call: Call, sparse: Any) -> Tensor:
    own = sparse if call.op.name in _LINEAR else coalesced(sparse)
    return with_values(own, apply(call, own._handle.values))
