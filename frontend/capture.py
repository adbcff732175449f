"""Deferred capture: operations are recorded in a pending trace and run together at a sync.

What has been traced before is kept as a trie. A state of the trie is a trace so far; its edges are
the next operation with the numbers ("slots") of its operands, or the next input with its type. A
program that repeats itself walks the same path: for each operation one dictionary look-up gives the
result types, with no shape inference, no new nodes and no hashing of a graph. A step off the known
paths infers types (errors rise here, at the user's line) and adds a state.

The one thing that capturing changes is the list of handles, by a single append: so another thread
that needs a value can run the trace at any moment, and the capturing thread, seeing its trace gone,
takes the step again in a new one.

At a sync the live values are those whose handle somebody outside the trace still refers to: a
tensor or the tape. Together with the trie's state they select the compiled graph; only they are
written to memory that outlives the call.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from braze import engine
from braze.captured_sites import sites_of
from braze.handle import BUFFER, EXPOSED, INFERENCE, NUMBER, PARAM, Handle, concrete
from braze.ir.devices import HOST
from braze.ir.dtypes import f32
from braze.ir.errors import BrazeError, DeviceError
from braze.ir.graph import Location, Role
from braze.ir.op import op_named
from braze.ir.ops.creation import constant as constant_op
from braze.ir.types import TensorType, tensor_type
from braze.result_memory import memory_for
from braze.sharing import is_exposed, snapshot
from braze.sites import Site, current_scope, location_of, user_site, with_place
from braze.trie import NOTHING, TRIE, Call, Plan, State, build_graph, call_of

if TYPE_CHECKING:
    from braze.autograd.replay import Replayed


class Pending:
    """One trace being captured.

    Attributes:
        handles: every value by slot: inputs and results in order of appearance. The last one's
            `state` is where in the trie the trace is. An operation without results has a handle
            too, which nobody reads.
        inputs: the handles that are inputs, in order.
        constants: handles of the constants captured so far.
        error: why running it failed, if it did.
        replaced: the tensors whose values were replaced in place; see `braze.undoing`.
        over: whether it has run; until then what it says in its inputs' handles must stay.
        doubles: handles in place of those that are inputs of another thread's trace just now.
        replayed: the backward passes that were taken over as a whole; most of their results have
            no handles of their own.
    """

    __slots__ = (
        "constants",
        "doubles",
        "error",
        "handles",
        "inputs",
        "over",
        "replaced",
        "replayed",
        "tracer",
    )

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.handles: list[Handle] = []
        self.inputs: list[Handle] = []
        self.constants: dict[tuple[Any, ...], Handle] = {}
        self.error: BaseException | None = None
        self.replaced: list[tuple[Any, ...]] = []
        self.over = False
        self.doubles: dict[Handle, Handle] = {}
        self.replayed: list[Replayed] = []

    @property
    def state(self) -> State:
        """Where in the trie the trace is."""
        handles = self.handles
        return handles[-1].state if handles else TRIE.root

    def register(self, handle: Handle) -> Handle:
        """Make a value that is in memory, or a Python number, an input of this trace.

        Returns:
            The handle, or another of the same memory if a second thread's trace has it.
        """
        if handle.storage is None:
            materialise(handle)
        if not _Threads.several:
            self._enter(handle)
            return handle
        with _Threads.claiming:
            owner = handle.pending
            if owner is None or owner.over or owner.tracer is self.tracer:
                self._enter(handle)
                return handle
        double = self.doubles.get(handle)
        if double is None:
            memory: Any = handle.storage
            double = self.doubles[handle] = concrete(handle.type, memory, handle.flags)
            self._enter(double)
        return double

    def takes(self, handle: Handle) -> bool:
        """Make a value an input of this trace, if it is in memory and nothing special.

        Returns:
            Whether it was; if not, `register` knows what to do.
        """
        if handle.__class__ is not Handle or handle.flags & EXPOSED or handle.storage is None:
            return False
        if _Threads.several:
            return self.register(handle) is handle
        # As `_enter`, which this saves a call of, for inputs that a trace had here before.
        handles = self.handles
        if not handles:
            self._enter(handle)
            return True
        before = handles[-1].state
        key = (handle.type, _ROLES[handle.flags & _KINDS])
        state = before.first if before.first_key == key else before.next.get(key)
        if state is None:
            self._enter(handle)
            return True
        handle.pending = self
        handle.slot = len(handles)
        handle.state = state
        self.inputs.append(handle)
        handles.append(handle)
        return True

    def claim(self, handles: Sequence[Handle]) -> bool:
        """Reserve values that are in memory for inputs of this trace.

        Returns:
            False if a second thread's trace has one.
        """
        if not _Threads.several:
            for handle in handles:
                handle.pending = self
            return True
        with _Threads.claiming:
            for handle in handles:
                owner = handle.pending
                if not (owner is None or owner.over or owner.tracer is self.tracer):
                    return False
            for handle in handles:
                handle.pending = self
        return True

    def _enter(self, handle: Handle) -> None:
        role = _ROLES[handle.flags & _KINDS]
        handles = self.handles
        key = (handle.type, role)
        before = handles[-1].state if handles else TRIE.root
        state = before.next.get(key)
        if state is None:
            state = TRIE.grow(before, key, (handle.type,))
            state.role = role
        handle.pending = self
        handle.slot = len(handles)
        handle.state = state
        self.inputs.append(handle)
        handles.append(handle)

    def extend(
        self,
        before: State,
        key: Any,
        call: Call,
        operands: Sequence[Handle],
        site: Site,
        scope: str,
    ) -> State:
        """Take a step that has not been taken before from this state."""
        operand_types = tuple([handle.type for handle in operands])
        try:
            types = call.op.result_types(operand_types, call.attributes)
        except BrazeError as error:
            raise with_place(error, site, scope) from None
        state = TRIE.grow(before, key, types)
        state.call = call
        state.operations += 1
        state.may_fail = state.may_fail or call.op.may_fail
        state.operands = tuple([handle.slot for handle in operands])
        state.operand_types = operand_types
        state.location = location_of(site, scope)
        return state


class Tracer:
    """A thread's capture state. Threads capture separately; a value that crosses over forces a
    sync.

    Attributes:
        inference: inside `inference_mode`, where nothing is recorded even within `enable_grad`.
        watch: where the tape's nodes are listed as they are recorded, if anybody wants to know.
        whole: while a function becomes one graph: nothing may run in between.
        broken: where something did.
        autocast: what `braze.amp` keeps for this thread, once it was used.
        after_backward: called when a backward pass is over; gives whether it is called again.
    """

    __slots__ = (
        "__weakref__",
        "after_backward",
        "autocast",
        "broken",
        "grad_enabled",
        "inference",
        "lock",
        "node",
        "pending",
        "site",
        "tier",
        "watch",
        "whole",
    )

    def __init__(self) -> None:
        _Threads.several = _Threads.several or bool(_TRACERS)
        _TRACERS.add(self)
        self.tier: engine.Tier | None = None  # overrides `config.tier` for what this thread runs
        self.lock = threading.RLock()
        self.pending = Pending(self)
        self.site: Site | None = None  # while the backward pass captures: the forward operation's
        self.node: Any = None  # ... and its node of the tape
        self.grad_enabled = True
        self.inference = False
        self.watch: list[Any] | None = None
        self.whole = False
        self.broken: Site | None = None
        self.autocast: Any = None
        self.after_backward: list[Callable[[], bool]] = []

    def flush(self) -> None:
        """Run what is pending, if anything is."""
        with self.lock:
            pending = self.pending
            if len(pending.handles) > len(pending.inputs):
                if self.whole and self.broken is None:
                    self.broken = user_site()
                self.pending = Pending(self)  # first: a trace that fails is not tried again
                _run(pending)
            elif pending.inputs:  # of an operation that was refused: nobody else's
                pending.over = True
                self.pending = Pending(self)


class _Threads:
    """Whether a second thread has ever captured anything, and who may take a handle then."""

    several = False
    claiming = threading.Lock()


# Of all threads, also those that have ended while values of theirs are still to be computed.
_TRACERS: weakref.WeakSet[Tracer] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: no other thread lives on, so nobody holds a lock or runs a trace."""
    for tracer in list(_TRACERS):
        tracer.lock = threading.RLock()
    _Threads.claiming = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class _Local(threading.local):
    def __init__(self) -> None:
        self.tracer = Tracer()


