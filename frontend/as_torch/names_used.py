"""The names of PyTorch that a program's text uses, so that what is missing is known before it runs.

Read are imports of `torch` and of its modules, and attributes of what they bound. Not read are
methods of tensors, and names that a program binds anew.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from braze.as_torch.nearest import explain_missing, resolve


@dataclass(frozen=True)
class Missing:
    """A name that Braze does not have.

    Attributes:
        line: where the program uses it, from 1.
        name: as the program would write it in full: `torch.nn.Foo`.
        text: what to say of it.
    """

    line: int
    name: str
    text: str


def missing_names(source: str | bytes, filename: str = "<program>") -> list[Missing]:
    """The names of a program that Braze lacks, in order of lines, each once.

    Raises:
        SyntaxError: the text is no Python.
    """
    tree = ast.parse(source, filename)
    reader = _Reader()
    reader.visit(tree)
    found: dict[str, Missing] = {}
    for line, path in sorted(reader.uses):
        missing = _first_missing(path)
        if missing is not None:
            name, text = missing
            found.setdefault(name, Missing(line, name, text))
    return list(found.values())


def _first_missing(path: str) -> tuple[str, str] | None:
    """The shortest part of a dotted name that is not there."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        owner, name = ".".join(parts[:count]), parts[count]
        try:
            if resolve(f"{owner}.{name}") is None:
                return None  # as `torch.version.cuda` may be, which says nothing of what it has
        except AttributeError:
            return f"{owner}.{name}", explain_missing(owner, name)
    return None


class _Reader(ast.NodeVisitor):
    """Collects (line, dotted name) of what comes from `torch`."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}  # the program's name -> the dotted one
        self.uses: set[tuple[int, str]] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for item in node.names:
            if item.name == "torch" or item.name.startswith("torch."):
                self.bound[item.asname or "torch"] = item.name if item.asname else "torch"
                self.uses.add((node.lineno, item.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level or not (module == "torch" or module.startswith("torch.")):
            return
        self.uses.add((node.lineno, module))
        for item in node.names:
            if item.name != "*":
                self.bound[item.asname or item.name] = f"{module}.{item.name}"
                self.uses.add((node.lineno, f"{module}.{item.name}"))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names = list(_chain(node))
        if names and names[0] in self.bound:
            self.uses.add((node.lineno, ".".join([self.bound[names[0]], *names[1:]])))
        else:
            self.generic_visit(node)


def _chain(node: ast.expr) -> Iterator[str]:
    """The names of `a.b.c`, in order; none if it starts with something else than a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
        yield from reversed(parts)
