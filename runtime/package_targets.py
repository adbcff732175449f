"""Which of a package's code runs, and where.

In: what the manifest says of the targets, and the device that is wanted.  Out: one target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braze.ir.target import Target, can_run
from braze.runtime.cpu import host_runner
from braze.runtime.package_format import PackageError

CPU = "cpu"
META = "meta"  # where nothing runs
_DEVICE = re.compile(r"cpu|meta|cuda(:\d+)?", re.ASCII)


def device_name(given: str) -> str:
    """The name of a device, "cpu", "cuda:N" or "meta".  Raises: ValueError if it is none."""
    if not _DEVICE.fullmatch(given):
        names = '"cpu", "cuda", "cuda:N" or "meta"'
        raise ValueError(f"[load] device must be {names}, given {given!r}")
    return "cuda:0" if given == "cuda" else given


def target_of(entry: dict[str, Any]) -> Target:
    """What the code of an entry of the manifest's targets was made for."""
    return Target.from_text(entry["target"] if "codes" in entry else entry["facts"]["target"])


def choose(
    path: Path, entries: Sequence[dict[str, Any]], device: str | None
) -> tuple[dict[str, Any], Target, str]:
    """The best code that a device can run, and the device.

    Args:
        device: None for the CPU if there is code for one, else for the first GPU.

    Raises:
        PackageError: there is none; the message says why. CudaError: there is no such GPU.
    """
    targets = [target_of(entry) for entry in entries]
    if device == META:
        return entries[0], targets[0], META
    if device is None:
        device = "cuda:0" if targets and all(t.is_gpu for t in targets) else CPU
    on_gpu = device != CPU
    if not any(target.is_gpu == on_gpu for target in targets):
        names = ", ".join(target.name for target in targets)
        raise PackageError(f"{path} has no code for device {device!r}, but for {names}")
    if on_gpu:
        from braze.runtime.cuda.devices import device_named

        runner = device_named(device).target
    else:
        runner = host_runner()
    reasons: list[str] = []
    usable: list[tuple[tuple[int, ...], int]] = []
    for number, target in enumerate(targets):
        if target.is_gpu != on_gpu:
            continue
        reason = can_run(target, runner)
        if reason is None:
            usable.append((_rank(target), number))
        else:
            reasons.append(f"{target.name} {reason}")
    if not usable:
        where = f"GPU {device}" if on_gpu else "CPU"
        raise PackageError(f"{path} is not built for this {where}: {'; '.join(reasons)}")
    number = max(usable)[1]
    return entries[number], targets[number], device


def _rank(target: Target) -> tuple[int, ...]:
    """Of two targets that can be run the one with the greater rank is the faster."""
    if target.is_gpu:
        return (target.capability,)
    return target.vector_bits, len(target.features)