# Mark the plans of a forced tier among those of one state; no slot has such a number.
_TIER_KEYS = {"interpret": 1 << 40, "compile": 1 << 41, "auto": 1 << 42}
_KINDS = NUMBER | PARAM | BUFFER
# The role of an input by its flags: numbers come first, then parameters, then buffers.
_ROLES: list[Role] = [
    "scalar" if flags & NUMBER else "param" if flags & PARAM else "buffer" if flags else "data"
    for flags in range(NUMBER * 2)
]


LOCAL = _Local()


def tracer() -> Tracer:
    """The calling thread's tracer."""
    return LOCAL.tracer


def flush() -> None:
    """Run everything that the calling thread has captured so far."""
    LOCAL.tracer.flush()


def materialise(handle: Handle) -> engine.Storage:
    """The memory that holds a value, after running what it depends on.

    Raises:
        RuntimeError: the trace that should have computed it failed.
    """
    if handle.storage is None:
        pending = handle.pending
        assert pending is not None
        tracer = pending.tracer
        if pending is tracer.pending:
            tracer.flush()
        else:
            with tracer.lock:  # another thread is running it
                pass
        if handle.storage is None:
            raise RuntimeError(
                f"this tensor has no value, because running its operations failed: {pending.error}"
            ) from pending.error
    assert isinstance(handle.storage, engine.Storage)
    return handle.storage


