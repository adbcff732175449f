"""`braze.device`: where a tensor's elements are. This build knows one place, the CPU."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

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
        check_device(self)
        return self

    def __exit__(self, *error: object) -> None:
        pass


@lru_cache(maxsize=64)
def device_named(name: str) -> device:
    """The shared device object of a name."""
    return device(name)


def check_device(wanted: Any) -> None:
    """The devices of this build: the CPU.

    Raises:
        RuntimeError: any other device.
    """
    if wanted is None or wanted == "cpu":
        return
    if device(wanted).type != "cpu":
        raise RuntimeError(f"device {str(wanted)!r} is not available; this machine has: cpu")


def get_default_device() -> device:
    """Where new tensors are."""
    return device_named("cpu")


def set_default_device(device: Any) -> None:
    """Set where new tensors are.

    Raises:
        RuntimeError: any device but the CPU.
    """
    check_device(device)
