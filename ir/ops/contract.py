"""The primitive contraction: a two-operand einsum, behind matrix products and convolutions.

`equation` uses one letter a dimension, no letter twice in one term: "bmk,bnk->bmn". A letter in
both operands and the result is a batch dimension, in one operand and the result a free dimension,
in both operands but not the result a contracted one. Letters in one operand only and not in the
result are not allowed (sum them first).

`left_out`, which a pass adds, names dimensions of the result: along these, terms of the sum that
would read the zeros of a pad are left out rather than read. It does not change the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops import complex_rules
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, tensor_type


def parse_equation(equation: str) -> tuple[str, str, str]:
    """Split an equation into the letters of the two operands and the result.

    Raises:
        ShapeError: it is not of the form described above.

    Example:
        >>> parse_equation("mk,nk->mn")
        ('mk', 'nk', 'mn')
    """
    head, arrow, out = equation.partition("->")
    left, comma, right = head.partition(",")
    terms = (left, right, out)
    fits = arrow and comma and all(t == "" or (t.isascii() and t.isalpha()) for t in terms)
    fits = fits and all(len(set(t)) == len(t) for t in terms)
    fits = fits and set(out) <= set(left) | set(right) and set(left) ^ set(right) <= set(out)
    if not fits:
        raise ShapeError(f"[contract] malformed equation {equation!r}")
    return terms


def _contract_types(
    x: TensorType, y: TensorType, *, equation: str, left_out: str = ""
) -> tuple[TensorType, ...]:
    left, right, out = parse_equation(equation)
    if not set(left_out) <= set(out):
        raise ShapeError(f"[contract] {left_out!r} must be letters of the result of {equation}")
    dtype = common_dtype("contract", x, y)
    if dtype.kind == "bool":
        raise DTypeError(f"[contract] needs numeric operands, given {x} and {y}")
    if (x.rank, y.rank) != (len(left), len(right)):
        raise ShapeError(f"[contract] {equation} does not fit the ranks of {x} and {y}")
    sizes = dict(zip(left, x.shape, strict=True))
    for letter, size in zip(right, y.shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise ShapeError(
                f"[contract] sizes of {letter!r} in {equation} differ: {x} and {y} "
                f"({sizes[letter]} != {size})"
            )
    shape = tuple(sizes[letter] for letter in out)
    return (tensor_type(dtype, shape),)


def _contract(x: np.ndarray, y: np.ndarray, *, equation: str, left_out: str = "") -> np.ndarray:
    """By one batched `matmul`: einsum itself would not use BLAS for views and batches."""
    left, right, out = parse_equation(equation)
    batch = [c for c in out if c in left and c in right]
    rows = [c for c in left if c in out and c not in right]
    columns = [c for c in right if c in out and c not in left]
    inner = [c for c in left if c in right and c not in out]
    sizes = dict(zip(left + right, x.shape + y.shape, strict=True))

    def count(letters: list[str]) -> int:
        product = 1
        for c in letters:
            product *= sizes[c]
        return product

    a = x.transpose([left.index(c) for c in batch + rows + inner])
    b = y.transpose([right.index(c) for c in batch + inner + columns])
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    a = a.reshape(count(batch), count(rows), count(inner)).astype(wide, copy=False)
    b = b.reshape(count(batch), count(inner), count(columns)).astype(wide, copy=False)
    with np.errstate(all="ignore"):
        product = np.matmul(a, b)
    order = batch + rows + columns
    product = product.reshape([sizes[c] for c in order])
    result: np.ndarray = product.transpose([order.index(c) for c in out])
    return result.astype(x.dtype, copy=False)


def _gradient(b: Any, g: Any, other: Any, equation: str, own: int) -> Any:
    """Contract g with the other operand; every letter of operand `own` is in one of the two."""
    left, right, out = parse_equation(equation)
    mine, others = (left, right) if own == 0 else (right, left)
    return b.contract(g, other, equation=f"{out},{others}->{mine}")


contract = declare(
    "contract",
    "contract",
    "x y",
    infer=_contract_types,
    evaluate=_contract,
    attributes={"equation": str, "left_out": str},
    optional="left_out",
    gradients={
        "x": lambda b, g, y, equation: _gradient(b, g, y, equation, 0),
        "y": lambda b, g, x, equation: _gradient(b, g, x, equation, 1),
    },
    doc="Sum of products over the letters that the result lacks; accumulates in f32 at least.",
    complex=complex_rules.contract,
)
