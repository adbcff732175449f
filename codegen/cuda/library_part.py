"""A piece of the library of device functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of CUDA C, the parts that they call, and the headers that they include."""

    text: str
    needs: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def part(text: str, *needs: str, headers: tuple[str, ...] = ()) -> Part:
    return Part(text.strip("\n"), needs, headers)