def capture(call: Call, operands: Sequence[Handle], depth: int = 2) -> Any:
    """Append one operation to the pending trace.

    Args:
        depth: how many callers up the user's code begins at the nearest.

    Returns:
        The handle of the result, or the list of handles of an operation that has not exactly one.

    Raises:
        ShapeError, DTypeError, DimensionError: the operands do not fit; the message names the
            user's line.
    """
    tracer = LOCAL.tracer
    site = tracer.site or user_site(depth)
    at_once = False
    scope: str | None = None
    while True:
        pending = tracer.pending
        for handle in operands:
            if handle.pending is not pending:
                if handle.flags & EXPOSED and not tracer.whole:
                    operands, at_once = _shield(operands, pending)
                    break
                if pending.register(handle) is not handle:
                    if tracer.whole:
                        operands = _here(operands, pending)
                    else:
                        operands, at_once = _shield(operands, pending)
                    break
        key: Any
        count = len(operands)
        if count == 2:
            key = (call, operands[0].slot, operands[1].slot)
        elif count == 1:
            key = (call, operands[0].slot)
        elif count == 3:
            key = (call, operands[0].slot, operands[1].slot, operands[2].slot)
        else:
            key = (call, *[handle.slot for handle in operands])
        handles = pending.handles
        before = handles[-1].state if handles else TRIE.root
        state = before.next.get(key)
        if state is None:
            if scope is None:
                count = len(handles)
                node = tracer.node if tracer.site is not None else None
                scope = current_scope() if node is None else node.location.scope
                if len(handles) != count or tracer.pending is not pending:
                    continue  # a layer captured something to describe itself
            try:
                state = pending.extend(before, key, call, operands, site, scope)
            except DeviceError:
                moved = _beside(operands, site, depth)
                if moved is None:
                    raise
                if isinstance(operands, list):
                    operands[:] = moved  # of the caller's list the tape keeps what was used
                else:
                    operands = moved
                continue
        types = state.types
        slot = len(handles)
        results: Any
        if len(types) == 1:
            results = Handle(types[0], pending, slot, state, site)
            handles.append(results)
        elif not types:
            # Without a name: nobody may seem to hold the place of an operation without results.
            handles.append(Handle(NOTHING, pending, slot, state, site))
            results = []
        else:
            results = [Handle(t, pending, slot + i, state) for i, t in enumerate(types)]
            results[0].site = site
            handles.extend(results)
        if tracer.pending is pending:
            break
    if tracer.inference:
        for handle in handles[slot:]:
            handle.flags |= INFERENCE
        del handle
    config = engine.config
    if at_once or slot >= config.trace_limit or config.eager:
        tracer.flush()
    return results


def _beside(operands: Sequence[Handle], site: Site, depth: int) -> Sequence[Handle] | None:
    """Operands on one device: what the library made on the CPU within the user's very call is
    moved to the GPU on which the others are.

    Returns:
        None where that is not the matter: the user has mixed devices.
    """
    places = {handle.type.device for handle in operands} - {HOST}
    if len(places) != 1:
        return None
    call = call_of(op_named("to_device"), device=places.pop())
    moved = []
    for handle in operands:
        if handle.type.device == HOST and handle.type.shape:
            if handle.site != site or not _is_made_here(handle):
                return None
            handle = capture(call, [handle], depth + 2)
        moved.append(handle)
    return moved


def _is_made_here(handle: Handle) -> bool:
    """Whether a value comes from numbers and arrays alone, and no tensor of the user's."""
    seen, waiting = {handle}, [handle]
    while waiting:
        made = waiting.pop()
        pending = made.pending
        if made.storage is not None or pending is None or made.state.call is None:
            continue
        for given in [pending.handles[slot] for slot in made.state.operands]:
            if given.flags & NUMBER or given in seen or _is_constant(given):
                continue
            if given.site != handle.site:
                return False
            seen.add(given)
            waiting.append(given)
    return True


def _is_constant(handle: Handle) -> bool:
    """Whether a value is a number of the program's, which places in it share; see `constant`."""
    call = None if handle.pending is None else handle.state.call
    return call is not None and call.op is constant_op and handle.storage is None


