"""A kernel with what it was given: what checks, bisection and reproducers have in common.

In: a graph's loops and the scheduled graph that they were lowered from.  Out: for each kernel the
body of its fusion node, the buffers of its operands and results, and what these should hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.ir.graph import Graph, Node
from braze.ir.interpreter import interpret
from braze.ir.loops import Contraction, Kernel, Placement, Program
from braze.ir.loops_interpreter import run_kernel
from braze.ir.loops_points import points_of
from braze.ir.rounding import Bounded, Difference, difference, interpret_bounded
from braze.runtime.cpu import host_target

Array = np.ndarray[Any, np.dtype[Any]]

# The loops' interpreter is asked where it takes a few seconds at most.
MOST_POINTS = 400_000


@dataclass(frozen=True, slots=True)
class KernelCase:
    """A kernel and its meaning.

    Attributes:
        wave: number of the parallel region that runs it.
        kernel: its loops.
        node: the fusion node that it was lowered from.
        operands: the buffer of each of the node's operands.
        results: the buffer of each of the node's results. (Of two results that are one value, only
            the first one's is written.)
        overwritten: result's buffer -> operand's buffer that lies at the same place.
        mixed: its code may compute results several at a time (see `interpret_bounded`).
    """

    wave: int
    kernel: Kernel
    node: Node
    operands: tuple[str, ...]
    results: tuple[str, ...]
    overwritten: Mapping[str, str]
    mixed: bool = False

    @property
    def name(self) -> str:
        """The kernel's, unique in its graph."""
        return self.kernel.name

    @property
    def is_collective(self) -> bool:
        """Whether it talks to other processes."""
        return any(node.op.is_collective for node in self.body.nodes)

    @property
    def body(self) -> Graph:
        """What it computes, in primitives."""
        assert self.node.body is not None
        return self.node.body

    @property
    def written(self) -> set[str]:
        """The buffers that it writes."""
        return {buffer.name for buffer in self.kernel.buffers if buffer.access != "in"}

    def expected(self, values: Mapping[str, Array]) -> dict[str, Bounded]:
        """What the results' buffers should hold, by the graph's interpreter.

        Args:
            values: an array for each operand's buffer.

        Raises:
            IndexError and what else an operation raises.
        """
        arrays = [
            np.asarray(values[name]).reshape(operand.shape)
            for name, operand in zip(self.operands, self.node.operands, strict=True)
        ]
        found = interpret_bounded(self.body, arrays, mixed=self.mixed)
        written = self.written
        return {
            name: bounded
            for name, bounded in reversed([*zip(self.results, found, strict=True)])
            if name in written
        }

    def loops(self, values: Mapping[str, Array]) -> dict[str, Array] | None:
        """What the loops' interpreter makes of the results; None if that would take too long.

        Raises:
            MemoryFault: the loops touch memory that they must not touch.
        """
        if points_of(self.kernel) > MOST_POINTS:
            return None
        return self.run_loops(self.kernel, values)

    def run_loops(self, kernel: Kernel, values: Mapping[str, Array]) -> dict[str, Array]:
        """The same, of some loops for this kernel, however long it takes."""
        buffers = self.buffers(values, kernel)
        run_kernel(kernel, buffers)
        types = dict(zip(self.results, self.node.results, strict=True))
        written = {b.name for b in kernel.buffers if b.access != "in"}
        return {
            name: buffers[name].reshape(types[name].shape) for name in written if name in types
        }

    def buffers(self, values: Mapping[str, Array], kernel: Kernel) -> dict[str, Array]:
        """Memory for the loops: copies of the operands; results hold what they overwrite."""
        found: dict[str, Array] = {}
        for buffer in kernel.buffers:
            source = buffer.name if buffer.name in values else self.overwritten.get(buffer.name)
            array = np.zeros(buffer.numel, buffer.dtype.numpy)
            if source is not None and source in values and values[source].nbytes == array.nbytes:
                held = np.array(values[source], order="C").reshape(-1)
                array = held.view(buffer.dtype.numpy)
            found[buffer.name] = array
        return found

    def differing(
        self, found: Mapping[str, Array], expected: Mapping[str, Bounded]
    ) -> tuple[str, Difference] | None:
        """The first result that is not what is expected, by its buffer."""
        for name in self.results:
            if name in expected and name in found:
                differs = difference(found[name], expected[name])
                if differs is not None:
                    return name, differs
        return None


