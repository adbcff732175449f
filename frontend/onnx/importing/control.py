"""ONNX's control flow: branches, loops and scans over graphs.

Loops run in Python, so a traced model has as many copies of the body as there are turns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.capture import tracer
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("If", since=1, raw=True)
def if_(node: Any, condition: Any) -> tuple[Any, ...]:
    branches = node.get("then_branch"), node.get("else_branch")
    if tracer().whole and isinstance(condition, Tensor) and node.runner.known(condition) is None:
        return _both(node, condition, *branches)
    chosen = branches[0] if node.read(condition, "the condition").any() else branches[1]
    return tuple(node.run_graph(chosen, []))


def _both(node: Any, condition: Tensor, then: Any, other: Any) -> tuple[Any, ...]:
    """Compute both branches and choose from their results, where the graph is being compiled and
    the condition depends on the inputs."""
    chosen = []
    pairs = zip(node.run_graph(then, []), node.run_graph(other, []), strict=True)
    for position, (x, y) in enumerate(pairs):
        x, y = node.tensor(x), node.tensor(y)
        if not isinstance(x, Tensor) or x.shape != y.shape or x.dtype is not y.dtype:
            raise ValueError(
                f"the condition of an If depends on the inputs, and its result {position} is of "
                f"another type in either branch ({_text(x)} and {_text(y)}), so it cannot be "
                "compiled; give inputs that never change to load(), as fixed={name: value}"
            )
        chosen.append(braze.where(condition.reshape(()), x, y))
    return tuple(chosen)


def _text(x: Any) -> str:
    return str(x._handle.type) if isinstance(x, Tensor) else type(x).__name__


@imports("Loop", since=1, raw=True)
def loop(node: Any, most: Any, condition: Any, *carried: Any) -> tuple[Any, ...]:
    body = node.get("body")
    limit = None if most is None else int(node.read(most, "the number of turns").reshape(()))
    going = condition is None or bool(node.read(condition, "the condition of a Loop").any())
    values = list(carried)
    scanned: list[list[Any]] = [[] for _ in range(len(body.output) - 1 - len(values))]
    turn = 0
    while going and (limit is None or turn < limit):
        results = node.run_graph(
            body, [np.array(turn, np.int64), np.array(going), *values][: len(body.input)]
        )
        going = bool(node.read(results[0], "the condition of a Loop").any())
        values = results[1 : 1 + len(values)]
        for rows, row in zip(scanned, results[1 + len(values) :], strict=True):
            rows.append(row)
        turn += 1
    infos = body.output[1 + len(values) :]
    return (
        *values,
        *(_stacked(node, rows, 0, info) for rows, info in zip(scanned, infos, strict=True)),
    )


@imports("Scan", since=9, raw=True)
def scan(node: Any, *operands: Any) -> tuple[Any, ...]:
    body, count = node.get("body"), node.get("num_scan_inputs")
    values = list(operands[: len(operands) - count])
    rows = [node.tensor(x) for x in operands[len(operands) - count :]]
    axes = node.get("scan_input_axes") or [0] * count
    axes = [a % x.dim() for a, x in zip(axes, rows, strict=True)]
    back = node.get("scan_input_directions") or [0] * count
    turns = rows[0].shape[axes[0]]
    outs = len(body.output) - len(values)
    scanned: list[list[Any]] = [[] for _ in range(outs)]
    for turn in range(turns):
        own = [
            x.select(axis, turns - 1 - turn if reverse else turn)
            for x, axis, reverse in zip(rows, axes, back, strict=True)
        ]
        results = node.run_graph(body, [*values, *own])
        values = results[: len(values)]
        for made, row in zip(scanned, results[len(values) :], strict=True):
            made.append(row)
    out_axes = node.get("scan_output_axes") or [0] * outs
    out_back = node.get("scan_output_directions") or [0] * outs
    infos = body.output[len(values) :]
    return (
        *values,
        *(
            _stacked(node, made[::-1] if reverse else made, axis, info)
            for made, axis, reverse, info in zip(scanned, out_axes, out_back, infos, strict=True)
        ),
    )


def _stacked(node: Any, rows: list[Any], axis: int, info: Any) -> Any:
    if not rows:  # no turn at all
        from braze.onnx.protos import port

        own = port(info)
        shape = [d if isinstance(d, int) else 0 for d in own.shape or ()]
        assert own.dtype is not None
        return np.zeros([0, *shape], own.dtype.numpy)
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.stack(rows, axis)
    return braze.stack([node.tensor(row) for row in rows], axis)
