"""`braze.Size`: the shape of a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


class Size(tuple[int, ...]):
    """A tensor's shape: a tuple that stays a `Size` when it is cut, joined or repeated.

    Raises:
        TypeError: an item is not an integer.

    Example:
        >>> Size([2, 3]) + (4,), Size([2, 3, 4])[1:]
        (braze.Size([2, 3, 4]), braze.Size([3, 4]))
    """

    __slots__ = ()

    def __new__(cls, sizes: Iterable[Any] = ()) -> Size:
        items = []
        for position, item in enumerate(sizes):
            if not hasattr(item, "__index__"):
                raise TypeError(
                    f"braze.Size() takes an iterable of 'int' (item {position} is "
                    f"'{type(item).__name__}')"
                )
            items.append(item.__index__())
        return tuple.__new__(cls, items)

    def numel(self) -> int:
        """The product of the sizes."""
        return math.prod(self)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        joined = tuple.__add__(self, other)
        return tuple.__new__(Size, joined) if isinstance(other, Size) else Size(joined)

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return Size(tuple.__add__(other, self))

    def __mul__(self, times: Any) -> Any:
        return tuple.__new__(Size, tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return tuple.__new__(Size, found) if isinstance(key, slice) else found

    def __reduce__(self) -> Any:
        return Size, (tuple(self),)

    def __repr__(self) -> str:
        return f"braze.Size({list(self)})"
