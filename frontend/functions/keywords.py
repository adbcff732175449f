"""Functions that are called another way with keywords that few calls have (`out`, `axis`, ...).

What such keywords mean is laid around a function in layers, of which a call without them should
not pay for any: however many there are, it goes through one Python frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

Function = Callable[..., Any]


class Choice(NamedTuple):
    """What a function does: `other` if called with one of the keywords, else `plain`."""

    function: Function
    plain: Function
    keywords: frozenset[str]
    other: Function


def choice(function: Function) -> Choice:
    """How a function is called with and without rare keywords."""
    found: Choice | None = getattr(function, "_choice", None)
    if found is None or found.function is not function:  # `functools.wraps` copies the attribute
        return Choice(function, function, frozenset(), function)
    return found


def with_keywords(function: Function, keywords: frozenset[str], other: Function) -> Function:
    """A function that is `other` where it is called with one of the keywords.

    Args:
        function: may be such a function itself; then `other` gets its keywords too, and is to call
            the function with them.
    """
    _, plain, known, _ = choice(function)
    keywords |= known

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not keywords.isdisjoint(kwargs):
            return other(*args, **kwargs)
        return plain(*args, **kwargs)

    called._choice = Choice(called, plain, keywords, other)  # type: ignore[attr-defined]
    return called
