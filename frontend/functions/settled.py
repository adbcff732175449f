"""Functions that mostly come to one operation, which the types of their tensors and their other
arguments decide: what was found out once is not worked out again.

In: a function that checks its arguments, brings them into form and then applies an operation to its
tensors. Out: one that, given such arguments again, applies that operation at once. That it does
nothing else is not declared but seen: of the call in which a combination of arguments first
appears, exactly one operation must have been captured, on the tensors given in their order, and its
result (the first of several), or a view by it, be what the function gave back. Whatever else a
function does (casts, broadcasts, errors, warnings) it goes on doing. That it did more once may have
been its operands' doing, so it is looked at again, ever more seldom.

What a decorated function does must not depend on anything but these arguments: not on values,
strides, gradients or settings. Within `autocast`, and of sparse tensors, nothing is remembered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from braze import tensors
from braze.capture import Call, Pending, tracer
from braze.handle import Handle
from braze.sites import Warned
from braze.tensors import Tensor, apply, view_of
from braze.views import layout_of

_MOST = 4096  # combinations of arguments that a function remembers

_UNKNOWN: Any = object()

Function = TypeVar("Function", bound=Callable[..., Any])


def settled(function: Function, layout: bool = False) -> Function:
    """Decorate a function whose first tensor is its subject.

    Args:
        layout: how the elements of a view lie in memory matters too.
    """
    # By arguments: the operation, the movement as (operation,) where the result is a view, or where
    # there was more to do, how often there was, and at which call it is looked at again.
    known: dict[tuple[Any, ...], Call | tuple[Call] | list[int]] = {}

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if tensors.autocast_hook is not None:
            return function(*args, **kwargs)
        operands: list[Tensor] = []
        key: list[Any] = []
        add = key.append
        for item in args if not kwargs else (*args, *kwargs, *kwargs.values()):
            if isinstance(item, Tensor):
                handle = item._handle
                if handle.__class__ is not Handle:
                    return function(*args, **kwargs)
                operands.append(item)
                add(handle.type)
                continue
            kind = item.__class__
            if kind is tuple:
                kinds = tuple(map(type, item))
                nested = slice in kinds or tuple in kinds
                key += (kinds, _plain(item) if nested else item)
            else:
                add(kind)
                add(_plain(item) if kind is slice else item)
        if layout and operands and operands[0]._base is not None:
            add(layout_of(operands[0]).strides)
        whole = tuple(key)
        try:
            call: Any = known.get(whole, _UNKNOWN)
        except TypeError:  # lists and the like
            return function(*args, **kwargs)
        if call.__class__ is list:
            call[0] += 1
            if call[0] < call[1]:
                return function(*args, **kwargs)
        elif call.__class__ is Call:
            result = apply(call, *operands)
            return result[0] if result.__class__ is tuple else result
        elif call is not _UNKNOWN:
            return view_of(call[0], operands[0])
        pending = tracer().pending
        before, warned = len(pending.handles), Warned.count
        result = function(*args, **kwargs)
        if tracer().pending is pending and Warned.count == warned:
            seen: Call | tuple[Call] | None = None
            if result.__class__ is Tensor and operands:
                only = _only_operation(result, operands, pending, before)
                if result._base is not None and result._base is not operands[0]:
                    return result  # as of what has a history while none is recorded
                seen = (only,) if result._base is not None and only is not None else only
            if len(known) >= _MOST:
                known.clear()
            count = call[0] if call.__class__ is list else 1
            known[whole] = seen or [count, 2 * count]
        return result

    return wrapped  # type: ignore[return-value]


def _plain(item: Any) -> Any:
    """A slice, or a tuple, as something to look up; its numbers with their classes."""
    parts = (item.start, item.stop, item.step) if item.__class__ is slice else item
    return tuple([(p.__class__, _plain(p) if p.__class__ in (slice, tuple) else p) for p in parts])


def _only_operation(
    result: Tensor, operands: list[Tensor], pending: Pending, before: int
) -> Call | None:
    """The operation that gave a result, if nothing else was captured meanwhile."""
    handle = result._handle
    if handle.__class__ is not Handle or handle.pending is not pending:
        return None
    step = handle.state
    made = [h for h in pending.handles[before:] if h.state.call is not None]
    if not made or made[0] is not handle or any(h.state is not step for h in made):
        return None
    types = tuple([operand._handle.type for operand in operands])
    if step.operand_types != types:
        return None
    if len(set(types)) < len(types):  # their order shows only in the operands themselves
        values = [operand._current() for operand in operands]
        if any(v.pending is not pending for v in values):
            return None
        if step.operands != tuple([v.slot for v in values]):
            return None
    if result._base is not None and result._view is not step.call:
        return None
    return step.call
