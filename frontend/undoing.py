"""What is done after a run that failed: the program is as it was before the line that failed.

Operations are captured long before they run, so by the time an index turns out to be out of range,
later lines may have replaced values in place. Each replacement after an operation that can fail is
noted in the pending trace, with numbers and weak references only, so that nobody's lifetime
changes. After a failure those from the failing operation on are taken back, and what was captured
before is computed.

In: a failed trace. Out: its tensors with the values and places on the tape that they had.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from braze import engine
from braze.capture import Pending, hand_out, make_plan
from braze.handle import FOLLOWED, STALE, Handle
from braze.result_memory import memory_for
from braze.trie import State, slots_taken, steps_of

if TYPE_CHECKING:
    from braze.autograd.tape import TapeNode
    from braze.tensors import Tensor


# A tensor's value that was replaced in place: the slot of the new value in its trace, that of the
# old one (-1 if it was none of the trace), whose value it is, and its place on the tape before
# (node, result, whether it required a gradient). A plain tuple: an optimizer's step makes many.
Replacement = tuple[int, int, "weakref.ref[Tensor]", "weakref.ref[TapeNode] | None", int, bool]


def note_replacement(tensor: Tensor, old: Handle, new: Handle) -> None:
    """Remember what a tensor was before its value is replaced.

    Args:
        old, new: the values; the new one is still to be computed, by a trace that can fail.
    """
    pending, node = new.pending, tensor._node
    assert pending is not None
    entry: Replacement = (
        new.slot,
        old.slot if old.pending is pending else -1,
        weakref.ref(tensor),
        None if node is None else weakref.ref(node),
        tensor._index,
        tensor._requires_grad,
    )
    pending.replaced.append(entry)


def salvage(pending: Pending, live: list[Handle], state: State) -> None:
    """Undo what the failing operation and those after it have replaced, and compute what was
    captured before.

    Args:
        live: the values that somebody refers to. state: the end of the trace.
    """
    steps = steps_of(state)
    if any(step.call is not None and step.call.op.is_collective for step in steps):
        # Other processes do not run anything again, so neither can this one.
        _take_back(pending, 0)
        return
    count = _first_failure(pending, steps)
    known = sum(map(slots_taken, steps[:count]))
    restored = _take_back(pending, known)
    safe = {handle.slot: handle for handle in (*live, *restored) if handle.slot < known}
    if safe:
        values = list(safe.values())
        plan = make_plan(pending, steps[count - 1], values, "interpret")
        outputs = memory_for(plan, values)
        plan.entry.run(_inputs_of(pending, steps[:count]), outputs)
        hand_out(values, outputs)


def give_back_memory(live: list[Handle]) -> None:
    """What should have been overwritten in place keeps its value."""
    for handle in live:
        if handle.storage is None and handle.home is not None:
            handle.storage = handle.home.storage
            handle.home = None


def _first_failure(pending: Pending, steps: list[State]) -> int:
    """Which step is the first one that fails; how many there are if none does."""
    ends = [i for i, s in enumerate(steps) if s.call is not None and s.call.op.may_fail]
    slots, slot = [], 0
    for step in steps:
        if step.call is not None and step.call.op.is_host:
            slots.append(slot)  # computed only if somebody wants the result
        slot += slots_taken(step)

    def passes(count: int) -> bool:
        known = sum(map(slots_taken, steps[:count]))
        wanted = [pending.handles[slot] for slot in slots if slot < known]
        plan = make_plan(pending, steps[count - 1], wanted, "interpret")
        outputs = engine.Storage.several(plan.sizes)
        try:
            plan.entry.run(_inputs_of(pending, steps[:count]), outputs)
        except Exception:  # of any kind: what the user gets is the error of the run itself
            return False
        return True

    # What passes up to one step and fails with it, fails with all later ones.
    first = bisect_left(ends, True, key=lambda end: not passes(end + 1))
    return ends[first] if first < len(ends) else len(steps)


def _inputs_of(pending: Pending, steps: list[State]) -> list[Any]:
    count = sum(step.call is None for step in steps)
    return [handle.storage for handle in pending.inputs[:count]]


def _take_back(pending: Pending, first: int) -> list[Handle]:
    """Undo the replacements by operations from slot `first` on.

    Returns:
        The values that tensors have again and that are still to be computed.
    """
    handles: list[Any] = pending.handles
    found: list[Handle] = []
    for slot, before, whose, recorded, result, requires_grad in reversed(pending.replaced):
        if slot < first:
            break
        tensor, new = whose(), handles[slot]
        old = handles[before] if before >= 0 else new.home
        if tensor is None or tensor._handle is not new or old is None:
            continue
        if old.storage is None:
            old.home = new.home
            found.append(old)
        new.home = None
        if not old.flags & FOLLOWED:  # writes through `data` are not counted
            tensor._writes -= 1
        old.flags &= ~(STALE | FOLLOWED)
        tensor._handle = old
        node = None if recorded is None else recorded()
        if recorded is None or node is not None:
            if tensor._node is not None and tensor._node.hooks is not None and node is not None:
                tensor._node.hooks.move_retained(tensor, node, result)
            tensor._node, tensor._index = node, result
            tensor._requires_grad = requires_grad
    return [handle for handle in found if handle.slot < first]
