"""Collectives as part of the graph of an iteration.

In: handles.  Out: the handle of the result, which nothing waits for until something reads it. The
compiler lets the collective begin as soon as the operands are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from braze.autograd.builders import HandleBuilder
from braze.capture import call_of, capture, constant, tracer
from braze.distributed.bucket_layout import layout_of
from braze.distributed.groups import ProcessGroup
from braze.handle import Handle
from braze.ir.devices import HOST
from braze.ir.dtypes import i64
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.tensors import Tensor, wrap

# Under which, and the device, a trace remembers its last ticket, beside its constants.
_LAST = "ticket"
_BUILDER = HandleBuilder()


def collective(
    kind: str,
    handles: Sequence[Handle],
    group: ProcessGroup,
    shape: tuple[int, ...],
    reduction: str = "sum",
    root: int = 0,
) -> Handle:
    """Capture a collective of the elements of some values of one dtype, one behind the other.

    Args:
        kind: of `braze.ir.collectives.KINDS`.
        shape: of the result.
        root: a rank of the group.

    Raises: TypeError, complex numbers have no such reduction.
    """
    if handles[0].type.dtype.is_complex:  # by their parts, which compiled code knows
        if reduction not in ("sum", "avg"):
            raise TypeError(f"[{kind}] complex numbers of several ranks have no {reduction}")
        parts = [_BUILDER.view_as_real(handle) for handle in handles]
        made = collective(kind, parts, group, (*shape, 2), reduction, root)
        return _BUILDER.view_as_complex(made)
    device = handles[0].type.device
    if device != HOST:
        if group._devices is None:
            raise RuntimeError(
                f"[{kind}] the {group._backend} backend takes tensors on the CPU, given one on "
                f"{device}"
            )
        group._devices.check_device(kind, device)
    state = tracer()
    after = state.pending.constants.get((_LAST, device))
    if after is None:
        after = constant(0, tensor_type(i64))
    start = call_of(
        op_named("collective_start"),
        kind=kind,
        reduction=reduction,
        group=group._communicator.number,
        root=root,
    )
    ticket: Handle = capture(start, [after, *handles])
    if ticket.pending is state.pending:
        state.pending.constants[_LAST, device] = ticket
    wait = call_of(op_named("collective_wait"), shape=shape, dtype=handles[0].type.dtype)
    result: Handle = capture(wait, [ticket])
    return result


def together(
    kind: str, handles: Sequence[Handle], group: ProcessGroup, **how: Any
) -> Iterator[Handle]:
    """Capture a collective of several values of one dtype, whose result is as large as they; its
    parts, of their types."""
    layout = layout_of(tuple(handle.type for handle in handles), alignment=1)
    return layout.parts(collective(kind, handles, group, (layout.numel,), **how))


def is_to_come(tensor: Tensor) -> bool:
    """Whether a tensor is still to be computed, as a value that compiled code knows."""
    handle = tensor._current()
    return handle.storage is None and not handle.type.dtype.is_complex


def replaced_by(
    kind: str, target: Tensor, given: Tensor, group: ProcessGroup, **how: Any
) -> Tensor:
    """Capture a collective of one tensor, and let another become its result, which the tape does
    not see."""
    if "reduction" in how:
        carrier = group._communicator if group._devices is None else group._devices
        carrier.check(how["reduction"], given.dtype.numpy)
    shape = tuple(target._current().type.shape)
    result = collective(kind, [given._current()], group, shape, **how)
    target._replace(wrap(result, None, 0), tracked=False)
    return target
