"""Primitive scans: running sums, products, extrema and recurrences along one dimension.

Attributes: `dim`, normalised, and `reverse`, which runs from the last element to the first. Sums of
integers must be widened by an explicit cast before, as for reductions. Sums and products of f32 are
kept in f64 and those of the 16-bit floats in f32, and are rounded where they are stored; the order
in which terms meet depends on shapes only.

A long row is cut into blocks of `length` elements for the thread pool. `<scan>_ends` gives what the
blocks before the last one come to, each on its own; a scan of these gives where every block but the
first starts; and `<scan>_from` runs all blocks from there. Blocks are numbered in the order of the
scan. Only the pass `split_scans` makes these two.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bool_, f32, f64, i64, u8
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import Op, Rule, declare
from braze.ir.ops import complex_rules
from braze.ir.ops.composite import as_dtype, require_floating, widened
from braze.ir.ops.rules import check_dimensions, common_dtype
from braze.ir.types import Shape, TensorType, tensor_type

Array = np.ndarray
_FEW_ROWS = 8


def carried_dtype(name: str, dtype: DType) -> DType:
    """In what a scan keeps its running values."""
    if dtype is bool_:
        return u8
    if not dtype.is_floating_point or name in ("cummax", "cummin"):
        return dtype
    return f32 if dtype.bits == 16 else f64 if dtype is f32 else dtype


def block_count(size: int, length: int) -> int:
    """Into how many blocks of `length` (of which the last may be shorter) a dimension is cut."""
    return -(-size // length)


def _at(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])


# NumPy meaning ------------------------------------------------------------------------------------
# Each takes arrays of the carried dtype, scanned along axis 0 from the first element on, and gives
# the running values.


def _running_sum(x: Array) -> tuple[Array, ...]:
    return (np.add.accumulate(x, axis=0, dtype=x.dtype),)


def _running_product(x: Array) -> tuple[Array, ...]:
    return (np.multiply.accumulate(x, axis=0, dtype=x.dtype),)


def _running_extremum(largest: bool) -> Callable[[Array], tuple[Array, ...]]:
    ufunc: Any = np.maximum if largest else np.minimum

    def run(x: Array) -> tuple[Array, ...]:
        values = ufunc.accumulate(x, axis=0)
        # An element is the last extremum so far if it equals it, or is a nan.
        found = (x == values) | (x != x)
        numbers = np.arange(len(x)).reshape(-1, *(1,) * (x.ndim - 1))
        return values, np.maximum.accumulate(np.where(found, numbers, 0), axis=0)

    return run


def _running_recurrence(a: Array, x: Array) -> tuple[Array, ...]:
    out = x.copy()
    if 0 < x.size < _FEW_ROWS * len(x):  # Python's own numbers are faster, one by one
        rows = [array.reshape(len(x), -1).T.tolist() for array in (a, x)]
        made = [
            list(accumulate(zip(*row, strict=True), lambda h, n: (0, n[0] * h[1] + n[1])))
            for row in zip(*rows, strict=True)
        ]
        return (np.array(made)[:, :, 1].T.reshape(x.shape),)
    for k in range(1, len(x)):
        out[k] += a[k] * out[k - 1]
    return (out,)


def _evaluate(name: str, running: Callable[..., tuple[Array, ...]], positions: bool) -> Any:
    """The rule of the plain scan."""

    def run(*operands: Array, dim: int, reverse: bool) -> Any:
        dtype = operands[0].dtype
        rows = [np.moveaxis(_carried(name, x), dim, 0) for x in operands]
        rows = [row[::-1] for row in rows] if reverse else rows
        with np.errstate(all="ignore"):
            results = list(running(*rows))
            results[0] = results[0].astype(dtype)
        if positions and reverse:
            results[1] = len(rows[0]) - 1 - results[1]
        results = [result[::-1] for result in results] if reverse else results
        made = [np.ascontiguousarray(np.moveaxis(result, 0, dim)) for result in results]
        return tuple(made) if positions else made[0]

    return run


def _carried(name: str, x: Array) -> Array:
    from braze.ir.dtypes import from_numpy

    return x.astype(carried_dtype(name, from_numpy(x.dtype)).numpy)


def _blocks(x: Array, dim: int, length: int, reverse: bool) -> list[Array]:
    x = np.flip(x, dim) if reverse else x
    return np.split(x, range(length, x.shape[dim], length), axis=dim)


def _evaluate_ends(name: str, evaluate: Any, positions: bool) -> Any:
    def run(x: Array, *, dim: int, reverse: bool, length: int) -> Any:
        ends: list[list[Array]] = []
        parts = _blocks(_carried(name, x), dim, length, reverse)[:-1]
        for number, part in enumerate(parts):
            found = evaluate(part, dim=dim, reverse=False)
            last = [np.take(r, [-1], axis=dim) for r in (found if positions else (found,))]
            if positions:
                place = last[1] + number * length
                last[1] = x.shape[dim] - 1 - place if reverse else place
            ends.append(last)
        joined = [np.concatenate(pieces, axis=dim) for pieces in zip(*ends, strict=True)]
        return tuple(joined) if positions else joined[0]

    return run


def _evaluate_from(name: str, evaluate: Any, positions: bool) -> Any:
    def run(*operands: Array, dim: int, reverse: bool, length: int) -> Any:
        x, *starts = operands
        size = x.shape[dim]
        results: list[list[Array]] = []
        for number, part in enumerate(_blocks(_carried(name, x), dim, length, reverse)):
            # The start stands before the block as one more element, and is dropped afterwards.
            known = [np.take(start, [number - 1], axis=dim) for start in starts] if number else []
            row = np.concatenate([known[0], part], axis=dim) if number else part
            found = evaluate(row, dim=dim, reverse=False)
            pieces = list(found) if positions else [found]
            if number:
                pieces = [np.take(r, range(1, row.shape[dim]), axis=dim) for r in pieces]
            if positions:
                own = pieces[1] + number * length - (1 if number else 0)
                own = size - 1 - own if reverse else own
                pieces[1] = np.where(pieces[1] == 0, known[1], own) if number else own
            results.append(pieces)
        joined = [np.concatenate(pieces, axis=dim) for pieces in zip(*results, strict=True)]
        joined = [np.flip(r, dim) for r in joined] if reverse else joined
        joined[0] = joined[0].astype(x.dtype)
        made = [np.ascontiguousarray(result) for result in joined]
        return tuple(made) if positions else made[0]

    return run


# Declarations -------------------------------------------------------------------------------------


def _scan(
    name: str,
    operands: str,
    running: Callable[..., tuple[Array, ...]],
    gradients: dict[str, Any],
    doc: str,
    *,
    results: str = "out",
    accepts: Callable[[DType], bool] = lambda dtype: dtype is not bool_,
    complex: Rule | bool = False,
    splits: bool = True,
) -> Op:
    positions = results != "out"

    def check(called: str, *types: TensorType, dim: int) -> TensorType:
        x = types[0]
        common_dtype(called, *types)
        if any(t.shape != x.shape for t in types):
            raise ShapeError(f"[{called}] operands differ in shape: {', '.join(map(str, types))}")
        check_dimensions(called, (dim,), x)
        if not accepts(x.dtype):
            kind = "numeric" if x.dtype is bool_ else "floating-point"
            raise DTypeError(f"[{called}] needs a {kind} operand, given {x}; cast it first")
        return x

    def made(x: TensorType) -> tuple[TensorType, ...]:
        return (x, tensor_type(i64, x.shape)) if positions else (x,)

    def infer(*types: TensorType, dim: int, reverse: bool) -> tuple[TensorType, ...]:
        return made(check(name, *types, dim=dim))

    def ends(x: TensorType, *, dim: int, reverse: bool, length: int) -> tuple[TensorType, ...]:
        check(f"{name}_ends", x, dim=dim)
        if not 0 < length < x.shape[dim]:
            raise ShapeError(f"[{name}_ends] {x} has no two blocks of {length} along {dim}")
        shape = _at(x.shape, dim, block_count(x.shape[dim], length) - 1)
        return made(tensor_type(carried_dtype(name, x.dtype), shape))

    def continued(
        x: TensorType, *starts: TensorType, dim: int, reverse: bool, length: int
    ) -> tuple[TensorType, ...]:
        wanted = ends(x, dim=dim, reverse=reverse, length=length)
        if starts != wanted:
            raise ShapeError(
                f"[{name}_from] starts must be {', '.join(map(str, wanted))}, given "
                f"{', '.join(map(str, starts))}"
            )
        return made(x)

    evaluate = _evaluate(name, running, positions)
    attributes: dict[str, Any] = {"dim": int, "reverse": bool}
    op = declare(
        name,
        "scan",
        operands,
        infer=infer,
        evaluate=evaluate,
        gradients=gradients,
        attributes=attributes,
        results=results,
        complex=complex,
        doc=doc,
    )
    if splits:
        cut = attributes | {"length": int}
        declare(
            f"{name}_ends",
            "scan",
            "x",
            infer=ends,
            evaluate=_evaluate_ends(name, evaluate, positions),
            differentiable=False,
            attributes=cut,
            results=results,
            doc=f"What `{name}` of each block of `length` elements but the last one comes to.",
        )
        declare(
            f"{name}_from",
            "scan",
            "x starts indices" if positions else "x starts",
            infer=continued,
            evaluate=_evaluate_from(name, evaluate, positions),
            differentiable=False,
            attributes=cut,
            results=results,
            doc=f"`{name}`, where every block of `length` elements but the first has its start.",
        )
    return op


# Gradients ----------------------------------------------------------------------------------------


def before(b: Any, x: Any, dim: int, reverse: bool, value: float) -> Any:
    """At each element the one before it in the order of the scan, at the first one `value`."""
    shape: Shape = x.type.shape
    none = (0,) * len(shape)
    one = tuple(int(axis == dim) for axis in range(len(shape)))
    stops = tuple(size - step for size, step in zip(shape, one, strict=True))
    starts, stops = (one, shape) if reverse else (none, stops)
    inner = b.slice(x, starts=starts, stops=stops, steps=(1,) * len(shape))
    low, high = (none, one) if reverse else (one, none)
    return b.pad(inner, low=low, high=high, interior=none, value=value)


def _cumprod_gradient(b: Any, g: Any, x: Any, out: Any, dim: int, reverse: bool) -> Any:
    """The product before an element times what comes back to it: s_k = g_k + x_(k+1) s_(k+1).

    Nothing is divided, so zeros need no care, and the rule can be derived again.
    """
    if x.type.numel == 0:
        return g
    after = before(b, x, dim, not reverse, 0.0)
    back = b.linear_recurrence(after, g, dim=dim, reverse=not reverse)
    return b.mul(before(b, out, dim, reverse, 1.0), back)


def _extremum_gradient(b: Any, g: Any, indices: Any, x_type: TensorType, dim: int) -> Any:
    if x_type.numel == 0:
        return g
    zeros = b.full(shape=x_type.shape, value=0.0, dtype=x_type.dtype)
    return b.scatter_add(zeros, indices, g, dim=dim)


def _recurrence_back(b: Any, g: Any, a: Any, dim: int, reverse: bool) -> Any:
    if a.type.numel == 0:
        return g
    after = before(b, a, dim, not reverse, 0.0)
    return b.linear_recurrence(after, g, dim=dim, reverse=not reverse)


def _factor_gradient(b: Any, g: Any, a: Any, out: Any, dim: int, reverse: bool) -> Any:
    if a.type.numel == 0:
        return g
    back = _recurrence_back(b, g, a, dim, reverse)
    return b.mul(back, before(b, out, dim, reverse, 0.0))


cumsum = _scan(
    "cumsum",
    "x",
    _running_sum,
    {"x": lambda b, g, dim, reverse: b.cumsum(g, dim=dim, reverse=not reverse)},
    "The sum of the elements up to each one along `dim`.",
    complex=True,
)
cumprod = _scan(
    "cumprod",
    "x",
    _running_product,
    {"x": _cumprod_gradient},
    "The product of the elements up to each one along `dim`.",
    complex=complex_rules.cumprod,
)
cummax = _scan(
    "cummax",
    "x",
    _running_extremum(True),
    {"x": _extremum_gradient},
    "The maximum of the elements up to each one along `dim`, and the index (i64) of the last such. "
    "nan wins; its index is that of the last nan.",
    results="values indices",
    accepts=lambda dtype: True,
)
cummin = _scan(
    "cummin",
    "x",
    _running_extremum(False),
    {"x": _extremum_gradient},
    "The minimum of the elements up to each one along `dim`, and the index (i64) of the last such. "
    "nan wins; its index is that of the last nan.",
    results="values indices",
    accepts=lambda dtype: True,
)
linear_recurrence = _scan(
    "linear_recurrence",
    "a x",
    _running_recurrence,
    {"a": _factor_gradient, "x": _recurrence_back},
    "out[k] = a[k] * out[k - 1] + x[k] along `dim`; the first factor is not used.",
    accepts=lambda dtype: dtype.is_differentiable,
    complex=complex_rules.linear_recurrence,
    splits=False,
)


# log-sum-exp --------------------------------------------------------------------------------------


def _exp_difference(b: Any, x: Any, y: Any) -> Any:
    """exp(x - y), 1 where the two are equal (infinities too)."""
    return b.exp(b.where(b.eq(x, y), 0.0, b.sub(x, y)))


def _log_types(x: TensorType, *, dim: int) -> tuple[TensorType, ...]:
    require_floating("logcumsumexp", x)
    check_dimensions("logcumsumexp", (dim,), x)
    return (x,)


def _evaluate_log(x: Array, *, dim: int) -> Array:
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        out: Array = np.logaddexp.accumulate(wide, axis=dim)
    return out.astype(x.dtype)


def _decompose_log(b: Any, x: Any, *, dim: int) -> Any:
    """log(sum exp(x - m)) + m for the running maximum m: a sum that is scaled down when m grows."""
    if x.type.numel == 0:
        return x
    wide = widened(b, x)
    top, _ = b.cummax(wide, dim=dim, reverse=False)
    shrink = _exp_difference(b, before(b, top, dim, False, -np.inf), top)
    total = b.linear_recurrence(shrink, _exp_difference(b, wide, top), dim=dim, reverse=False)
    return as_dtype(b, b.add(b.log(total), top), x.type.dtype)


def _log_gradient(b: Any, g: Any, x: Any, out: Any, dim: int) -> Any:
    """dx_k = sum over i >= k of g_i exp(x_k - out_i), from the end with factors of at most 1."""
    if x.type.numel == 0:
        return g
    wide, sums, upstream = widened(b, x), widened(b, out), widened(b, g)
    after = before(b, sums, dim, True, np.inf)
    back = b.linear_recurrence(_exp_difference(b, sums, after), upstream, dim=dim, reverse=True)
    return as_dtype(b, b.mul(_exp_difference(b, wide, sums), back), x.type.dtype)


logcumsumexp = declare(
    "logcumsumexp",
    "composite",
    "x",
    infer=_log_types,
    evaluate=_evaluate_log,
    decompose=_decompose_log,
    gradients={"x": _log_gradient},
    attributes={"dim": int},
    domain=(-5.0, 5.0),
    doc="log(sum(exp(x))) of the elements up to each one along `dim`, without overflow.",
)
