"""Which devices replicas can be on, and the threads that each of them has.

On the CPU a device is a share of the threads: with n devices, each has its own n-th of the pool and
its own memory for intermediate values, so that replicas compute side by side.
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
