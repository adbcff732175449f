"""`map_location`: where a file's storages go.

In: what the user gave, and what the file says ("cpu", "cuda:0").  Out: the storage, or an error
that says what to give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.devices import device, has_gpus, place_of

MapLocation = Callable[[Any, str], Any] | device | str | dict[str, str] | None


def restorer(map_location: MapLocation) -> Callable[[Any, str], Any]:
    """A function of a storage and its location in the file, which puts it where it belongs.

    Raises:
        TypeError: it is none of the forms. RuntimeError: it names no device of this machine.
    """
    if map_location is None:
        return _restored
    if isinstance(map_location, dict):
        wanted = map_location
        return lambda storage, location: _restored(storage, str(wanted.get(location, location)))
    if isinstance(map_location, (str, device)):
        place = place_of(map_location)
        return lambda storage, location: storage.to_place(place)
    if not callable(map_location):
        raise TypeError(
            "map_location must be a device, a string, a dict or a function of a storage and its "
            f"location, given {type(map_location).__name__}"
        )
    function = map_location

    def moved(storage: Any, location: str) -> Any:
        result = function(storage, location)
        return _restored(storage, location) if result is None else result

    return moved


def _restored(storage: Any, location: str) -> Any:
    kind = location.partition(":")[0]
    if kind == "cpu":
        return storage.to_place("cpu")
    if kind == "cuda":
        if has_gpus():
            return storage.to_place(place_of(location))
        raise RuntimeError(
            "Attempting to deserialize object on a CUDA device but none is available. If you are "
            "running on a CPU-only machine, please use load with map_location='cpu' to map your "
            "storages to the CPU."
        )
    raise RuntimeError(
        f"don't know how to restore data location of a storage (tagged with {location}); use "
        "map_location='cpu'"
    )
