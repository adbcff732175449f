"""Sparse forms of arithmetic: sums and products with numbers, dense and other sparse tensors."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from braze.capture import Call
from braze.functions.movement import cat, expand, reshape
from braze.functions.pointwise import mul, neg
from braze.functions.promotion import cast
from braze.handle import NUMBER
from braze.sparse.entries import (
    added,
    coalesced,
    intersection,
    keys_in,
    picked,
    shapes_of,
    with_values,
)
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, apply


def _same_layout(name: str, x: SparseTensor, y: SparseTensor) -> None:
    """Raise RuntimeError unless two sparse tensors have one shape and split it in the same way."""
    if x.shape != y.shape:
        raise RuntimeError(
            f"{name}: expected sizes of 'self' and 'other' to match, but {list(x.shape)} != "
            f"{list(y.shape)}"
        )
    if x.sparse_dim() != y.sparse_dim():
        raise RuntimeError(
            f"{name}: expected 'self' and 'other' to have same density, but 'self' has "
            f"{x.sparse_dim()} sparse dimensions while 'other' has {y.sparse_dim()} sparse "
            "dimensions"
        )


def joined(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """The sum of two tensors of one layout, as the entries of both."""
    one, two = x._handle, y._handle
    if one.indices is two.indices:
        return make(one.indices, one.values + two.values, one.type.shape, one.coalesced)
    indices = cat([one.indices, two.indices], 1)
    return make(indices, cat([one.values, two.values], 0), one.type.shape)


def add_to_dense(rest: Tensor, sparse: SparseTensor, name: str = "add") -> Tensor:
    """A dense tensor plus a sparse one of its shape."""
    shape = rest._handle.type.shape
    if not shape and sparse.ndim:
        _no_sum_with_dense()
    if shape != sparse._handle.type.shape:
        raise RuntimeError(
            f"{name}: expected 'self' and 'other' to have same size, but self has size "
            f"{list(shape)} while other has size {list(sparse.shape)} (FYI: dense-sparse addition "
            "does not currently support broadcasting)"
        )
    sizes, tail = shapes_of(sparse)
    rows = reshape(rest, (math.prod(sizes), *tail))
    return reshape(added(rows, keys_in(sparse), sparse._handle.values), shape)


def _no_sum_with_dense() -> NoReturn:
    raise RuntimeError(
        "add(sparse, dense) is not supported. Use add(dense, sparse) instead."
    ) from None


def _add(call: Call, x: Tensor, y: Tensor) -> Tensor:
    if not isinstance(x, SparseTensor):
        assert isinstance(y, SparseTensor)
        return add_to_dense(x, y, call.op.name)
    if not isinstance(y, SparseTensor):
        _no_sum_with_dense()
    _same_layout(call.op.name, x, y)
    total = joined(x, y)
    both = x.is_coalesced() and y.is_coalesced()
    return coalesced(total) if both else total


def _sub(call: Call, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(x, SparseTensor) and not isinstance(y, SparseTensor):
        _no_sum_with_dense()
    return _add(call, x, neg(y))


def _mul(call: Call, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(x, SparseTensor) and isinstance(y, SparseTensor):
        shapes = shapes_of(x), shapes_of(y)
        if shapes[0] != shapes[1]:
            raise RuntimeError(
                "mul: expects sparse inputs with equal dimensionality, number of sparse "
                f"dimensions, and shape of sparse dimensions, given {list(shapes[0][0])} + "
                f"{list(shapes[0][1])} and {list(shapes[1][0])} + {list(shapes[1][1])}"
            )
        indices, mine, theirs = intersection(x, y)
        return make(indices, apply(call, mine, theirs), x.shape, True)
    if isinstance(x, SparseTensor):
        return _scaled(x, y)
    assert isinstance(y, SparseTensor)
    return _scaled(y, x)


def _scaled(sparse: SparseTensor, factor: Tensor) -> Tensor:
    """A sparse tensor times a dense one that broadcasts to its shape."""
    values = sparse._handle.values
    if factor.ndim == 0:
        return with_values(sparse, mul(values, factor))
    shape, theirs = sparse._handle.type.shape, factor._handle.type.shape
    if len(theirs) > len(shape) or any(
        m not in (1, n) for n, m in zip(shape[::-1], theirs[::-1], strict=False)
    ):
        raise RuntimeError(
            f"mul: a dense tensor of shape {list(theirs)} does not broadcast to the sparse "
            f"tensor's shape {list(shape)}"
        )
    there = picked(factor, sparse._handle.indices, shape)
    return with_values(sparse, mul(values, expand(there, values._handle.type.shape)))


def _div(call: Call, x: Tensor, y: Tensor) -> Tensor:
    if not isinstance(x, SparseTensor):
        raise NotImplementedError(
            f"[{call.op.name}] a dense tensor or number cannot be divided by a sparse tensor "
            f"({y._handle.type}): the result would be dense"
        )
    if isinstance(y, SparseTensor) or y.ndim:
        raise RuntimeError(
            "Sparse division requires a scalar or zero-dim dense tensor divisor (got shape "
            f"{list(y.shape)} for divisor)"
        )
    whole = x if call.op.name == "div" else coalesced(x)
    return with_values(whole, apply(call, whole._handle.values, y))


def _pow(call: Call, x: Tensor, y: Tensor) -> Tensor:
    flags = y._handle.flags
    if not isinstance(x, SparseTensor) or not flags & NUMBER:
        raise NotImplementedError(
            f"[{call.op.name}] a power is sparse only if its base is and its exponent is a number"
        )
    exponent: Any = y._handle.storage
    if exponent == 0:
        raise RuntimeError(
            "pow: cannot raise to zeroth power on sparse tensor; it would make the result tensor "
            "dense"
        )
    whole = coalesced(x)
    return with_values(whole, apply(call, whole._handle.values, y))


def raised(self: SparseTensor, exponent: Any) -> Tensor:
    """`Tensor.pow` of a sparse tensor: the power of each element, for an exponent that is a number
    other than zero. A sync point, unless the tensor is coalesced."""
    from braze.functions.pointwise import pow

    if isinstance(exponent, SparseTensor) or isinstance(exponent, Tensor) and exponent.ndim:
        raise NotImplementedError("[pow] the exponent of a sparse tensor must be a number")
    number = exponent.item() if isinstance(exponent, Tensor) else exponent
    if number == 0:
        raise RuntimeError(
            "pow: cannot raise to zeroth power on sparse tensor; it would make the result tensor "
            "dense"
        )
    whole = coalesced(self)
    return with_values(whole, pow(whole._handle.values, number))


def _cast(call: Call, x: SparseTensor) -> Tensor:
    dtype: Any = call.attributes["dtype"]
    return with_values(x, cast(x._handle.values, dtype))


def _replacing_nan(call: Call, x: SparseTensor, nan: Tensor, *limits: Tensor) -> Tensor:
    """`nan_to_num`: zeros stay zeros."""
    whole = coalesced(x)
    return with_values(whole, apply(call, whole._handle.values, nan, *limits))


FORMS: dict[str, Any] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "div_floor": _div,
    "div_trunc": _div,
    "pow": _pow,
    "integer_pow": _pow,
    "cast": _cast,
    "nan_to_num": _replacing_nan,
}
