"""Operations whose results replace the values of tensors in place: what an optimizer's step is made
of, one for each parameter.

The same as `apply` and then `Tensor._replace` for each result, without the tensors in between; and
where an iteration repeats itself, without asking again about the operands that all rows share.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze import engine, tensors
from braze.capture import Call, Pending, capture, tracer
from braze.handle import EXPOSED, INFERENCE, Handle, SparseOperand, replace_in_place
from braze.sites import Site, user_site
from braze.tensors import Tensor, apply, wrap
from braze.undoing import note_replacement

Row = Sequence[Tensor]

_SPECIAL = EXPOSED | INFERENCE


def update(call: Call, rows: Sequence[Row], shared: Row, written: Sequence[int]) -> None:
    """Run an operation for each row of operands, and let its results become the values of some.

    Gradients must not be being recorded.

    Args:
        rows: the operands that come first.
        shared: the operands behind them, of all rows alike; no views.
        written: for each result, which operand of the row it replaces; they are of one type.
    """
    state = tracer()
    plain = tensors.autocast_hook is None
    quick = plain and not (state.inference or engine.config.eager or state.whole)
    pending = state.pending
    tail: tuple[int, ...] = ()
    site = state.site or user_site(3)
    for row in rows:
        if quick:
            if state.pending is not pending:  # the trace was full
                pending, tail = state.pending, ()
            known = _repeated(call, row, shared, tail, pending, site)
            if known is not None:
                tail, results = known
                if state.pending is pending:  # and not run by another thread meanwhile
                    _hand_over(row, written, results, pending)
                    continue
        _update(call, (*row, *shared), [row[at] for at in written], plain)


def _repeated(
    call: Call,
    row: Row,
    shared: Row,
    tail: tuple[int, ...],
    pending: Pending,
    site: Site,
) -> tuple[tuple[int, ...], list[Handle]] | None:
    """Capture the operation as a step that was taken before.

    Args:
        tail: the slots of `shared` in the trace, if they have been found.

    Returns:
        `tail`, and the results; None if the step is new, or an operand something special.
    """
    slots = []
    for tensor in row:
        handle = tensor._handle if tensor._base is None else tensor._current()
        if handle.pending is not pending and not _registered(handle, pending):
            return None
        slots.append(handle.slot)
    if not tail:
        for tensor in shared:
            handle = tensor._handle
            if handle.pending is not pending and not _registered(handle, pending):
                return None
        tail = tuple([tensor._handle.slot for tensor in shared])
    handles = pending.handles
    step = handles[-1].state.next.get((call, *slots, *tail))
    slot = len(handles)
    if step is None or slot >= engine.config.trace_limit:
        return None
    results = [Handle(t, pending, slot + i, step) for i, t in enumerate(step.types)]
    results[0].site = site
    handles.extend(results)
    return tail, results


def _registered(handle: Handle, pending: Pending) -> bool:
    """Make a value an input of the trace, if it is nothing special."""
    if handle.__class__ is not Handle or handle.flags & _SPECIAL:
        return False
    return pending.register(handle) is handle


def _hand_over(row: Row, written: Sequence[int], results: list[Handle], pending: Pending) -> None:
    """Replace the values of tensors by results that were just captured; see `Tensor._replace`."""
    may_fail = results[0].state.may_fail
    for at, new in zip(written, results, strict=True):
        target = row[at]
        old = target._handle
        if target._base is not None or old.flags & _SPECIAL:
            target._replace(wrap(new, None, 0))
            continue
        if may_fail:
            note_replacement(target, old, new)
        replace_in_place(old, new)
        home = new.home
        if home is not None and home.pending is not pending:
            new.home = pending.register(home)
        target._handle = new
        try:
            target._writes += 1
        except AttributeError:
            target._writes = 1


def _update(call: Call, operands: Row, targets: Row, plain: bool) -> None:
    """One row in any case."""
    if plain:
        values = [t._handle if t._base is None else t._current() for t in operands]
        try:
            captured = capture(call, values, 5)
        except SparseOperand:
            pass  # `apply` knows what to do
        else:
            handles = captured if captured.__class__ is list else (captured,)
            for target, new in zip(targets, handles, strict=True):
                target._replace(wrap(new, None, 0))
            return
    replaced = apply(call, *operands)
    results = replaced if replaced.__class__ is tuple else (replaced,)
    for target, tensor in zip(targets, results, strict=True):
        target._replace(tensor)
