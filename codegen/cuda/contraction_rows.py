"""Contractions as plain sums: those with too few results, or too short sums, for tiles.

In: a `Contraction`.  Out: the loops of a nest that computes the same, a row of products for each
result.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.ir.dtypes import DType
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Access,
    Accumulator,
    Apply,
    Contraction,
    Expr,
    Load,
    Reduce,
    Statement,
)
from braze.ir.op import op_named


def index_of(access: Access, dims: Sequence[LoopVar]) -> Index:
    """Where an operand's element is, over a contraction's dimensions."""
    place = Index((), access.offset)
    for variable, stride in zip(dims, access.strides, strict=True):
        place = place + Index.of(variable) * stride
    return place


def converted(value: Expr, dtype: DType) -> Expr:
    """The value cast to a dtype, if it is of another."""
    return value if value.dtype is dtype else Apply(op_named("cast"), (value,), dtype)


def rows_of_products(kernel: Contraction) -> tuple[list[LoopVar], list[Statement]]:
    """The loops over results, and what is done for each: a sum, then the stores."""
    outer = kernel.dims[: len(kernel.dims) - kernel.inner]
    inner = kernel.dims[len(outer) :]
    factors = [
        converted(Load(a.buffer, index_of(a, kernel.dims), a.guard), kernel.dtype)
        for a in (kernel.lhs, kernel.rhs)
    ]
    product = Apply(op_named("mul"), tuple(factors), kernel.dtype)
    total = Accumulator("acc", "sum", product)
    reduce = Reduce(tuple((v, "serial") for v in inner), (total,))
    return list(outer), [reduce, *kernel.stores]
