"""Lower a recurrence: its step becomes a program of its own, which runs once for each step.

Needs: a fusion body with one recurrence, whose operands are inputs of the body but for reshapes
between, which change nothing in row-major memory.

The step goes through the whole pipeline. Its program is named after what it computes, so that equal
steps of several layers, or for other numbers of steps, are the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from braze.ir.arena import aligned
from braze.ir.dtypes import DType, u8
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Value, types_of
from braze.ir.loops import Buffer, Program
from braze.ir.loops_recurrence import STEP, Recurrence, StepArray
from braze.ir.steps import Part, StepGraph, step_graph
from braze.ir.target import Target
from braze.passes.lower_host import buffer_under


@dataclass(slots=True)
class Extra:
    """Arena memory beyond what was planned, which one recurrence after the other uses.

    Attributes:
        start: its offset.
        end: where the most of it ends.
        offsets: of the buffers there.
    """

    start: int
    end: int
    offsets: dict[str, int] = field(default_factory=dict)


def lower_recurrence(
    name: str, body: Graph, buffers: Mapping[Value, Buffer], target: Target, extra: Extra
) -> Recurrence | None:
    """The kernel of a fusion body; None if it has no points.

    Args:
        extra: takes up what the steps need for themselves.
    """
    (node,) = (n for n in body.nodes if n.op.is_recurrence)
    if any(value.type.numel == 0 for value in node.results):
        return None
    wanted = [value.index for value in node.results if value in buffers]
    step = step_graph(node.op, types_of(node.operands), node.attributes, wanted)
    program = _program(step.graph, target)
    lowering = _Lowering(name, step, extra)
    operands = [buffer_under(value, buffers) for value in node.operands]
    results = {
        number: lowering.result(node.results[number], buffers.get(node.results[number]))
        for number, _ in step.results
    }
    read = {part.place for part in step.parts if part.kind == "previous"}
    results = {n: replace(b, access="inout") if n in read else b for n, b in results.items()}
    arrays = [lowering.input(part, operands, results) for part in step.parts]
    pieces = {number: piece + 1 for number, piece in step.results}
    for number, piece in step.results:
        array = lowering.now(results[number])
        share = results[number].numel // step.count // pieces[number]
        arrays.append(replace(array, offset=array.offset + piece * share))
    arena = lowering.private("arena", u8, program.arena_bytes) if program.arena_bytes else None
    used = [a.buffer for a in arrays] + [a.edge[1] for a in arrays if a.edge]
    used += [arena] if arena is not None else []
    used = list({buffer.name: buffer for buffer in used}.values())
    return Recurrence(name, tuple(used), step.count, tuple(arrays), program, arena)


def _program(step: Graph, target: Target) -> Program:
    """The program of a step, whose kernels have names that no other step's have."""
    from braze.passes import compile_graph  # which lowers recurrences

    step.name = f"{STEP}{fingerprint(step)[:20]}"
    program, _ = compile_graph(step, target)
    for kernel in program.kernels():
        kernel.name = f"{step.name}_{kernel.name}"
    return program


class _Lowering:
    def __init__(self, name: str, step: StepGraph, extra: Extra) -> None:
        self.name = name
        self.count = step.count
        self.runs_back = step.runs_back
        self.extra = extra
        self.place = extra.start

    def private(self, label: str, dtype: DType, numel: int) -> Buffer:
        """A buffer that only this recurrence uses."""
        buffer = Buffer(f"{self.name}_{label}", dtype, numel, "inout")
        self.extra.offsets[buffer.name] = self.place
        self.place = aligned(self.place + numel * buffer.dtype.itemsize)
        self.extra.end = max(self.extra.end, self.place)
        return buffer

    def result(self, value: Value, buffer: Buffer | None) -> Buffer:
        """Where a result is stored, also one that only the next step needs."""
        if buffer is not None:
            return buffer
        label = value.node.op.results[value.index] if value.node else ""
        return self.private(label, value.dtype, value.type.numel)

    def now(self, stacked: Buffer) -> StepArray:
        """A stacked value at each step of the run."""
        size = stacked.numel // self.count
        if self.runs_back:
            return StepArray(stacked, (self.count - 1) * size, -size)
        return StepArray(stacked, 0, size)

    def input(self, part: Part, operands: list[Buffer], results: Mapping[int, Buffer]) -> StepArray:
        if part.kind == "whole":
            return StepArray(operands[part.place])
        if part.kind == "now":
            return self.now(operands[part.place])
        first = part.kind == "previous"
        array = self.now(results[part.place] if first else operands[part.place])
        offset = array.offset + (-array.stride if first else array.stride)
        edge = 0 if first else self.count - 1, operands[part.start]
        return StepArray(array.buffer, offset, array.stride, edge)
