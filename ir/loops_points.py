"""How much the interpreter of the loop IR has to do in a kernel.

In: a kernel.  Out: a number of steps, each of which takes it some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from braze.ir.loops import (
    Check,
    Contraction,
    Expr,
    Kernel,
    Loop,
    Nest,
    Reduce,
    Scan,
    Sort,
    Statement,
    Store,
)
from braze.ir.loops_recurrence import Recurrence


def points_of(kernel: Kernel) -> int:
    """Expressions evaluated, factors multiplied, and elements of arrays that are used whole.

    Example:
        >>> from braze.ir.loops_parser import parse_kernel
        >>> points_of(parse_kernel('''
        ... nest @copy(%0: f32[64] in, %1: f32[64] out) {
        ...   for i in 64 {
        ...     store %1[i] = exp(%0[i])
        ...   }
        ... }'''))
        128
    """
    if isinstance(kernel, Nest):
        return _statements(kernel.body)
    if isinstance(kernel, Contraction):
        outer = math.prod(int(var.extent) for var in kernel.dims[: -kernel.inner or None])
        inner = math.prod(int(var.extent) for var in kernel.dims) * 2
        return inner + outer * sum(_size(store.value) for store in kernel.stores)
    if isinstance(kernel, Sort):
        keys = math.prod(int(var.extent) for var in (*kernel.rows, kernel.along))
        return keys * _size(kernel.key)
    if isinstance(kernel, Recurrence):
        return int(kernel.count) * sum(map(points_of, kernel.program.kernels()))
    return sum(int(buffer.numel) for buffer in kernel.buffers)


def _statements(statements: Iterable[Statement]) -> int:
    return sum(map(_steps, statements))


def _steps(statement: Statement) -> int:
    if isinstance(statement, Loop):
        return int(statement.var.extent) * _statements(statement.body)
    if isinstance(statement, (Store, Check)):
        return _size(statement.value)
    points = math.prod(int(var.extent) for var, _ in statement.loops)
    if isinstance(statement, Reduce):
        return points * sum(_size(a.value) for a in statement.accumulators)
    assert isinstance(statement, Scan)
    values = sum(_size(value) for carried in statement.carried for value in carried.values)
    return points * (values + sum(_size(store.value) for store in statement.stores))


def _size(value: Expr) -> int:
    return sum(1 for _ in value.walk())
