"""Faults to be found: passes, plans and code generators that do something else than they should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import braze.codegen.llvm.program as generator
from braze import passes
from braze.ir.builder import Rewriter
from braze.ir.graph import Graph
from braze.ir.loops import Apply, Loop, Reduce, Store
from braze.ir.loops_parser import parse_kernel
from braze.ir.op import op_named
from braze.runtime.storage import Storage


def other_text(old: str, new: str, seen: list[str] | None = None) -> Callable[[Any], Any]:
    """A function that gives a kernel in which the first of some text is another one, and notes the
    names of the kernels that it has changed."""

    def change(kernel: Any) -> Any:
        text = str(kernel)
        if old not in text:
            return kernel
        if seen is not None:
            seen.append(kernel.name)
        return parse_kernel(text.replace(old, new, 1))

    return change


def wrong_code(monkeypatch: Any, change: Callable[[Any], Any]) -> None:
    """Generate code for other loops than those that are there."""
    right = generator.emit_nest
    monkeypatch.setattr(
        generator, "emit_nest", lambda kernel, *rest: right(change(kernel), *rest)
    )


def wrong_operation(monkeypatch: Any, old: str, new: str) -> None:
    """Generate code with another operation in the place of one, also in code for many sizes."""
    right = generator.emit_nest

    def emit(kernel: Any, *rest: Any) -> Any:
        found = [x for x in _expressions(kernel.body) if isinstance(x, Apply) and x.op.name == old]
        for expr in found:
            expr.op = op_named(new)
        try:
            return right(kernel, *rest)
        finally:
            for expr in found:
                expr.op = op_named(old)

    monkeypatch.setattr(generator, "emit_nest", emit)


def _expressions(statements: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for statement in statements:
        if isinstance(statement, Loop):
            found += _expressions(statement.body)
        elif isinstance(statement, Store):
            found += statement.value.walk()
        elif isinstance(statement, Reduce):
            found += [x for a in statement.accumulators for x in a.value.walk()]
    return found


def wrong_pass(monkeypatch: Any, name: str, change: Callable[[Graph], Graph]) -> None:
    """Let a pass of the pipeline spoil what it has made."""
    pipeline = tuple(
        replace(entry, function=lambda g, c, right=entry.function: change(right(g, c)))
        if entry.name == name
        else entry
        for entry in passes.PIPELINE
    )
    assert pipeline != passes.PIPELINE
    monkeypatch.setattr(passes, "PIPELINE", pipeline)


def swapped(old: str, new: str, nth: int = 0) -> Callable[[Graph], Graph]:
    """A graph with another operation in the place of the nth of some name; bodies are entered."""
    def change(graph: Graph) -> Graph:
        return _swapped(graph, old, op_named(new), [nth])

    return change


def _swapped(graph: Graph, old: str, new: Any, left: list[int]) -> Graph:
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        copy = rewriter.keep(node)
        if node.body is not None:
            copy.body = _swapped(node.body, old, new, left)
        if node.op.name == old:
            if left[0] == 0:
                copy.op = new
            left[0] -= 1
    return rewriter.done()


def memory_for(graph: Graph, arrays: Sequence[Any]) -> tuple[list[Any], list[Storage]]:
    """What an executable takes: inputs on copies of some arrays, and outputs."""
    inputs: list[Any] = [
        item if role == "scalar" else Storage.from_numpy(np.array(item))
        for item, role in zip(arrays, graph.roles, strict=True)
    ]
    outputs = []
    for position, value in enumerate(graph.outputs):
        source = graph.aliases.get(position)
        outputs.append(Storage(value.type.nbytes) if source is None else inputs[source])
    return inputs, outputs
