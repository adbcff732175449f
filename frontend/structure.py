"""Nested results: take the tensors out of tuples, lists and dicts, and put others back in their
places."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from braze.tensors import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nested structure, in order (dicts by insertion)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def rebuild(value: Any, replace: Callable[[Tensor], Any]) -> Any:
    """The same structure with each tensor replaced."""
    if isinstance(value, Tensor):
        return replace(value)
    if isinstance(value, dict):
        result = copy.copy(value)  # with what else it has, as a defaultdict's factory
        for key, item in value.items():
            result[key] = rebuild(item, replace)
        return result
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(rebuild(item, replace) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(rebuild(item, replace) for item in value)
    return value


def describe(value: Any) -> str:
    """The structure as JSON: a tensor is its number, a container ``{"tuple": [...]}`` and the like.

    Raises:
        TypeError: something in it is neither a tensor, a container nor None.
    """
    numbers = count()

    def visit(item: Any) -> Any:
        if isinstance(item, Tensor):
            return next(numbers)
        if isinstance(item, dict):
            return {"dict": [[str(key), visit(part)] for key, part in item.items()]}
        if isinstance(item, (tuple, list)):
            kind = "list" if isinstance(item, list) else "tuple"
            return {kind: [visit(part) for part in item]}
        if item is None:
            return None
        raise TypeError(
            "a compiled function must return tensors in tuples, lists or dicts, given "
            f"{type(item).__name__}"
        )

    return json.dumps(visit(value))
