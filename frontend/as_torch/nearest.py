"""What to use in place of a name that does not exist: the same name elsewhere, or a similar one."""

from __future__ import annotations

import difflib
import functools
import importlib
from types import ModuleType
from typing import Any

# Where programs find names, the most likely first.
_PLACES = (
    *("torch", "torch.nn", "torch.nn.functional", "torch.Tensor", "torch.optim"),
    *("torch.optim.lr_scheduler", "torch.utils.data", "torch.nn.init", "torch.nn.utils"),
    *("torch.autograd", "torch.linalg", "torch.special", "torch.fft", "torch.sparse"),
    *("torch.random", "torch.cuda", "torch.multiprocessing", "torch.distributions"),
    *("torch.utils.checkpoint", "torch.nn.utils.rnn", "torch.func", "torch.testing"),
)
_CLOSE = 0.7  # of difflib's ratio


def explain_missing(owner: str, name: str) -> str:
    """The message for a name that Braze does not have.

    Args:
        owner: what was asked for it, as the program calls it: "torch.nn".
    """
    found = nearest(owner, name)
    hint = f"; the nearest is {found}" if found else ""
    return f"Braze has no {owner}.{name}{hint}"


def nearest(owner: str, name: str) -> str | None:
    """The nearest thing that exists: the name elsewhere, a similar one there, or one elsewhere."""
    places = _names()
    for place, names in places.items():
        if name in names and place != owner:
            return f"{place}.{name}"
    for place in (owner, *places):
        names = places.get(place) or _public(place)
        close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
        if close:
            return f"{place}.{close[0]}"
    return None


@functools.cache
def _names() -> dict[str, frozenset[str]]:
    found = {place: _public(place) for place in _PLACES}
    return {place: names for place, names in found.items() if names}


@functools.cache
def _public(place: str) -> frozenset[str]:
    try:
        owner = resolve(place)
    except AttributeError:
        return frozenset()
    return frozenset(name for name in dir(owner) if not name.startswith("_"))


def resolve(path: str) -> Any:
    """What a dotted name of PyTorch is in Braze: a module, or what stands in one.

    Raises:
        AttributeError: it is not there.
    """
    first, *rest = path.split(".")
    if first != "torch":
        raise AttributeError(path)
    found: Any = importlib.import_module("braze")
    for i, part in enumerate(rest):
        try:
            found = getattr(found, part)
        except AttributeError:
            from braze.as_torch.alias import _module

            module = _module(".".join([first, *rest[: i + 1]]))
            if module is None or not isinstance(found, ModuleType):
                raise
            found = module
    return found
