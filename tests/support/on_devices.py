"""Run tests that were written for the CPU on a CUDA device.

`tensors_on(place)` makes the tensors that a test makes itself, and the parameters of modules that
it makes, lie on a device, as if it said `device=` each time; what Braze makes for itself meanwhile
is where it says. So an operation that forgets where its operand is meets another device, and fails
as it would for a user. What a test reads with `numpy()` is copied to the host first.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import braze
from braze import capture, devices, legacy
from braze.legacy.nn.module import Typed
from braze.reading import Reading


def in_braze(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == "braze"


def makes_tensors(frame: FrameType) -> bool:
    """Whether what a test called of Braze, and is in this frame now, is asked for new tensors: it
    takes a `device`, or makes a module."""
    calls = [frame]
    while frame.f_back is not None and in_braze(frame.f_back):
        frame = frame.f_back
        calls.append(frame)
    while len(calls) > 1 and only_passes_on(calls[-1].f_code):
        calls.pop()
    code = calls[-1].f_code
    if code.co_name == "__init__":
        return isinstance(calls[-1].f_locals.get("self"), (braze.nn.Module, legacy.nn.Module))
    return "device" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def salvages(frame: FrameType | None) -> bool:
    """Whether this is the search for what a failed run left."""
    while frame is not None and in_braze(frame):
        if frame.f_globals["__name__"] == "braze.undoing":
            return True
        frame = frame.f_back
    return False


def only_passes_on(code: CodeType) -> bool:
    """Whether a function is a decorator's, which takes any arguments."""
    wants = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return code.co_flags & wants == wants and not code.co_argcount + code.co_kwonlyargcount


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def on_host(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of tensors that reads memory, for tests: of a copy on the host."""

    def read(self: Any, *args: Any, **named: Any) -> Any:
        if not self.is_cuda or in_braze(sys._getframe(1)):
            return method(self, *args, **named)
        if self.requires_grad and not named.get("force"):
            return method(self.detach().cpu().requires_grad_(), *args, **named)
        return method(self.detach().cpu(), *args, **named)

    return read


@contextmanager
def tensors_on(place: str, compiled: bool = True) -> Iterator[None]:
    """Where a test's tensors are, for a block of code.

    Args:
        compiled: even where a test asks for the interpreter, which would compute on the host. What
            a failed run left is looked through by the interpreter, as always.
    """
    from braze.runtime.cuda.entries import DeviceEntry

    wanted = devices.device(place)
    default, run = devices.get_default_device, DeviceEntry.run
    from_numpy = braze.from_numpy

    def default_device() -> devices.device:
        if devices._LOCAL.entered or devices.Used.default:
            return default()
        return wanted if makes_tensors(sys._getframe(1)) else default()

    def run_there(self: Any, tier: str, *args: Any) -> Any:
        if compiled and tier == "interpret" and not salvages(sys._getframe(1)):
            tier = "compile"
        return run(self, tier, *args)

    braze.sync()
    with (
        replaced(devices, get_default_device=default_device),
        replaced(devices.Used, defaults=True, devices=True),
        replaced(Reading, numpy=on_host(Reading.numpy), __array__=on_host(Reading.__array__)),
        replaced(braze, from_numpy=lambda array: from_numpy(array).to(place)),
        replaced(DeviceEntry, run=run_there),
    ):
        yield
        braze.sync()
        braze.cuda.synchronize()


def moved(value: Any, place: str) -> Any:
    """Tensors, and those in lists, tuples, dictionaries and legacy modules, on a device."""
    if isinstance(value, braze.Tensor):
        there = value.detach().to(place)
        return there.requires_grad_() if value.requires_grad and value.is_leaf else there
    if type(value) in (list, tuple):
        return type(value)(moved(item, place) for item in value)
    if type(value) is dict:
        return {key: moved(item, place) for key, item in value.items()}
    if isinstance(value, Typed):
        there = copy.copy(value)
        there.__dict__ = moved(value.__dict__, place)
        return there
    return value


def has_tensors(value: Any) -> bool:
    if type(value) in (list, tuple, dict):
        return any(map(has_tensors, value.values() if type(value) is dict else value))
    return isinstance(value, (braze.Tensor, Typed))


@contextmanager
def tensors_moved(names: dict[str, Any], place: str) -> Iterator[None]:
    """Tensors that a module or a test was given before, on a device for a block of code."""
    before = {name: value for name, value in names.items() if has_tensors(value)}
    names.update({name: moved(value, place) for name, value in before.items()})
    try:
        yield
    finally:
        names.update(before)


@contextmanager
def operations_captured() -> Iterator[set[str]]:
    """Gives a set that holds, at the end, the names of the operations that ran."""
    found: set[str] = set()
    run = capture._run

    def noting(pending: Any) -> None:
        state = pending.state
        while state.parent is not None:
            if state.call is not None:
                found.add(state.call.op.name)
            state = state.parent
        run(pending)

    with replaced(capture, _run=noting):
        yield found
