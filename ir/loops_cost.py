"""What a kernel of the loop IR must do: bytes in, bytes out, arithmetic.

In: a kernel.  Out: a `Cost`, counted from its accesses and expressions, never measured.

What counts:
- Bytes: each element of a buffer that the kernel reads, and each that it writes, once; so this is
  the traffic with memory of a kernel with an endless cache. How many elements an address reaches is
  the product of the extents of the loops that are in it (at most the buffer's). What is gathered by
  data counts once for each look-up.
- Arithmetic (`flops`): one for each pointwise operation on floating-point numbers at each point,
  whatever it is (an exponential as well as a sum; casts, comparisons and choices count nothing),
  one for each value that a reduction or a scan takes in, and two for each product that a
  contraction sums up. What a contraction's guards leave out is not counted.
- Attention: two for each product of its two contractions (five in the gradient), and five for each
  score, for the softmax; of a causal one, the half.
- A sort and a host call: bytes only. A recurrence: its step's cost times the steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from braze.ir.index import DataIndex, Index, LoopVar
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Check,
    Contraction,
    Expr,
    HostCall,
    Kernel,
    Load,
    Loop,
    Nest,
    Philox,
    Reduce,
    Scan,
    Sort,
    Statement,
    Store,
)
from braze.ir.loops_attention import Attention
from braze.ir.loops_recurrence import Recurrence
from braze.ir.op import op_named

# Pointwise operations that move or choose floats and compute nothing.
_FREE = frozenset(map(op_named, ("cast", "where")))


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes read and written, and floating-point operations; see the module for what counts."""

    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0

    @property
    def bytes_moved(self) -> int:
        return self.bytes_read + self.bytes_written

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The least time on a machine of these limits: the longer of arithmetic and traffic."""
        return max(self.flops / flops_per_second, self.bytes_moved / bytes_per_second)

    def times(self, count: int) -> Cost:
        return Cost(self.bytes_read * count, self.bytes_written * count, self.flops * count)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.flops + other.flops,
        )


def kernel_cost(kernel: Kernel) -> Cost:
    """The cost of one run of a kernel."""
    if isinstance(kernel, Nest):
        return _Counting().nest(kernel)
    if isinstance(kernel, Contraction):
        return _contraction(kernel)
    if isinstance(kernel, Sort):
        counting = _Counting()
        points = _extent((*kernel.rows, kernel.along))
        counting.expression(kernel.key, points)
        counting.statements(kernel.stores, _extent((*kernel.rows, kernel.rank)))
        return counting.total()
    if isinstance(kernel, Recurrence):
        step = sum((kernel_cost(inner) for inner in kernel.program.kernels()), Cost())
        return step.times(kernel.count)
    if isinstance(kernel, Attention):
        return _attention(kernel)
    assert isinstance(kernel, HostCall)
    read = sum(a.buffer.numel * a.buffer.dtype.itemsize for a in kernel.operands if a.buffer)
    written = sum(a.buffer.numel * a.buffer.dtype.itemsize for a in kernel.results if a.buffer)
    return Cost(int(read), int(written))


def _extent(variables: Iterable[LoopVar]) -> int:
    return math.prod(int(v.extent) for v in variables)


class _Counting:
    """Counts the elements that are touched, buffer by buffer, and the arithmetic."""

    def __init__(self) -> None:
        self.flops = 0
        self._read: dict[Buffer, dict[object, int]] = {}
        self._written: dict[Buffer, dict[object, int]] = {}
        self._seen: set[tuple[Expr, int]] = set()

    def nest(self, kernel: Nest) -> Cost:
        self.statements(kernel.body, 1)
        return self.total()

    def total(self) -> Cost:
        return Cost(_bytes(self._read), _bytes(self._written), self.flops)

    def statements(self, statements: Iterable[Statement], points: int) -> None:
        for statement in statements:
            if isinstance(statement, Loop):
                self.statements(statement.body, points * int(statement.var.extent))
            elif isinstance(statement, Store):
                self.store(statement, points)
            elif isinstance(statement, Check):
                self.expression(statement.value, points)
            elif isinstance(statement, Reduce):
                inside = points * _extent(v for v, _ in statement.loops)
                for accumulator in statement.accumulators:
                    self.expression(accumulator.value, inside)
                    self.flops += inside * accumulator.value.dtype.is_floating_point
            elif isinstance(statement, Scan):
                inside = points * _extent(v for v, _ in statement.loops)
                for carried in statement.carried:
                    for value in (*carried.values, *carried.starts):
                        self.expression(value, inside if value in carried.values else points)
                    floats = carried.values[0].dtype.is_floating_point
                    self.flops += inside * len(carried.values) * floats
                self.statements(statement.stores, inside)

    def store(self, store: Store, points: int) -> None:
        self.expression(store.value, points)
        self._index(store.index, points)
        part = _share_inside(store.guard)
        touched = min(int(points * part), _reached(store.index, points))
        _enter(self._written, store.buffer, store.index, touched)
        if store.accumulate:
            _enter(self._read, store.buffer, store.index, touched)
            self.flops += int(points * part) * store.buffer.dtype.is_floating_point

    def expression(self, value: Expr, points: int) -> None:
        """Count a value that is needed at each of so many points; shared parts once."""
        for expr in value.walk():
            variables = expr.variables() if isinstance(expr, (Load, Apply, Philox)) else set()
            # What does not depend on the innermost loops is computed outside of them.
            often = min(points, _extent(variables)) if variables else 1
            if (expr, often) in self._seen:
                continue
            self._seen.add((expr, often))
            if isinstance(expr, Load):
                touched = min(int(often * _share_inside(expr.guard)), _reached(expr.index, often))
                _enter(self._read, expr.buffer, expr.index, touched)
            elif isinstance(expr, Apply) and expr.dtype.is_floating_point:
                self.flops += often * (expr.op not in _FREE)

    def _index(self, index: Index, points: int) -> None:
        for atom, _ in index.terms:
            if isinstance(atom, DataIndex):
                self.expression(atom.value, points)


def _enter(
    found: dict[Buffer, dict[object, int]], buffer: Buffer, index: Index, touched: int
) -> None:
    """Equal addresses reach the same elements; different ones may reach others."""
    own = found.setdefault(buffer, {})
    own[index] = max(own.get(index, 0), touched)


def _bytes(found: dict[Buffer, dict[object, int]]) -> int:
    return sum(
        min(int(buffer.numel), sum(own.values())) * buffer.dtype.itemsize
        for buffer, own in found.items()
    )


def _reached(index: Index, points: int) -> int:
    """How many elements an address reaches, at most."""
    if any(isinstance(atom, DataIndex) for atom, _ in index.terms):
        return points
    low, high = index.span
    return min(_extent(index.variables()), int(high - low + 1))


def _share_inside(guard: Iterable[Bound]) -> float:
    """Which part of the points fulfils all bounds, each taken as independent of the others."""
    part = 1.0
    for bound in guard:
        if bound.index.is_affine:
            part *= _part_of(bound)
    return part


def _part_of(bound: Bound) -> float:
    values = np.array([int(bound.index.constant)])
    for atom, coefficient in bound.index.terms:
        assert isinstance(atom, LoopVar)
        if values.size * int(atom.extent) > 1 << 20:
            return 1.0
        steps = np.arange(int(atom.extent)) * int(coefficient)
        values = (values[:, None] + steps).ravel()
    inside = (values >= bound.low) & (values < bound.high)
    return float(inside.mean()) if values.size else 0.0


def _contraction(kernel: Contraction) -> Cost:
    outer = kernel.dims[: len(kernel.dims) - kernel.inner]
    counting = _Counting()
    counting.statements(kernel.stores, _extent(outer))
    guards = dict.fromkeys((*kernel.lhs.guard, *kernel.rhs.guard))
    products = int(_extent(kernel.dims) * _share_inside(guards))
    counting.flops += 2 * products * kernel.dtype.is_floating_point
    for access in (kernel.lhs, kernel.rhs):
        pairs = zip(kernel.dims, access.strides, strict=True)
        terms = tuple((v, s) for v, s in pairs if s and int(v.extent) > 1)
        index = Index(terms, access.offset)
        _enter(counting._read, access.buffer, index, _reached(index, _extent(kernel.dims)))
    return counting.total()


def _attention(kernel: Attention) -> Cost:
    read = {a.buffer for a in kernel.operands}
    written = {a.buffer for a in kernel.results if a.buffer is not None}
    named = dict(zip(kernel.op.operands, kernel.operands, strict=False))
    query, key, value = (named[name].type.shape for name in ("query", "key", "value"))
    scores = math.prod(query[:-1]) * key[-2]
    products = scores * (query[-1] + value[-1])
    if kernel.is_gradient:
        products = scores * (3 * query[-1] + 2 * value[-1])
    flops = 2 * products + 5 * scores
    if kernel.attributes.get("causal"):
        flops //= 2
    return Cost(
        sum(int(b.numel) * b.dtype.itemsize for b in read),
        sum(int(b.numel) * b.dtype.itemsize for b in written),
        flops,
    )
