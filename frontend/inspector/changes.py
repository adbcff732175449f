"""What each pass changed: the graph's text before and after, aligned.

In: the graphs after each pass, with where each node comes from.  Out: for each pass the lines and
which of them differ.

What counts as the same line, whatever the numbers of its values: `braze.ir.aligned_text`.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from braze.ir.aligned_text import AlignedText


def changes(insides: Any) -> list[dict[str, Any]]:
    """For each graph stage its name, time, lines, the captured operation of each line (-1: none),
    and, but for the first, the spans in which it differs from the one before: [tag, from, to,
    from, to] as `difflib` gives them."""
    found: list[dict[str, Any]] = []
    before: list[object] = []
    for stage in insides.graphs:
        text = AlignedText(stage.graph, insides.origins)
        spans: list[Any] = []
        if found:
            matcher = SequenceMatcher(None, before, text.keys, autojunk=False)
            spans = [list(code) for code in matcher.get_opcodes()]
        gone = sum(s[2] - s[1] for s in spans if s[0] != "equal")
        new = sum(s[4] - s[3] for s in spans if s[0] != "equal")
        found.append(
            {
                "name": stage.name,
                "seconds": stage.seconds,
                "lines": text.lines,
                "origins": text.origins,
                "spans": spans,
                "removed": gone,
                "added": new,
            }
        )
        before = text.keys
    return found
