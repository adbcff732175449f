"""C text, line by line.

In: lines and blocks.  Out: indented text, and names that are not used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

INDENT = "  "
# Expressions longer than this get a name of their own.
LONG = 88


_CONSTANT = re.compile(r"\s*const [\w ]+ (\w+) = [^;]*;$")


class Writer:
    """Lines of a function's body, indented by the blocks around them."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self.depth = depth
        self._count: dict[str, int] = {}

    def line(self, text: str = "") -> None:
        self.lines.append(f"{INDENT * self.depth}{text}" if text else "")

    def all(self, lines: Iterable[str]) -> None:
        for text in lines:
            self.line(text)

    @contextmanager
    def block(self, head: str = "") -> Iterator[None]:
        """A block behind ``head {``."""
        self.line(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    @contextmanager
    def unrolled(
        self, variable: str, count: int | str, at_once: int | None = None
    ) -> Iterator[None]:
        """A loop that is written out by the compiler, or so many turns of it at once."""
        self.line("#pragma unroll" if at_once is None else f"#pragma unroll {at_once}")
        with self.block(f"for (int {variable} = 0; {variable} < {count}; ++{variable})"):
            yield

    @contextmanager
    def constant(self, type: str, name: str, value: str) -> Iterator[None]:
        """A constant for the lines in the `with` block, left out if none of them uses it."""
        place = len(self.lines)
        self.line(f"const {type} {name} = {value};")
        yield
        used = re.compile(rf"\b{name}\b")
        if not any(used.search(line) for line in self.lines[place + 1 :]):
            del self.lines[place]

    def fresh(self, stem: str) -> str:
        """A name that nothing else in this function has: ``stem0``, ``stem1``, ..."""
        number = self._count.get(stem, 0)
        self._count[stem] = number + 1
        return f"{stem}{number}"

    def text(self) -> str:
        """All lines, without constants that no other line uses."""
        kept = list(self.lines)
        for place in range(len(kept) - 1, -1, -1):
            found = _CONSTANT.match(kept[place])
            if found is not None:
                used = re.compile(rf"\b{found[1]}\b")
                if not any(used.search(line) for n, line in enumerate(kept) if n != place):
                    del kept[place]
        return "\n".join(kept)


def bare(text: str) -> str:
    """The expression without parentheses around all of it."""
    while text.startswith("(") and closing(text) == len(text) - 1:
        text = text[1:-1]
    return text


def closing(text: str, start: int = 0) -> int:
    """Where the parenthesis at `start` is closed."""
    depth = 0
    for place, letter in enumerate(text[start:], start):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    return -1


def identifier(name: str) -> str:
    """A name in which only letters, digits and underscores are left."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return kept if kept and not kept[0].isdigit() else f"k{kept}"
