"""What each pass changed: the text of the graph, or of loops, before and after, aligned.

In: the graphs after each pass, with where each node comes from, and the loops after each pass over
them.  Out: for each pass the lines and which of them differ.

What counts as the same line of a graph, whatever the numbers of its values: `ir.aligned_text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any

from braze.ir.aligned_text import AlignedText

Change = dict[str, Any]
Span = list[Any]


def changes(insides: Any) -> list[Change]:
    """For each stage its name, its level ("graph" or "loops"), time, lines, the captured operation
    of each line (-1: none), and, but for the first, the spans in which it differs from the one
    before: [tag, from, to, from, to] as `difflib` gives them.

    A pass over loops has only those kernels that it changed; `before` has the same ones as they
    were before it: name, lines and operations."""
    found: list[Change] = []
    before: list[object] = []
    text: AlignedText | None = None
    for stage in insides.graphs:
        text = AlignedText(stage.graph, insides.origins)
        spans: list[Span] = []
        if found:
            spans = _spans(before, text.keys)
        found.append(_change(stage, "graph", text.lines, text.origins, spans))
        before = text.keys
    return found if text is None else [*found, *_of_loops(insides, text)]


def _change(
    stage: Any, level: str, lines: Sequence[str], origins: Sequence[int], spans: list[Span]
) -> Change:
    return {
        "name": stage.name,
        "level": level,
        "seconds": stage.seconds,
        "lines": lines,
        "origins": origins,
        "spans": spans,
        "removed": sum(s[2] - s[1] for s in spans if s[0] != "equal"),
        "added": sum(s[4] - s[3] for s in spans if s[0] != "equal"),
    }


def _spans(before: Sequence[Any], after: Sequence[Any], i: int = 0, j: int = 0) -> list[Span]:
    """Of two texts that begin at these lines of longer ones."""
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [[tag, i + a, i + b, j + c, j + d] for tag, a, b, c, d in matcher.get_opcodes()]


def _of_loops(insides: Any, scheduled: AlignedText) -> Iterable[Change]:
    """The making of the loops, each kernel's beside its fusion node, and the passes over them."""
    if not insides.loops:
        return
    first, *others = insides.loops
    origin_of = {kernel.name: _first(kernel.origins) for kernel in insides.kernels}
    lines, origins, spans = _lowered(insides, first.kernels, scheduled, origin_of)
    yield _change(first, "loops", lines, origins, spans)
    texts: dict[str, list[str]] = {}
    for name, text in first.kernels.items():
        texts[name] = text.splitlines()
    for stage in others:
        sides: tuple[list[str], list[str]] = [], []
        places: tuple[list[int], list[int]] = [], []
        spans = []
        for name, text in stage.kernels.items():
            own = text.splitlines()
            pair = texts.get(name, []), own
            texts[name] = own
            if pair[0] == own:
                continue
            spans += _spans(*pair, len(sides[0]), len(sides[1]))
            for side, place, one in zip(sides, places, pair, strict=True):
                side += one
                place += [origin_of.get(name, -1)] * len(one)
        made = _change(stage, "loops", sides[1], places[1], spans)
        made["before"] = {"name": "loops", "lines": sides[0], "origins": places[0]}
        yield made


def _lowered(
    insides: Any, kernels: dict[str, str], scheduled: AlignedText, origin_of: dict[str, int]
) -> tuple[list[str], list[int], list[Span]]:
    """The kernels' loops in the order of their fusion nodes, with the spans of these."""
    lines: list[str] = []
    origins: list[int] = []
    spans: list[Span] = []
    starts = [(at, node) for at, node in enumerate(scheduled.nodes) if node is not None]
    names = dict(insides.fusions)
    outer = [(at, names[node]) for at, node in starts if node in names]
    at = 0
    for number, (start, name) in enumerate(outer):
        end = outer[number + 1][0] if number + 1 < len(outer) else len(scheduled.lines) - 2
        if start > at:
            spans.append(["delete", at, start, len(lines), len(lines)])
        own = kernels[name].splitlines() if name in kernels else []
        tag = "replace" if own else "delete"
        spans.append([tag, start, end, len(lines), len(lines) + len(own)])
        lines += own
        origins += [origin_of.get(name, -1)] * len(own)
        at = end
    if at < len(scheduled.lines):
        spans.append(["delete", at, len(scheduled.lines), len(lines), len(lines)])
    return lines, origins, spans


def _first(origins: Sequence[int]) -> int:
    return origins[0] if origins else -1
