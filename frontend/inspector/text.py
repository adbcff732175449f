"""What the page shows, as text for a terminal: links between the strata, the memory plan, and what
each pass changed.

In: a graph's data (`describe`) and its passes (`changes`).  Out: text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from braze.inspector.describe import Data

_CONTEXT = 2  # equal lines around those that differ
_BAR = 32


def title(graph: Data) -> str:
    """A graph's name and target, and of a package's code whether it is what is shown."""
    own = graph.get("package")
    verdict = "" if own is None else f"\n{own['verdict']}"
    return f"graph {graph['name']} for {graph['target']}{verdict}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


# Links --------------------------------------------------------------------------------------------


def links(graph: Data) -> str:
    """From each of the user's lines to its operations and their kernels, and from each kernel back
    to operations, primitives, neighbours and the function of its machine code."""
    out = [f"links of {title(graph)}", ""]
    texts = {
        (file["path"], number): text.strip()
        for file in graph["files"]
        for number, text in file["lines"]
    }
    lines: dict[tuple[str, int], list[int]] = {}
    for number, operation in enumerate(graph["operations"]):
        lines.setdefault((operation["file"], operation["line"]), []).append(number)
    for (file, line), operations in sorted(lines.items()):
        where = f"{os.path.basename(file)}:{line}" if file else "(no line)"
        out.append(f"{where}  {texts.get((file, line), '')}".rstrip())
        out += (_operation(graph, graph["operations"][number]) for number in operations)
    for kernel in graph["kernels"]:
        out += ["", *_kernel(graph, kernel)]
    return "\n".join(out)


def _operation(graph: Data, operation: Data) -> str:
    scope = operation["scope"].partition(" (")[0]
    kernels = [graph["kernels"][number]["name"] for number in operation["kernels"]]
    to = ", ".join(kernels) if kernels else f"nothing left after {operation['gone']}"
    layer = f"  in {scope}" if scope else ""
    return f"    {operation['text']}{layer}\n        -> {to}"


def _kernel(graph: Data, kernel: Data) -> Iterator[str]:
    seconds = "" if not kernel["seconds"] else f", {kernel['seconds'] * 1e6:.1f} us"
    yield f"kernel {kernel['name']}: {kernel['kind']}, wave {kernel['wave']}{seconds}"
    kernels, operations = graph["kernels"], graph["operations"]
    for number in kernel["operations"]:
        operation = operations[number]
        where = f"{os.path.basename(operation['file'])}:{operation['line']}"
        yield f"    computes  {operation['op']}" + (f"  # {where}" if operation["file"] else "")
    for number in kernel["primitives"]:
        yield f"    primitive {graph['primitives'][number]['text']}"
    own = kernels.index(kernel)
    for label, found in (
        ("reads", kernel["reads"]),
        ("read by", [i for i, other in enumerate(kernels) if own in other["reads"]]),
    ):
        if found:
            yield f"    {label:<9} {', '.join(kernels[number]['name'] for number in found)}"
    shared = sum(other["function"] == kernel["function"] for other in kernels)
    also = f", one for {shared} kernels" if shared > 1 else ""
    yield f"    function  {kernel['function']} ({', '.join(graph['languages'])}{also})"


# The memory plan ----------------------------------------------------------------------------------


def memory(graph: Data) -> str:
    """Each value in the arena, and what is alive in each wave of kernels; of a package's code its
    weights as they are stored."""
    facts = graph["summary"]
    out = [
        f"memory plan of {title(graph)}",
        f"{_counted(len(graph['memory']), 'value')} in an arena of {facts['arena']} bytes; at "
        f"least {facts['arena_least']} are alive at one time, {facts['arena_without_plan']} "
        "without a plan",
    ]
    kernels = graph["kernels"]
    if graph["memory"]:
        out += ["", f"{'offset':>12} {'bytes':>12} {'waves':>9}  value, made by -> read by"]
    for block in sorted(graph["memory"], key=lambda block: (block["first"], block["offset"])):
        waves = f"{block['first']}-{block['last']}"
        readers = ", ".join(kernels[number]["name"] for number in block["readers"]) or "nobody"
        maker = kernels[block["maker"]]["name"]
        out.append(
            f"{block['offset']:>12} {block['bytes']:>12} {waves:>9}  %{block['name']}, "
            f"{maker} -> {readers}"
        )
    if graph["memory"]:
        out += ["", *_waves(graph)]
    if "package" in graph:
        out += ["", *_weights(graph["package"]["weights"])]
    return "\n".join(out)


def _waves(graph: Data) -> Iterator[str]:
    """What is alive, wave by wave."""
    alive = [
        sum(b["bytes"] for b in graph["memory"] if b["first"] <= wave <= b["last"])
        for wave in range(graph["waves"])
    ]
    most = max(alive)
    yield f"{'wave':>6} {'alive':>12}"
    for wave, nbytes in enumerate(alive):
        names = [k["name"] for k in graph["kernels"] if k["wave"] == wave]
        bar = "#" * round(_BAR * nbytes / most)
        yield f"{wave:>6} {nbytes:>12}  {bar:<{_BAR}}  {', '.join(names)}"


def _weights(weights: Sequence[Data]) -> Iterator[str]:
    total = sum(weight["bytes"] for weight in weights)
    yield f"{_counted(len(weights), 'weight')} of {total} bytes, as they are stored"
    for weight in weights:
        shape = ",".join(map(str, weight["shape"]))
        packed = ", in the order in which a kernel reads it" if weight["packed"] else ""
        yield f"{weight['bytes']:>12}  {weight['name']}: {weight['dtype']}[{shape}]{packed}"


# Passes -------------------------------------------------------------------------------------------


def passes(graph: Data, stages: Sequence[Data]) -> str:
    """What each pass took away (-) and added (+), with some lines around."""
    out = [f"what the passes changed of {title(graph)}"]
    before: Data | None = None
    for stage in stages:
        if before is not None:
            changed = stage["added"] or stage["removed"]
            sizes = f"+{stage['added']} -{stage['removed']}" if changed else "no change"
            level = " of loops" if stage["level"] == "loops" else ""
            out.append(f"== {stage['name']}{level}: {sizes}, {stage['seconds'] * 1e3:.2f} ms")
            if changed:
                out += _difference(stage.get("before", before), stage)
        before = stage
    return "\n".join(out)


def _difference(before: Data, after: Data) -> Iterable[str]:
    spans = after["spans"]
    for at, (tag, i1, i2, j1, j2) in enumerate(spans):
        old, new = before["lines"][i1:i2], after["lines"][j1:j2]
        if tag != "equal":
            yield from (f"- {line}" for line in old)
            yield from (f"+ {line}" for line in new)
            continue
        head = _CONTEXT if at else 0
        tail = _CONTEXT if at + 1 < len(spans) else 0
        if len(new) <= head + tail + 1:
            yield from (f"  {line}" for line in new)
            continue
        yield from (f"  {line}" for line in new[:head])
        yield f"  ... {len(new) - head - tail} equal lines"
        yield from (f"  {line}" for line in new[len(new) - tail :])
