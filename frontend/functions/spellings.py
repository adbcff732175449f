"""NumPy's spellings of keywords, as in PyTorch: `axis` and `keepdims` for `dim` and `keepdim`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from braze.functions.keywords import with_keywords

SPELLINGS = {"axis": "dim", "keepdims": "keepdim"}


def _parameters(function: Any) -> frozenset[str]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return frozenset()
    return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def with_spellings(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with NumPy's spellings of those of its keywords that have one.

    Raises (when called):
        TypeError: a keyword is given in both spellings.
    """
    taken = _parameters(function)
    known = {theirs: ours for theirs, ours in SPELLINGS.items() if ours in taken - SPELLINGS.keys()}
    if not known or not taken.isdisjoint(known):
        return function

    def spelled(*args: Any, **kwargs: Any) -> Any:
        for theirs, ours in known.items():
            if theirs in kwargs:
                if ours in kwargs:
                    raise TypeError(
                        f"{function.__name__}() got both {ours!r} and its other spelling {theirs!r}"
                    )
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return with_keywords(function, frozenset(known), spelled)
