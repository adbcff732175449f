"""A report's data in other forms: Graphviz's DOT, Chrome's trace events, text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from braze.inspector.describe import Data

_COLOURS = {
    "contract": "#dbe7f6", "reduce": "#e3efdc", "row": "#e3efdc", "columns": "#e3efdc",
    "pointwise": "#f4ecd8", "copy": "#eeeeee",
}  # fmt: skip
_OTHER = "#efe4f2"


def dot(title: str, graphs: Sequence[Data]) -> str:
    """A directed graph of the kernels: a cluster for each graph, its inputs left out."""
    lines = [
        f"digraph {json.dumps(title)} {{",
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10];',
    ]
    for number, graph in enumerate(graphs):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={json.dumps(graph['name'])};")
        for position, kernel in enumerate(graph["kernels"]):
            colour = _COLOURS.get(kernel["kind"], _OTHER)
            label = json.dumps("\n".join(_labels(graph, kernel)))
            lines.append(f'    g{number}_k{position} [label={label}, fillcolor="{colour}"];')
        for position, kernel in enumerate(graph["kernels"]):
            for source in kernel["reads"]:
                lines.append(f"    g{number}_k{source} -> g{number}_k{position};")
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _labels(graph: Data, kernel: Data) -> Iterable[str]:
    yield kernel["name"]
    shown = _lines(graph, kernel)[:3]
    if shown:
        yield ", ".join(shown)
    if kernel["seconds"] is not None:
        yield f"{kernel['seconds'] * 1e6:.1f} us"


def _lines(graph: Data, kernel: Data) -> list[str]:
    """The user's lines that a kernel computes."""
    places = (_place(graph["operations"][i]) for i in kernel["operations"])
    return list(dict.fromkeys(place for place in places if place))


def _place(operation: Data) -> str:
    if not operation["file"]:
        return ""
    return f"{os.path.basename(operation['file'])}:{operation['line']}"


def chrome_trace(graphs: Sequence[tuple[Data, list[Data]]]) -> Data:
    """Events in microseconds: a process for each graph, with a track for each thread of its kernels
    and one for the passes of its compile."""
    events: list[Data] = []
    for number, (graph, passes) in enumerate(graphs):
        threads = sorted({chunk[3] for chunk in graph["chunks"]})
        events.append(_name("process_name", number, 0, f"graph {graph['name']}"))
        events += [_name("thread_name", number, t, f"thread {t}") for t in threads]
        compiler = (threads[-1] if threads else -1) + 1
        events.append(_name("thread_name", number, compiler, "passes of the compiler"))
        for kernel, start, end, thread in graph["chunks"]:
            facts = graph["kernels"][kernel]
            known = {
                "kind": facts["kind"],
                "wave": facts["wave"],
                "flops": facts["flops"],
                "bytes": facts["read"] + facts["written"],
                "lines": ", ".join(_lines(graph, facts)),
            }
            events.append(_event(facts["name"], "kernel", number, thread, start, end, known))
        at = 0.0
        for stage in passes:
            end = at + stage["seconds"] * 1e6
            known = {"removed": stage["removed"], "added": stage["added"]}
            events.append(_event(stage["name"], "pass", number, compiler, at, end, known))
            at = end
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _name(what: str, process: int, thread: int, name: str) -> Data:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _event(
    name: str, kind: str, process: int, thread: int, start: float, end: float, args: Any
) -> Data:
    return {
        "name": name, "cat": kind, "ph": "X", "pid": process, "tid": thread, "ts": start,
        "dur": end - start, "args": args,
    }  # fmt: skip


def summary(graph: Data, rows: int) -> str:
    """One graph in some lines: its figures, and its hottest kernels with their distance from what
    the machine can do."""
    facts = graph["summary"]
    runs = graph.get("runs")
    often = "" if not runs else f", run {runs['count']} times in {runs['seconds'] * 1e3:.1f} ms"
    text = [
        f"graph {graph['name']}: {facts['operations']} operations, {facts['primitives']} "
        f"primitives, {facts['kernels']} kernels in {facts['waves']} waves, arena "
        f"{facts['arena'] / 2**20:.1f} MiB{often}"
    ]
    if "package" in graph:
        text.append(graph["package"]["verdict"])
    timed = [kernel for kernel in graph["kernels"] if kernel["seconds"]]
    if not timed:
        return "\n".join(text)
    total = sum(kernel["seconds"] for kernel in timed)
    text[0] += f"; kernels {total * 1e3:.3f} ms"
    text.append(
        f"{'time us':>10} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7} {'of limit':>8}  kernel, lines"
    )
    timed.sort(key=lambda kernel: -kernel["seconds"])
    for kernel in timed[:rows]:
        seconds = kernel["seconds"]
        text.append(
            f"{seconds * 1e6:10.1f} {seconds / total:6.1%} {kernel['flops'] / seconds / 1e9:8.1f} "
            f"{(kernel['read'] + kernel['written']) / seconds / 1e9:7.1f} "
            f"{kernel['least'] / seconds:8.0%}  {kernel['name']}  "
            f"{', '.join(_lines(graph, kernel)[:3])}"
        )
    if len(timed) > rows:
        text.append(f"({len(timed) - rows} more kernels)")
    return "\n".join(text)
