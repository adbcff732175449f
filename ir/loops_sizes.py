"""Whether a kernel, or a part of one, is another one for other sizes.

In: a piece of the loop IR of a program for many sizes.  Out: whether it holds a function of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from braze.ir.symint import SymInt


def depends_on_sizes(part: object) -> bool:
    """Whether there is a `SymInt` anywhere in a piece of the loop IR."""
    waiting, seen = [part], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, SymInt):
            return True
        if id(item) in seen or isinstance(item, (str, int, float, type(None))):
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple, set, frozenset)):
            waiting += item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        else:
            waiting += _held(item)
    return False


def _held(item: object) -> Iterator[object]:
    """What the attributes of an object are."""
    kind: Any = type(item)
    for name in _slots(kind):
        yield getattr(item, name, None)
    yield from getattr(item, "__dict__", {}).values()


@cache
def _slots(kind: type) -> tuple[str, ...]:
    names = (getattr(each, "__slots__", ()) for each in kind.__mro__)
    return tuple(name for own in names for name in own if not name.startswith("__"))
