"""Requests that this process works on itself, a little each time that it is asked for them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


class Stepwise:
    """What `Progress` takes for a request of MPI's.

    Args:
        steps: each is a piece of work, True, or a look in vain for others', False.

    Attributes:
        is_moving: whether the last look got on with it.
    """

    def __init__(self, steps: Generator[bool]) -> None:
        self._steps = steps
        self.is_moving = False

    def Test(self, status: Any = None) -> bool:
        """Get on with it a little. Whether it is complete."""
        step = next(self._steps, None)
        self.is_moving = bool(step)
        return step is None
