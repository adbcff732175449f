"""How many points the interpreter of the loop IR visits in a kernel: what it will take.

In: a kernel.  Out: a number. The interpreter does some hundred thousand points a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from braze.ir.loops import Contraction, Kernel, Loop, Nest, Reduce, Scan, Sort, Statement
from braze.ir.loops_recurrence import Recurrence


def points_of(kernel: Kernel) -> int:
    """Statements run, elements visited by sums, scans and sorts, elements of arrays used whole.

    Example:
        >>> from braze.ir.loops_parser import parse_kernel
        >>> points_of(parse_kernel('''
        ... nest @copy(%0: f32[64] in, %1: f32[64] out) {
        ...   for i in 64 {
        ...     store %1[i] = %0[i]
        ...   }
        ... }'''))
        64
    """
    if isinstance(kernel, Nest):
        return _statements(kernel.body)
    if isinstance(kernel, Contraction):
        return math.prod(int(var.extent) for var in kernel.dims)
    if isinstance(kernel, Sort):
        return math.prod(int(var.extent) for var in (*kernel.rows, kernel.along))
    if isinstance(kernel, Recurrence):
        return int(kernel.count) * sum(map(points_of, kernel.program.kernels()))
    return sum(int(buffer.numel) for buffer in kernel.buffers)


def _statements(statements: Iterable[Statement]) -> int:
    total = 0
    for statement in statements:
        if isinstance(statement, Loop):
            total += int(statement.var.extent) * _statements(statement.body)
        elif isinstance(statement, (Reduce, Scan)):
            total += math.prod(int(var.extent) for var, _ in statement.loops)
        else:
            total += 1
    return total
