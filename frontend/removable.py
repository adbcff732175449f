"""Handles that take hooks off again, as `braze.utils.hooks.RemovableHandle`."""

from __future__ import annotations

import itertools
from typing import Any

HookTable = dict[int, Any]

_numbers = itertools.count()


class RemovableHandle:
    """Takes a hook off again, with `remove()` or at the end of a `with` block.

    Making one enters the hook in its table, under a number of its own.

    Args:
        table: the hooks in the order in which they are called.
        first: call this one before the others.
    """

    def __init__(self, table: HookTable, hook: Any, first: bool = False) -> None:
        self.id = next(_numbers)
        self._table = table
        if first:
            others = dict(table)
            table.clear()
            table[self.id] = hook
            table.update(others)
        else:
            table[self.id] = hook

    def remove(self) -> None:
        """Take the hook off; a second call does nothing."""
        self._table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
