"""Copies of a module for several devices, whose gradients flow to the module's own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.autograd.function import Function
from braze.autograd.modes import no_grad
from braze.capture import materialise
from braze.devices import place_of
from braze.handle import PARAM, concrete
from braze.nn.modules.module import Module
from braze.nn.parallel import comm
from braze.nn.parallel.places import are_gpus, devices_of
from braze.placing import moved
from braze.tensors import Tensor, wrap


def _again(tensor: Tensor) -> Tensor:
    """Another tensor on the same memory: on the CPU, devices need no copies to read from."""
    handle = tensor._current()
    return wrap(concrete(handle.type, materialise(handle), handle.flags & PARAM), None, 0)


class _Broadcast(Function):
    """Parameters for each device; their gradients are summed."""

    @staticmethod
    def forward(ctx: Any, count: int, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.count = count
        return tuple(_again(parameter) for _ in range(count) for parameter in parameters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        length = len(gradients) // ctx.count
        lists = [gradients[i : i + length] for i in range(0, len(gradients), length)]
        return None, *comm.reduce_add_coalesced(lists)


def _parameters_for(
    parameters: Sequence[Tensor], count: int, detach: bool
) -> list[Sequence[Tensor]]:
    if detach or not parameters:
        return [[_again(parameter) for parameter in parameters] for _ in range(count)]
    made = _Broadcast.apply(count, *parameters)
    length = len(parameters)
    return [made[i : i + length] for i in range(0, len(made), length)]


def _parameters_on(
    parameters: Sequence[Tensor], devices: Sequence[Any], detach: bool
) -> list[Sequence[Tensor]]:
    """Copies on GPUs, whose gradients find their way back; the module's own where they are."""
    own = [parameter.detach() for parameter in parameters] if detach else parameters
    return [[moved(parameter, place_of(device)) for parameter in own] for device in devices]


def _hollow(module: Module) -> Module:
    """A module with the same attributes, and tables of its own."""
    replica: Module = object.__new__(type(module))
    replica.__dict__.update(module.__dict__)
    replica.__dict__.update(
        _parameters={},
        _buffers=dict(module._buffers),
        _modules=dict(module._modules),
        _is_replica=True,
    )
    return replica


def replicate(network: Module, devices: Sequence[Any], detach: bool = False) -> list[Any]:
    """A replica of a module for each device.

    A replica's parameters are no leaves but lead to the module's. The first replica has the
    module's buffers, so that what it writes to them stays; the others have copies. Attributes that
    a replica sets are its own.

    Args:
        detach: without gradients.

    Raises:
        RuntimeError: there is no such device.
    """
    places = devices_of(devices)
    count = len(places)
    if not count:
        return []
    parameters = list(network.parameters())
    place = {id(parameter): i for i, parameter in enumerate(parameters)}
    if are_gpus(places):
        copies = _parameters_on(parameters, places, detach)
    else:
        copies = _parameters_for(parameters, count, detach)
    modules = list(network.modules())
    replicas: list[Any] = []
    for number in range(count):
        made = {id(module): _hollow(module) for module in modules}
        buffers: dict[int, Tensor] = {}
        for module in modules:
            replica = made[id(module)]
            for name, child in module._modules.items():
                replica._modules[name] = None if child is None else made[id(child)]
            for name, leaf in module._parameters.items():
                own = None if leaf is None else copies[number][place[id(leaf)]]
                replica.__dict__[name] = own
            for name, buffer in module._buffers.items():
                if buffer is not None and number:
                    if id(buffer) not in buffers:
                        with no_grad():
                            buffers[id(buffer)] = comm.on_its_own(buffer, places[number])
                    replica._buffers[name] = buffers[id(buffer)]
        replicas.append(made[id(network)])
    return replicas
