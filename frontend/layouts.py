"""`braze.layout` and `braze.memory_format`: names that programs pass along.

A tensor is `strided`, or `sparse_coo` (see `braze.sparse`). Every value is row-major in memory, and
the compiler chooses other orders inside a graph. A memory format is therefore accepted, and checked
against the number of dimensions, but changes nothing.
"""

from __future__ import annotations

from typing import Any


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"braze.{self._name}"

    def __reduce__(self) -> Any:
        return _named, (self._name,)


class layout(_Named):
    """How a tensor's elements lie in memory."""


class memory_format(_Named):
    """An order of the dimensions in memory."""


strided = layout("strided")
sparse_coo = layout("sparse_coo")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
legacy_contiguous_format = contiguous_format

NAMES: dict[str, Any] = {
    "layout": layout,
    "memory_format": memory_format,
    "strided": strided,
    "sparse_coo": sparse_coo,
    "contiguous_format": contiguous_format,
    "preserve_format": preserve_format,
    "channels_last": channels_last,
    "channels_last_3d": channels_last_3d,
    "legacy_contiguous_format": legacy_contiguous_format,
}
_RANKS = {channels_last: 4, channels_last_3d: 5}


def _named(name: str) -> Any:
    return NAMES[name]


def check_memory_format(wanted: Any, rank: int) -> None:
    """Whether a tensor of this rank can have a memory format.

    Raises:
        TypeError: it is no memory format. RuntimeError: it is for another rank.
    """
    if wanted is None:
        return
    if not isinstance(wanted, memory_format):
        raise TypeError(f"memory_format must be a braze.memory_format, given {wanted!r}")
    if _RANKS.get(wanted, rank) != rank:
        raise RuntimeError(f"required rank {_RANKS[wanted]} tensor to use {wanted!r} format")
