"""Handles that take hooks off again, as `braze.utils.hooks.RemovableHandle`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

HookTable = dict[int, Any]

_numbers = itertools.count()


class RemovableHandle:
    """Takes a hook off again, with `remove()` or at the end of a `with` block.

    Making one enters the hook in its table, under a number of its own.

    Args:
        table: the hooks in the order in which they are called.
        first: call this one before the others.
        marks: tables in which its number stands, as long as it is in its own.
    """

    def __init__(
        self, table: HookTable, hook: Any, first: bool = False, marks: Sequence[HookTable] = ()
    ) -> None:
        self.id = next(_numbers)
        while self.id in table:  # hooks that came with a pickle have numbers already
            self.id = next(_numbers)
        self._table = table
        self._marks = tuple(marks)
        for mark in self._marks:
            mark[self.id] = True
        if first:
            others = dict(table)
            table.clear()
            table[self.id] = hook
            table.update(others)
        else:
            table[self.id] = hook

    def remove(self) -> None:
        """Take the hook off; a second call does nothing."""
        for table in (self._table, *self._marks):
            table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
