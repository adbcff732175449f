"""The memory that a trace's results go to.

In: a plan and the handles of its live values.  Out: a storage for each, on its device.
"""

from __future__ import annotations

from typing import Any

from braze import engine
from braze.handle import Handle
from braze.sites import location_of
from braze.trie import Plan


def memory_for(plan: Plan, live: list[Handle]) -> list[Any]:
    """The memory that a plan's results go to: fresh, or that of what they overwrite."""
    if plan.is_placed:
        return [
            engine.cuda().new_storage(handle.type.device, size, Contents(handle))
            if handle.home is None
            else handle.home.storage
            for handle, (size, _) in zip(live, plan.sizes, strict=True)
        ]
    for handle in live:
        if handle.home is not None:
            break
    else:
        return engine.Storage.several(plan.sizes)
    return [
        engine.Storage(size) if handle.home is None else handle.home.storage
        for handle, (size, _) in zip(live, plan.sizes, strict=True)
    ]


class Contents:
    """What memory of a GPU holds, told when there is too little of it."""

    __slots__ = ("site", "type")

    def __init__(self, handle: Handle) -> None:
        self.type = handle.type
        self.site = handle.site

    def __str__(self) -> str:
        return f"{self.type} of {location_of(self.site)}" if self.site else str(self.type)
