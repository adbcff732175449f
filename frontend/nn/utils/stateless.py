"""Call a module with other tensors in place of its parameters: `functional_call`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from braze.tensors import Tensor

if TYPE_CHECKING:
    from braze.nn.modules.module import Module


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers.

    Args:
        parameter_and_buffer_dicts: dotted names and what to use there, as in `state_dict`; or
            several such, with no name twice. What is not named stays.
        args: a tuple of arguments, or the only one.
        tie_weights: a parameter that the module has under several names is replaced under all.
        strict: every parameter and buffer must be named.

    Raises:
        RuntimeError: a name that the module does not have, or (if `strict`) one is missing.
        ValueError: a name is given twice, or different tensors for a tied parameter.
    """
    given = _merged(parameter_and_buffer_dicts)
    places = _places(module)
    unknown = [name for name in given if name not in places]
    missing = [name for name in places if name not in given] if strict else []
    if tie_weights:
        given = _tied(given, places)
        missing = [name for name in missing if name not in given]
    if unknown or missing:
        problems = [f"Unexpected key(s): {', '.join(unknown)}."] if unknown else []
        problems += [f"Missing key(s): {', '.join(missing)}."] if missing else []
        raise RuntimeError(
            f"Error(s) in reparametrizing for {type(module).__name__}: {' '.join(problems)}"
        )
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with replaced([(*places[name], tensor) for name, tensor in given.items()]):
        return module(*arguments, **(kwargs or {}))


Place = tuple[dict[str, Any], str]


def _merged(given: Any) -> dict[str, Tensor]:
    if isinstance(given, dict):
        return dict(given)
    merged: dict[str, Tensor] = {}
    for part in given:
        for name, tensor in part.items():
            if name in merged:
                raise ValueError(
                    f"{name} appears in multiple dictionaries; the behavior is ambiguous"
                )
            merged[name] = tensor
    return merged


def _places(module: Module) -> dict[str, Place]:
    """Dotted name of each parameter and buffer -> the table it is in, and its name there."""
    return {
        f"{prefix}.{name}" if prefix else name: (table, name)
        for prefix, child in module.named_modules()
        for table in (child._parameters, child._buffers)
        for name, tensor in table.items()
        if tensor is not None
    }


def _tied(given: dict[str, Tensor], places: dict[str, Place]) -> dict[str, Tensor]:
    """The same tensor under the other names of what it replaces."""
    names: dict[int, list[str]] = {}
    for name, (table, key) in places.items():
        names.setdefault(id(table[key]), []).append(name)
    found = dict(given)
    for group in names.values():
        tensors = {id(given[name]): given[name] for name in group if name in given}
        if len(tensors) > 1:
            raise ValueError(f"different tensors were given for the tied {', '.join(group)}")
        for tensor in tensors.values():
            found.update(dict.fromkeys(group, tensor))
    return found


class _Now(threading.local):
    """What a thread's modules have in place of parameters and buffers."""

    entries: tuple[tuple[dict[str, Any], str, Tensor], ...] = ()


_NOW = _Now()


def replaced_now() -> tuple[tuple[dict[str, Any], str, Tensor], ...]:
    """What the calling thread has replaced at the moment, for `replaced` to do it again later."""
    return _NOW.entries


@contextmanager
def replaced(entries: Sequence[tuple[dict[str, Any], str, Tensor]]) -> Iterator[None]:
    """A block in which modules have other tensors in place of parameters and buffers.

    Args:
        entries: a module's table of parameters or buffers, a name in it, and the tensor.
    """
    before, outer = [(table, name, table[name]) for table, name, _ in entries], _NOW.entries
    try:
        for table, name, tensor in entries:
            table[name] = tensor
        _NOW.entries = (*outer, *entries)
        yield
    finally:
        _NOW.entries = outer
        for table, name, tensor in reversed(before):
            table[name] = tensor
