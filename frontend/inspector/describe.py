"""A compiled graph as plain data: what the page, the JSON file and the other exports are made of.

In: what the runtime kept of a compile, and measured times.  Out: dictionaries of JSON values, in
which strata refer to each other by position: source lines, operations as they were captured,
primitives, kernels with their loops, and the code of their functions.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence
from typing import Any

from braze.ir.graph import Graph, Node, Value
from braze.ir.printer import GraphText, print_location
from braze.ir.target import Target

Data = dict[str, Any]
MOST_LINES = 4000  # of a file that are shown as a whole; else those around what was called
AROUND = 3


def describe(insides: Any, times: Sequence[Any], limits: Any | None) -> Data:
    """The data of one graph.

    Args:
        insides: a `braze.runtime.insides.Insides`.
        times: of each kernel (`braze.runtime.timing.KernelTime`), or none.
        limits: the machine's (`braze.runtime.limits.Limits`), if times are to be compared with it.
    """
    kernels = [_kernel(kernel, limits) for kernel in insides.kernels]
    _add_times(kernels, times)
    primitives = _primitives(insides, kernels)
    operations = _operations(insides, kernels)
    graph: Graph = insides.captured
    return {
        "name": graph.name,
        "target": _target(insides.target),
        "languages": list(insides.kernels[0].code) if insides.kernels else [],
        "inputs": [
            {"name": value.name or f"input{i}", "type": str(value.type), "role": role}
            for i, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True))
        ],
        "files": _files(operations),
        "operations": operations,
        "primitives": primitives,
        "kernels": kernels,
        "waves": len(insides.program.waves),
        "memory": _memory(insides, kernels),
        "chunks": _chunks(kernels, times),
        "refusals": list(insides.figures.refusals),
        "summary": _summary(insides, kernels, limits),
    }


def code_of(insides: Any) -> dict[str, dict[str, str]]:
    """The code of each function in its languages ("llvm" and "assembly"; "cuda" and "launches"), by
    its symbol."""
    return {kernel.function: dict(kernel.code) for kernel in insides.kernels}


def _target(target: Target) -> str:
    if target.is_gpu:
        return f"{target.name}, CUDA"
    return f"{target.cpu}, {target.vector_bits}-bit vectors"


def _summary(insides: Any, kernels: list[Data], limits: Any | None) -> Data:
    figures = insides.figures
    timed = [kernel["seconds"] for kernel in kernels if kernel["seconds"] is not None]
    return {
        "operations": len(insides.captured.nodes),
        "primitives": figures.kernels_before,
        "kernels": len(kernels),
        "waves": len(insides.program.waves),
        "functions": len({kernel["function"] for kernel in kernels}),
        "arena": int(insides.program.arena_bytes),
        "arena_least": figures.lower_bound,
        "arena_without_plan": figures.bytes_before,
        "flops": sum(kernel["flops"] for kernel in kernels),
        "bytes": sum(kernel["read"] + kernel["written"] for kernel in kernels),
        "seconds": sum(timed) if timed else None,
        "compile_seconds": insides.seconds,
        "limits": None
        if limits is None
        else {"threads": limits.threads, "flops": limits.flops, "bytes": limits.bytes},
    }


# The strata ---------------------------------------------------------------------------------------


def _operations(insides: Any, kernels: list[Data]) -> list[Data]:
    """The captured operations, each with the kernels that compute it, or the pass that removed
    it."""
    graph: Graph = insides.captured
    text = GraphText(graph)
    position = {node: i for i, node in enumerate(graph.nodes)}
    of: dict[int, list[int]] = {}
    for number, kernel in enumerate(kernels):
        for origin in kernel["operations"]:
            of.setdefault(origin, []).append(number)
    gone = _last_seen(insides)
    found: list[Data] = []
    for i, node in enumerate(graph.nodes):
        file, line, scope = "", 0, ""
        if node.location is not None:
            file, line, scope = node.location.file, node.location.line, node.location.scope
        found.append(
            {
                "op": node.op.name,
                "text": plain_line(text, node),
                "type": ", ".join(str(r.type) for r in node.results),
                "file": file,
                "line": line,
                "scope": scope,
                "group": -1,
                "reads": _made_by(node, position),
                "kernels": of.get(i, []),
                "gone": "" if i in of else gone.get(i, ""),
            }
        )
    _group(found)
    return found


def _made_by(node: Node, position: dict[Node, int]) -> list[int]:
    makers = (x.node for x in node.operands)
    return sorted({position[maker] for maker in makers if maker is not None and maker in position})


def _last_seen(insides: Any) -> dict[int, str]:
    """For each captured node the first pass after which nothing came from it any more."""
    gone: dict[int, str] = {}
    before: set[int] = set(range(len(insides.captured.nodes)))
    for stage in insides.graphs:
        here = {origin for origins in stage.origins.values() for origin in origins}
        for lost in before - here:
            gone.setdefault(lost, stage.name)
        before &= here
    return gone


def _group(operations: list[Data]) -> None:
    """Number neighbours that belong to one layer; the picture folds them. A layer that has layers
    takes in what these compute. What has no layer, such as a backward pass, goes by its line."""
    scopes = {operation["scope"].partition(" (")[0] for operation in operations}
    outer = {scope.rpartition(".")[0] for scope in scopes}
    number, latest = -1, None
    for operation in operations:
        label = operation["scope"].partition(" (")[0]
        if label not in outer:
            label = label.rpartition(".")[0] or label
        if not label:
            label = f"{os.path.basename(operation['file'])}:{operation['line']}"
        if label != latest:
            number, latest = number + 1, label
        operation["group"] = number
        operation["label"] = label


def _kernel(kernel: Any, limits: Any | None) -> Data:
    return {
        "name": kernel.name,
        "kind": str(kernel.node.attributes["kind"]),
        "wave": kernel.wave,
        "operations": kernel.origins,
        "primitives": [],
        "reads": [],
        "buffers": [
            {
                "name": buffer.name,
                "dtype": buffer.dtype.name,
                "bytes": int(buffer.numel) * buffer.dtype.itemsize,
                "access": buffer.access,
            }
            for buffer in kernel.kernel.buffers
        ],
        "loops": kernel.text,
        "function": kernel.function,
        "read": int(kernel.cost.bytes_read),
        "written": int(kernel.cost.bytes_written),
        "flops": int(kernel.cost.flops),
        "seconds": None,
        "busy": None,
        "chunks": 0,
        "least": None if limits is None else kernel.cost.seconds(limits.flops, limits.bytes),
    }


def _add_times(kernels: list[Data], times: Sequence[Any]) -> None:
    """The measured times."""
    by_name = {time.kernel.name: time for time in times}
    for kernel in kernels:
        time = by_name.get(kernel["name"])
        if time is not None:
            kernel["seconds"] = time.seconds
            kernel["busy"] = time.busy
            kernel["chunks"] = len(time.chunks)


def _primitives(insides: Any, kernels: list[Data]) -> list[Data]:
    """What each kernel computes, operation by operation; also notes who reads whom."""
    found: list[Data] = []
    made: dict[Value, int] = {}  # the fused graph's values -> primitives
    kernel_of: dict[Value, int] = {}
    for number, inside in enumerate(insides.kernels):
        node: Node = inside.node
        body = node.body
        assert body is not None
        inner: dict[Value, int] = {}
        reads: set[int] = set()
        for outer, value in zip(node.operands, body.inputs, strict=True):
            if outer in made:
                inner[value] = made[outer]
            if outer in kernel_of:
                reads.add(kernel_of[outer])
        text = GraphText(body)
        origins = insides.origins(body.nodes)
        for part in body.nodes:
            position = len(found)
            found.append(
                {
                    "op": part.op.name,
                    "text": plain_line(text, part),
                    "type": ", ".join(str(r.type) for r in part.results),
                    "operation": origins[part],
                    "kernel": number,
                    "reads": sorted({inner[x] for x in part.operands if x in inner}),
                }
            )
            kernels[number]["primitives"].append(position)
            for result in part.results:
                inner[result] = position
        for outer, value in zip(node.results, body.outputs, strict=True):
            kernel_of[outer] = number
            if value in inner:
                made[outer] = inner[value]
        kernels[number]["reads"] = sorted(reads)
    return found


def plain_line(text: GraphText, node: Node) -> str:
    """A node's line in a graph's text, without the user's line."""
    line = text.lines[text.spans[node, "op", 0].line].strip()
    if node.location is not None and node.body is None:
        line = line.removesuffix(f"  # {print_location(node.location)}")
    return line


