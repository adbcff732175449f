"""What a bisection found, in words.

In: a `Bisection`.  Out: text: the first stage that is wrong, the numbers, what it changed on the
way to them, and the user's lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from braze.ir.aligned_text import AlignedText
from braze.ir.graph import Graph, Node
from braze.ir.rounding import Difference
from braze.runtime.bisecting import NARROW_TOLERANCE, WIDE_TOLERANCE, Bisection, Culprit
from braze.runtime.executable import place

_CONTEXT = 2  # lines around what changed
_MOST_LINES = 80  # of a difference
_MOST_PLACES = 6


def describe(found: Bisection) -> str:
    """The bisection as text."""
    if found.culprit is None:
        return f"nothing changed a result: {_seen(found)}"
    culprit = found.culprit
    return "\n".join(
        [_headline(culprit, found), *_numbers(culprit), *_places(culprit, found), *_change(found)]
    )


def _seen(found: Bisection) -> str:
    passes = len(found.stages) - sum(s in ("loops", *_LAST) for s in found.stages)
    precision = f"in double precision, to {WIDE_TOLERANCE:g}"
    if not found.in_double:
        precision = f"to {NARROW_TOLERANCE:g}, as this graph has no form in double precision"
    text = (
        f"{passes} passes ({precision}), the loops of {found.loops} kernels and the compiled "
        f"code agree, in {found.seconds:.1f} s"
    )
    if found.unread:
        text += (
            f"\n{len(found.unread)} kernels have too many points for the loops' interpreter, and "
            f"only their code was compared: {', '.join('@' + name for name in found.unread)}"
        )
    return text


_LAST = ("plan_memory", "compiled code")


def _headline(culprit: Culprit, found: Bisection) -> str:
    before = f"{len(found.stages)} stages before it are right" if found.stages else "the first one"
    what = {
        "pass": f"pass {culprit.stage!r} changed a result",
        "loops": f"{culprit.stage!r} changed what kernel @{culprit.kernel} computes",
        "plan": "the memory plan is at fault",
        "code": f"{culprit.stage} of kernel @{culprit.kernel} is wrong",
    }[culprit.kind]
    return f"{what} ({before})"


def _numbers(culprit: Culprit) -> Iterator[str]:
    if culprit.what and culprit.kind != "code":
        yield f"  {culprit.what}"
    differs = culprit.difference
    if culprit.result:
        yield f"  {culprit.result}" + ("" if differs is None else f": {_numbers_of(differs)}")


def _numbers_of(differs: Difference) -> str:
    first = ", ".join(map(str, differs.index))
    worst = ", ".join(map(str, differs.worst))
    return (
        f"{differs.count} elements differ\n"
        f"  first [{first}]: expected {differs.expected!s}, found {differs.found!s}, where "
        f"{differs.allowed:.3g} apart is allowed\n"
        f"  worst [{worst}]: {differs.largest:.3g} apart"
    )


def _places(culprit: Culprit, found: Bisection) -> Iterator[str]:
    """The user's lines."""
    if culprit.error is not None:
        yield "  " + str(culprit.error).replace("\n", "\n  ")
        return
    nodes: Sequence[Node] = []
    if isinstance(culprit.before, Graph) and isinstance(culprit.after, Graph):
        nodes = _to_blame(culprit.before, culprit.after, found, culprit.result)
    elif culprit.kernel:
        nodes = [found.graph.nodes[at] for at in found.kernels[culprit.kernel]]
    places = list(dict.fromkeys(place(node.location).strip() for node in nodes))
    for line in [line for line in places if line][:_MOST_PLACES]:
        yield f"  {line}".replace("\n  in ", " in ")
    if len(places) > _MOST_PLACES:
        yield f"  and {len(places) - _MOST_PLACES} lines more"


def _to_blame(before: Graph, after: Graph, found: Bisection, result: str) -> list[Node]:
    """Nodes that are new after a pass and that the wrong result is computed from."""
    number = result.removeprefix("result ").split(":")[0]
    waiting = after.outputs if not number.isdigit() else [after.outputs[int(number)]]
    needed: set[Node] = set()
    nodes = [value.node for value in waiting if value.node is not None]
    while nodes:
        node = nodes.pop()
        if node in needed:
            continue
        needed.add(node)
        nodes += [x.node for x in node.operands if x.node is not None]
        if node.body is not None:
            needed.update(node.body.nodes)
    one, other = AlignedText(before, found.origins), AlignedText(after, found.origins)
    blamed = []
    matcher = difflib.SequenceMatcher(None, one.keys, other.keys, autojunk=False)
    for tag, _, _, first, last in matcher.get_opcodes():
        if tag != "equal":
            blamed += [n for n in other.nodes[first:last] if n is not None and n in needed]
    return blamed


def _change(found: Bisection) -> Iterator[str]:
    """What the stage made of what it was given."""
    culprit = found.culprit
    assert culprit is not None
    lines: list[str] = []
    if isinstance(culprit.before, Graph) and isinstance(culprit.after, Graph):
        lines = _graph_difference(culprit.before, culprit.after, found)
    elif culprit.kind == "loops" and culprit.stage != "lower":
        one, other = str(culprit.before).splitlines(), str(culprit.after).splitlines()
        lines = list(difflib.unified_diff(one, other, "before", "after", "", "", 99, ""))
    else:
        lines = [*str(culprit.before).splitlines(), "=>", *str(culprit.after).splitlines()]
        if not culprit.before:
            lines = lines[1:]
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"... {len(lines) - _MOST_LINES} lines more"


def _graph_difference(before: Graph, after: Graph, found: Bisection) -> list[str]:
    """Lines that went and that came, with some around them."""
    one, other = AlignedText(before, found.origins), AlignedText(after, found.origins)
    matcher = difflib.SequenceMatcher(None, one.keys, other.keys, autojunk=False)
    lines = ["--- before", "+++ after"]
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        lines.append("@@")
        for tag, a, b, c, d in group:
            if tag == "equal":
                lines += [f" {line}" for line in other.lines[c:d]]
                continue
            lines += [f"-{line}" for line in one.lines[a:b]]
            lines += [f"+{line}" for line in other.lines[c:d]]
    return lines
