"""The names that are compared, by section, read from the files `names*.txt`."""

from __future__ import annotations

import functools
from pathlib import Path

import braze

LEFT_OUT = "Left out"


@functools.cache
def sections() -> dict[str, tuple[str, ...]]:
    """The names of each section, without those left out."""
    return {title: tuple(names) for title, names in _read().items() if title != LEFT_OUT}


@functools.cache
def left_out() -> dict[str, str]:
    """Names that are not compared, and the reason."""
    return dict(line.split(": ", 1) for line in _read()[LEFT_OUT])


def all_names() -> list[str]:
    return [name for names in sections().values() for name in names]


def is_dotted(name: str) -> bool:
    """Whether a line is a name (`torch.add`), not what a program writes (`x + y`)."""
    return name.replace(".", "").isidentifier() and name.startswith(("torch.", "Tensor."))


def is_present(name: str) -> bool:
    """Whether Braze has the name; what a program writes (`x + y`) is judged by its case alone."""
    if not is_dotted(name):
        return True
    first, *rest = name.split(".")
    found = braze if first == "torch" else braze.Tensor
    for part in rest:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def _read() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for file in sorted(Path(__file__).parent.glob("names*.txt")):
        for line in file.read_text().splitlines():
            if line.startswith("["):
                names = found.setdefault(line.strip("[]"), [])
            elif line and not line.startswith("#"):
                names.append(line)
    return found
