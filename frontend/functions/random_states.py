"""Where the default random streams are, the CPU's and all GPUs', and taking them back there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from braze.devices import place_of
from braze.functions.random_numbers import OfGpus, default_generator

Position = tuple[int, int]


class Positions(NamedTuple):
    """Of all streams.

    Attributes:
        gpus: by device, of those GPUs whose stream was used.
        seed: what the other GPUs' streams begin with; None for their default.
    """

    cpu: Position
    gpus: dict[str, Position]
    seed: int | None


def positions() -> Positions:
    """Where the streams are now."""
    gpus = {place: stream.position for place, stream in OfGpus.streams.items()}
    return Positions(default_generator.position, gpus, OfGpus.seed)


def take_back(to: Positions, places: Collection[str] | None = None) -> None:
    """Continue the streams from where they were.

    Args:
        places: the GPUs whose streams are meant; by default all.
    """
    default_generator.position = to.cpu
    for place, stream in OfGpus.streams.items():
        if places is None or place in places:
            stream.position = to.gpus.get(place) or OfGpus.beginning(place, to.seed).position


@contextmanager
def fork_rng(
    devices: Any = None, enabled: bool = True, _caller: str = "fork_rng", device_type: str = "cpu"
) -> Iterator[None]:
    """Give the default streams their states back at the end of a `with` block.

    Args:
        devices: the GPUs whose streams are meant besides the CPU's; by default all.
    """
    if not enabled:
        yield
        return
    places = None if devices is None else {place_of(device) for device in devices}
    before = positions()
    try:
        yield
    finally:
        take_back(before, places)
