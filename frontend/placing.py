"""Put tensors on devices: moves, and functions that make tensors where they are asked to.

What makes a tensor makes it on the CPU, by operations that are captured, and it is moved from there
by one more. Nothing is made twice: what depends on no data is computed where it is wanted when the
trace runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from braze import engine
from braze.autograd.modes import no_grad
from braze.capture import call_of, tracer
from braze.devices import Used, place_of, set_drawing
from braze.handle import INFERENCE, concrete, type_of_array
from braze.ir.devices import on_device
from braze.ir.op import op_named
from braze.tensors import Tensor, apply, from_array, wrap

_TO_DEVICE = op_named("to_device")
_CPU = "cpu"
F = TypeVar("F", bound=Callable[..., Any])


def moved(tensor: Tensor, place: str) -> Tensor:
    """A tensor on a device, itself if it is there; a gradient finds its way back."""
    if tensor._handle.type.device == place:
        return tensor
    if tensor.is_sparse:
        from braze.sparse.tensor import moved_parts

        return moved_parts(tensor, place)
    result: Tensor = apply(call_of(_TO_DEVICE, device=place), tensor)
    return result


def makes(function: F) -> F:
    """Decorate a function that makes a new tensor, whose `device` says where."""

    @functools.wraps(function)
    def made(*args: Any, device: Any = None, **named: Any) -> Any:
        if device is None and not Used.defaults:
            return function(*args, **named)
        return _made(function, place_of(device), args, named)

    return made  # type: ignore[return-value]


def makes_like(function: F) -> F:
    """Decorate a function that makes a new tensor on the device of its first argument, if `device`
    does not say where."""

    @functools.wraps(function)
    def made(*args: Any, device: Any = None, **named: Any) -> Any:
        if not Used.devices and device is None:
            return function(*args, **named)
        if device is None:
            like = args[0] if args else named.get("input")
            place = like._handle.type.device if isinstance(like, Tensor) else _CPU
        else:
            place = place_of(device)
        return _made(function, place, args, named)

    return made  # type: ignore[return-value]


def _made(function: Callable[..., Any], place: str, args: Any, named: Any) -> Any:
    if place == _CPU and not Used.devices:
        return function(*args, **named)
    generator = named.get("generator")
    if generator is not None and generator.device.type != place.partition(":")[0]:
        raise RuntimeError(
            f"Expected a '{place.partition(':')[0]}' device type for generator but found "
            f"'{generator.device.type}'"
        )
    wants_gradient = named.pop("requires_grad", False)
    before = set_drawing(place)
    try:
        with no_grad():
            made = moved(function(*args, **named), place)
    finally:
        set_drawing(before)
    if wants_gradient:
        made.requires_grad = True
    return made


def beside(tensor: Tensor, other: Any) -> Any:
    """An argument on the device of the tensor that it belongs to."""
    if not Used.devices or not isinstance(other, Tensor):
        return other
    return moved(other, tensor._handle.type.device)


def array_beside(like: Tensor, array: np.ndarray, flags: int = 0) -> Tensor:
    """`array_on` the device of another tensor."""
    return array_on(like._handle.type.device, array, flags)


def array_on(place: str, array: np.ndarray, flags: int = 0) -> Tensor:
    """A tensor of a C-contiguous array's elements, in memory at once; on the CPU it shares the
    array's memory."""
    if place == _CPU:
        return from_array(array, flags)
    cuda = engine.cuda()
    target = cuda.new_storage(place, array.nbytes, "state")
    cuda.copy_storage(engine.Storage.from_numpy(array), target)
    if tracer().inference:
        flags |= INFERENCE
    return wrap(concrete(on_device(type_of_array(array), place), target, flags), None, 0)
