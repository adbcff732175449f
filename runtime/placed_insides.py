"""Everything that a graph on GPUs went through.

In: a captured graph with values on GPUs.  Out: its stages as text: of each program that it is split
into, for one device each, those from the graph to CUDA C or machine code, and the copies in
between; and its runs, for who looks on while they are made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.devices import HOST
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.insides import look_inside
from braze.runtime.limits import Limits, machine_limits
from braze.runtime.splitting import Segment, split_devices
from braze.runtime.storage import Storage

if TYPE_CHECKING:
    from braze.runtime.executable import Input


def placed_stages(graph: Graph) -> list[tuple[str, str]]:
    """Names and texts, in the order in which the programs run."""
    split = split_devices(graph)
    stages = [("captured", str(graph))]
    for number, step in enumerate(split.steps):
        if isinstance(step, Segment):
            found = look_inside(step.graph, target_on(step.device, step.graph))
            stages += [(f"{number} {step.device} {s.name}", s.text) for s in found.stages]
        else:
            source, target = split.types[step.source], split.types[step.target]
            stages.append((f"{number} copy", f"{source} to {target.device}"))
    return stages


def target_on(device: str, graph: Graph) -> Target | None:
    """What a graph's code for a device is made for; None for this processor.  Raises: CudaError."""
    if device == HOST:
        return None
    from braze.runtime.cuda.devices import device_named
    from braze.runtime.cuda.precision import target_for

    return target_for(graph, device_named(device).target)


def stored_on(device: str, array: np.ndarray[Any, np.dtype[Any]]) -> Storage:
    """The array in a device's memory; on the host itself.  Raises: CudaError."""
    stored = Storage.from_numpy(array)
    if device == HOST:
        return stored
    from braze.runtime.cuda.memory import copy_storage, new_storage

    copy = new_storage(device, stored.nbytes, "an array")
    copy_storage(stored, copy)
    return copy


def limits_on(device: str) -> Limits:
    """What a device can do at most.  Raises: CudaError."""
    if device == HOST:
        return machine_limits()
    from braze.runtime.cuda.devices import device_named
    from braze.runtime.cuda.timing import device_limits

    return device_limits(device_named(device))


def run_placed(graph: Graph, inputs: Sequence[Input], rounds: int, seconds: float) -> None:
    """Run a graph on copies of its inputs, for its observer.

    Args:
        rounds: how many runs at least.
        seconds: for how long at least.
    """
    from braze.runtime.cuda.memory import copy_storage, new_storage
    from braze.runtime.placed import PlacedEntry

    copies: list[Any] = []
    for value, item in zip(graph.inputs, inputs, strict=True):
        if isinstance(item, Storage):
            own = new_storage(value.type.device, item.nbytes, str(value.type))
            copy_storage(item, own)
            copies.append(own)
        else:
            copies.append(item)
    outputs = [
        copies[graph.aliases[number]]
        if number in graph.aliases
        else new_storage(value.type.device, value.type.nbytes, str(value.type))
        for number, value in enumerate(graph.outputs)
    ]
    entry = PlacedEntry(graph, "compile")
    number, until = 0, time.perf_counter() + seconds
    while number < rounds or time.perf_counter() < until:
        number += 1
        entry.run(copies, outputs)