# Source, memory, time -----------------------------------------------------------------------------


def _files(operations: list[Data]) -> list[Data]:
    """The user's files, with the lines that are worth showing."""
    called: dict[str, set[int]] = {}
    for operation in operations:
        if operation["file"]:
            called.setdefault(operation["file"], set()).add(operation["line"])
    found = []
    for file, lines in called.items():
        linecache.checkcache(file)
        texts = [line.rstrip("\n") for line in linecache.getlines(file)]
        shown = range(1, len(texts) + 1)
        kept = set(shown)
        if len(texts) > MOST_LINES or not texts:
            kept = {n for line in lines for n in range(line - AROUND, line + AROUND + 1)}
        rows = [[n, texts[n - 1] if 0 < n <= len(texts) else ""] for n in sorted(kept) if n > 0]
        found.append({"path": file, "name": os.path.basename(file), "lines": rows})
    return found


def _memory(insides: Any, kernels: list[Data]) -> list[Data]:
    number = {kernel["name"]: i for i, kernel in enumerate(kernels)}
    return [
        {
            "name": block.name,
            "offset": block.offset,
            "bytes": block.bytes,
            "first": block.first,
            "last": block.last,
            "maker": number[block.maker],
            "readers": [number[reader] for reader in block.readers],
        }
        for block in insides.blocks
    ]


def _chunks(kernels: list[Data], times: Sequence[Any]) -> list[list[float]]:
    """[kernel, start, end, thread] of everything that ran, in microseconds from the first."""
    number = {kernel["name"]: i for i, kernel in enumerate(kernels)}
    chunks = [(number[t.kernel.name], *chunk) for t in times for chunk in t.chunks]
    first = min((start for _, start, _, _ in chunks), default=0.0)
    return [
        [kernel, round((start - first) * 1e6, 3), round((end - first) * 1e6, 3), thread]
        for kernel, start, end, thread in chunks
    ]
