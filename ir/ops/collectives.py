"""What several processes compute together: begun as soon as the operands are there, and waited for
where the result is needed.

`collective_start` gives a ticket, `collective_wait` the result that belongs to it. In between, the
program computes on. All processes must begin the same collectives in the same order, so each start
takes the ticket of the one before: no pass can change their order, merge them, or drop one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.collectives import KINDS, current
from braze.ir.dtypes import DType, i64
from braze.ir.errors import AttributeTypeError, DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.rules import common_dtype
from braze.ir.types import TensorType, tensor_type

_TICKET = tensor_type(i64)


def _check_ticket(name: str, ticket: TensorType) -> None:
    if ticket.dtype is not i64:
        raise DTypeError(f"[{name}] a ticket is an i64, given {ticket}")
    if ticket.rank:
        raise ShapeError(f"[{name}] a ticket is 0-d, given {ticket}")


def _started(
    after: TensorType,
    *xs: TensorType,
    kind: str,
    reduction: str,
    group: int,
    root: int,
    in_place: bool = False,
) -> tuple[TensorType, ...]:
    _check_ticket("collective_start", after)
    common_dtype("collective_start", *xs)
    if kind not in KINDS:
        raise AttributeTypeError(f"[collective_start] no kind {kind!r}; there are {KINDS}")
    return (_TICKET,)


def _start(after: np.ndarray, *xs: np.ndarray, **how: Any) -> np.ndarray:
    return np.array(current().start(xs, **how), np.int64)


def _awaited(ticket: TensorType, *, shape: tuple[int, ...], dtype: DType) -> tuple[TensorType, ...]:
    _check_ticket("collective_wait", ticket)
    return (tensor_type(dtype, shape),)


def _wait(ticket: np.ndarray, *, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    return current().wait(int(ticket)).reshape(shape)


collective_start = declare(
    "collective_start",
    "host",
    "after xs*",
    infer=_started,
    evaluate=_start,
    attributes={"kind": str, "reduction": str, "group": int, "root": int, "in_place": bool},
    optional="in_place",
    results="ticket",
    differentiable=False,
    effect=True,
    doc="""Begin a collective of a group of processes on the elements of all `xs`, one behind the
other: "all_reduce" (by a `reduction`: "sum", "product", "min", "max", ...), "reduce" (only the rank
`root` of the group has the result, others anything), "broadcast" (from the rank `root`),
"all_gather", or "reduce_scatter". `after` is the ticket of the one
before, or any number. `in_place` is for passes: the operands' memory is the collective's own until
its result dies, and becomes the result; or until that has been waited for, where it is of another
size.""",
)
collective_wait = declare(
    "collective_wait",
    "host",
    "ticket",
    infer=_awaited,
    evaluate=_wait,
    attributes={"shape": tuple, "dtype": DType},
    differentiable=False,
    effect=True,
    doc="""The result of the collective that gave this ticket, in this shape; each can be had once.
Waits until it is there.""",
)