def kernel_cases(program: Program, scheduled: Graph) -> list[KernelCase]:
    """The kernels of a program, in the order in which they run.

    Args:
        scheduled: the graph of fusion nodes that the program was lowered from.
    """
    from braze.passes.lower import buffer_names
    from braze.runtime.provenance import kernels_of

    names = dict(buffer_names(scheduled))
    nodes = dict(kernels_of(scheduled))
    found = []
    for wave, kernels in enumerate(program.waves):
        for kernel in kernels:
            node = nodes[kernel.name]
            operands = tuple(names[x] for x in node.operands)
            results = tuple(names[x] for x in node.results)
            overwritten = {
                result: operand
                for result in results
                for operand in operands
                if _is_same(program, scheduled, result, operand)
            }
            mixed = is_mixed(kernel)
            found.append(KernelCase(wave, kernel, node, operands, results, overwritten, mixed))
    return found


def is_mixed(kernel: Kernel) -> bool:
    """Whether the code of a kernel may compute results several at a time."""
    from braze.codegen.llvm.schedule_search import WINOGRAD_FORMS

    if not isinstance(kernel, Contraction):
        return False
    return any(form(kernel, host_target()) is not None for form in WINOGRAD_FORMS)


def _is_same(program: Program, graph: Graph, result: str, operand: str) -> bool:
    """Whether a result lies where an operand lies."""
    one, other = program.placements.get(result), program.placements.get(operand)
    if one is None or other is None:
        return False
    if one.kind == "arena":
        return other.kind == "arena" and one.offset == other.offset
    return _input_of(one, graph) is not None and _input_of(one, graph) == _input_of(other, graph)


def _input_of(place: Placement, graph: Graph) -> int | None:
    """The input whose memory a buffer has."""
    return place.slot if place.kind == "input" else graph.aliases.get(place.slot)


def case_with_values(
    program: Program, scheduled: Graph, inputs: Sequence[Array | int | float], name: str
) -> tuple[KernelCase, dict[str, Array]]:
    """A kernel by its name, with what the interpreter hands it.

    Args:
        scheduled: the graph of fusion nodes that the program was lowered from.
        inputs: of the graph.

    Raises:
        KeyError: there is no such kernel; the message lists those that there are.
        IndexError and what else the graph's operations raise.
    """
    cases = {case.name: case for case in kernel_cases(program, scheduled)}
    wanted = cases.get(name)
    if wanted is None:
        raise KeyError(f"no kernel {name!r}; the kernels are {', '.join(cases)}")
    values: dict[str, Array] = {}

    def look(node: Node, operands: Sequence[Array], results: Sequence[Array]) -> None:
        if node is wanted.node:
            values.update(zip(wanted.operands, operands, strict=True))

    interpret(scheduled, fitting(scheduled, inputs), look)
    return wanted, values


def fitting(graph: Graph, inputs: Sequence[Array | int | float]) -> list[Array | int | float]:
    """A captured graph's inputs as the graph after any pass takes them: after `split_complex`,
    complex ones in parts."""
    return [
        item
        if isinstance(item, (int, float)) or value.dtype.is_complex or item.dtype.kind != "c"
        else np.ascontiguousarray(item)[..., None].view(item.real.dtype)
        for value, item in zip(graph.inputs, inputs, strict=True)
    ]


def operations_of(case: KernelCase) -> Sequence[Node]:
    """The operations that a kernel computes, without constants and movements."""
    return [n for n in case.body.nodes if n.op.category != "creation" and not n.op.is_movement]
