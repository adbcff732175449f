"""Which devices replicas can be on, and what they compute with.

A GPU is itself. On the CPU a device is a share of the threads: with n devices, each has its own
n-th of the pool and its own memory for intermediate values, so that replicas compute side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze import engine
from braze.devices import check_device
from braze.devices import device as Device


def devices_of(wanted: Sequence[Any]) -> list[Device]:
    """Devices by name, as objects or as GPUs' numbers.

    Raises:
        RuntimeError: there is no such device.
    """
    found = []
    for item in wanted:
        device = item if isinstance(item, Device) else Device(item)
        check_device(device)
        found.append(device)
    return found


def places_of(devices: Sequence[Any]) -> list[Any]:
    """What each device computes with: a share of the CPU's threads."""
    return list(engine.shares(len(devices)))


def are_gpus(devices: Sequence[Any]) -> bool:
    """Whether devices are GPUs, all of them."""
    return bool(devices) and all(Device(item).type == "cuda" for item in devices)


def all_gpus() -> list[Device]:
    """Those of this machine."""
    return [Device("cuda", index) for index in range(engine.cuda().device_count())]
