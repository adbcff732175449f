"""Emit what several gradient rules have in common once.

Each rule gives the gradient of one operand. Those of a recurrence all need what runs back through
time, those of attention the weights: compiled code would compute it once anyway, the interpreter
would not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Once:
    """A builder that gives the results of an equal earlier call back, by the operands' identity."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        # With the operands, so that no other object gets the identity of one.
        self._made: dict[Any, tuple[Any, Any]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        emit = getattr(self._builder, name)

        def call(*operands: Any, **attributes: Any) -> Any:
            key = (name, tuple(map(id, operands)), tuple(attributes.items()))
            if key not in self._made:
                self._made[key] = operands, emit(*operands, **attributes)
            return self._made[key][1]

        return call
