"""`braze.device`: where a tensor's elements are, and where those of new tensors go.

A device is a name: that it exists is asked when something is put there (`place_of`), so that
programs can speak of GPUs where there are none.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from braze import engine

_TYPES = ("cpu", "cuda", "meta")


class device:
    """A device: its type and, where there can be several, its index.

    A device equals the string that names it.

    Args:
        type: a name such as ``"cpu"`` or ``"cuda:1"``, another device, or a GPU's number.
        index: which one of that type, if the name does not say.

    Raises:
        RuntimeError: no such type, or a name that cannot be read.

    Example:
        >>> device("cuda", 1)
        device(type='cuda', index=1)
        >>> device("cpu") == "cpu", str(device("cuda:1"))
        (True, 'cuda:1')
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index if index is None else index
        elif isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"device(): expected a str or int, given {type!r}")
        name, colon, number = type.partition(":")
        if name not in _TYPES:
            raise RuntimeError(
                f"Expected one of {', '.join(_TYPES)} device type at start of device string: {type}"
            )
        if colon:
            if not (number.isascii() and number.isdigit()) or str(int(number)) != number:
                raise RuntimeError(f"Invalid device string: '{type}'")
            if index is not None:
                raise RuntimeError(
                    f"type (string) must not include an index because index was passed explicitly: "
                    f"{type}"
                )
            index = int(number)
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"attribute {name!r} of 'braze.device' objects is not writable")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (device, str)):
            return str(self) == str(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> Any:
        return device, (str(self),)

    def __enter__(self) -> device:
        place_of(self)
        _LOCAL.entered = (*_LOCAL.entered, self)
        Used.defaults = True
        return self

    def __exit__(self, *error: object) -> None:
        _LOCAL.entered = _LOCAL.entered[:-1]


@lru_cache(maxsize=64)
def device_named(name: str) -> device:
    """The shared device object of a name."""
    return device(name)


class Used:
    """What a program uses of this, so that one which uses nothing is not slowed down.

    Attributes:
        defaults: whether anybody has set where new tensors are.
        devices: whether there may be tensors that are not on the CPU.
        default: what `set_default_device` was given.
    """

    defaults = False
    devices = False
    default: device | None = None


class _Local(threading.local):
    """A thread's choices.

    Attributes:
        entered: the devices of the `with` blocks around.
        gpu: the GPU that is used where none is named.
        drawing: the device for which random numbers are drawn, inside a function that is asked for
            them there.
    """

    entered: tuple[device, ...] = ()
    gpu: int = 0
    drawing: str | None = None


_LOCAL = _Local()


def place_of(wanted: Any) -> str:
    """Where a device is: "cpu" or "cuda:N"; None stands for where new tensors are.

    Raises:
        RuntimeError: there is no such device, or it cannot be used.
    """
    if wanted is None:
        if not Used.defaults:
            return "cpu"
        wanted = get_default_device()
    found = wanted if isinstance(wanted, device) else device(wanted)
    if found.type == "cpu":
        return "cpu"
    if found.type != "cuda":
        raise RuntimeError(f"device {str(found)!r} is not available; this machine has: {_have()}")
    try:
        index = _LOCAL.gpu if found.index is None else found.index
        place: str = engine.cuda().cuda_device(index).name
    except RuntimeError as error:
        raise type(error)(
            f"device {str(found)!r} is not available; this machine has: {_have()} ({error})"
        ) from None
    Used.devices = True
    return place


def has_gpus() -> bool:
    """Whether tensors can be on a GPU."""
    return bool(engine.cuda().device_count())


def _have() -> str:
    return ", ".join(["cpu", *[f"cuda:{i}" for i in range(engine.cuda().device_count())]])


def check_device(wanted: Any) -> None:
    """Raises: RuntimeError, if a device does not exist or cannot be used."""
    if wanted is not None and wanted != "cpu":
        place_of(wanted)


def current_gpu() -> int:
    """The number of the GPU that is used where none is named."""
    return _LOCAL.gpu


def set_current_gpu(index: int) -> None:
    """Choose it, for the calling thread."""
    _LOCAL.gpu = index


def drawing_on() -> str | None:
    """The device for which a function that makes random tensors was asked, if any was."""
    return _LOCAL.drawing


def set_drawing(place: str | None) -> str | None:
    """Set it; what it was before."""
    before, _LOCAL.drawing = _LOCAL.drawing, place
    return before


def get_default_device() -> device:
    """Where new tensors are."""
    if _LOCAL.entered:
        return _LOCAL.entered[-1]
    return Used.default or device_named("cpu")


def set_default_device(device: Any) -> None:
    """Set where new tensors are; None: on the CPU.

    Raises:
        RuntimeError: there is no such device, or it cannot be used.
    """
    if device is None:
        Used.default = None
        return
    place_of(device)
    Used.default = _device(device)
    Used.defaults = True


_device = device