def _shield(operands: Sequence[Handle], pending: Pending) -> tuple[Sequence[Handle], bool]:
    """Make all operands inputs, copies of those whose memory others may change meanwhile.

    Returns:
        The operands (the same list, if it is one), and whether one of them is too large to copy, so
        that the operation must run at once.
    """
    shielded = operands if isinstance(operands, list) else list(operands)
    at_once = False
    for position, handle in enumerate(shielded):
        if handle.flags & EXPOSED and is_exposed(handle):
            copied = snapshot(handle)
            if copied is None:
                at_once = True
            else:
                handle = shielded[position] = copied
    return _here(shielded, pending), at_once


def _here(operands: Sequence[Handle], pending: Pending) -> Sequence[Handle]:
    """The operands as values of this trace: the same list, unless another thread has one."""
    here = [h if h.pending is pending else pending.register(h) for h in operands]
    return operands if all(map(is_, here, operands)) else here


def constant(value: float | int | bool, like: TensorType) -> Handle:
    """A 0-d number of this dtype as part of the program (a gradient rule's own, not the user's)."""
    pending = LOCAL.tracer.pending
    key = (value, value.__class__, like.dtype)
    handle = pending.constants.get(key)
    if handle is None:
        handle = capture(call_of(constant_op, value=value, dtype=like.dtype), ())
        handle.flags = 0  # no tensor of the user's, whatever the mode
        if handle.pending is LOCAL.tracer.pending:
            handle.pending.constants[key] = handle
    return handle


# Running ------------------------------------------------------------------------------------------


def _reference_counts(handles: list[Handle]) -> list[int]:
    return list(map(getrefcount, handles))


# What `_reference_counts` says of a handle that only the trace's own list refers to.
_UNREFERENCED = _reference_counts([Handle(tensor_type(f32), None, 0)])[0]


def _run(pending: Pending) -> None:
    """Execute a trace: select the plan by its live values, make one native call, hand out the
    results."""
    pending.constants.clear()
    handles = pending.handles
    least = _UNREFERENCED
    counts = _reference_counts(handles)
    for replayed in pending.replayed:
        replayed.hide(counts)
    live = [
        handle
        for handle, count in zip(handles, counts, strict=True)
        if count > least and handle.storage is None
    ]
    key = [handle.slot for handle in live]
    for handle in live:
        home = handle.home
        if home is not None and home.pending is pending:
            key += (~home.slot, handle.slot)
    state = pending.state
    engine.stats.captured_ops += state.operations
    tier = "interpret" if engine.config.eager else pending.tracer.tier
    if tier is not None:
        key.append(_TIER_KEYS[tier])
    try:
        plan = state.plans.get(tuple(key))
        if plan is None:
            plan = state.plans[tuple(key)] = make_plan(pending, state, live, tier)
        outputs = memory_for(plan, live)
        inputs: list[Any] = [handle.storage for handle in pending.inputs]
        kept = plan.kept
        plan.entry.run(inputs, outputs, lambda node: _location(pending, kept[node]))
    except BaseException as error:
        if not getattr(error, "graph_finished", False):
            from braze.undoing import give_back_memory, salvage

            pending.error = error
            try:
                if isinstance(error, Exception):
                    salvage(pending, live, state)
            except Exception as other:
                error.add_note(f"Nor could what was captured before it be computed: {other}")
            finally:
                give_back_memory(live)
            raise
        hand_out(live, outputs)  # the results are there, so what was overwritten stays readable
        raise
    finally:
        pending.handles = []
        pending.inputs = []
        pending.doubles = {}
        pending.over = True
    hand_out(live, outputs)


def hand_out(live: list[Handle], outputs: Sequence[Any]) -> None:
    for handle, storage in zip(live, outputs, strict=True):
        handle.storage = storage
        handle.home = None


def _location(pending: Pending, number: int) -> Location:
    """The user's line of a captured operation in this very run."""
    return location_of(sites_of(pending)[number])


def make_plan(pending: Pending, state: State, live: list[Handle], tier: engine.Tier | None) -> Plan:
    graph, kept = build_graph(state, [h.slot for h in live])
    position = {handle.slot: i for i, handle in enumerate(pending.inputs)}
    for i, handle in enumerate(live):
        home = handle.home
        if home is not None and home.pending is pending:
            graph.aliases[i] = position[home.slot]
    entry = engine.prepare(graph, tier=tier)
    is_placed = any(handle.type.device != HOST for handle in live)
    return Plan(entry, kept, [handle.type.nbytes for handle in live], is_placed)
