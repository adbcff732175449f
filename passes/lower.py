"""Lower a fused graph to loops: each fusion node becomes a kernel, each value a placed buffer.

Needs: fusion nodes only, and a memory plan.  Keeps: names and source lines, as names and comments
of kernels.

Before:
    graph @g(%x: f32[4], %b: f32[4]) -> (f32[4]) {
      %0: f32[4] = fusion(%x, %b; kind="pointwise") graph @add(%0: f32[4], %1: f32[4]) -> (f32[4]) {
        %2: f32[4] = add(%0, %1)
        return %2
      }
      return %0
    }
After:
    nest @add_1(%x: f32[4] in, %b: f32[4] in, %0: f32[4] out) {
      for i0 in 4 vector {
        store %0[i0] = add(%x[i0], %b[i0])
      }
    }
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from braze.ir.arena import aligned
from braze.ir.graph import Graph, Node, Value
from braze.ir.loops import Buffer, CheckSite, Kernel, Nest, Placement, Program
from braze.ir.own_nodes import own_nodes
from braze.ir.target import Target
from braze.passes.choices import Choices
from braze.passes.fusion_rules import WITHOUT_CHECKS
from braze.passes.in_place import store_order
from braze.passes.lower_attention import lower_attention
from braze.passes.lower_columns import lower_columns
from braze.passes.lower_contraction import lower_contraction
from braze.passes.lower_host import lower_host
from braze.passes.lower_lattice import lower_lattice
from braze.passes.lower_nest import lower_copy, lower_nest
from braze.passes.lower_random import lower_random
from braze.passes.lower_recurrence import Extra, lower_recurrence
from braze.passes.lower_scan import lower_scan
from braze.passes.lower_scatter import lower_scatter
from braze.passes.lower_sort import lower_sort
from braze.passes.plan_memory import MemoryPlan
from braze.passes.trim_stores import trim_stores
from braze.passes.tune_loops import Record, tune_loops


def lower_program(
    graph: Graph,
    plan: MemoryPlan,
    target: Target,
    record: Record | None = None,
    choices: Choices | None = None,
    explained: bool = False,
) -> Program:
    """The program of a fused, scheduled graph.

    Args:
        plan: where the intermediate values live, and which kernels run together.
        target: decides vectors and chunks.
        record: called as ``record(stage, kernel)`` after each stage of each kernel: "lower", and
            the passes over its loops. A later pass may change the kernel that an earlier one gave.
        choices: takes in what is chosen by sizes, or has what was chosen for others.
        explained: kernels' comments have the operations that they come from, too.
    """
    lowering = _ProgramLowering(graph, plan, target, record, choices, explained)
    waves = [kernels for nodes in plan.waves if (kernels := lowering.wave(nodes))]
    for name, offset in lowering.extra.offsets.items():
        lowering.placements[name] = Placement("arena", offset=offset)
    return Program(
        name=graph.name,
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
        waves=waves,
        placements=lowering.placements,
        arena_bytes=lowering.extra.end,
        checks=lowering.sites,
    )


class _ProgramLowering:
    def __init__(
        self,
        graph: Graph,
        plan: MemoryPlan,
        target: Target,
        record: Record | None,
        choices: Choices | None,
        explained: bool,
    ) -> None:
        self.graph = graph
        self.target = target
        self.record = record
        self.choices = choices
        self.explained = explained
        self.names = dict(buffer_names(graph))
        self.placements: dict[str, Placement] = {}
        self.sites: list[CheckSite] = []
        self.codes: dict[Node, int] = {}
        self.count = 0
        self.host_calls = 0
        self.extra = Extra(aligned(plan.arena_bytes), plan.arena_bytes)
        self.overwrites = {**plan.overwrites}
        for output, source in graph.aliases.items():
            self.overwrites[graph.outputs[output]] = graph.inputs[source]
        inputs = set(graph.inputs)
        for slot, value in enumerate(graph.inputs):
            self.placements[self.names[value]] = Placement("input", slot=slot)
        for slot, value in enumerate(graph.outputs):
            if value not in inputs:
                self.placements[self.names[value]] = Placement("output", slot=slot)
        for value, offset in plan.offsets.items():
            self.placements[self.names[value]] = Placement("arena", offset=offset)

    def wave(self, nodes: list[Node]) -> list[Kernel]:
        kernels = [self.kernel(node) for node in nodes]
        return [kernel for kernel in kernels if kernel is not None]

    def kernel(self, node: Node) -> Kernel | None:
        body = node.body
        assert body is not None
        self.count += 1
        name = f"{body.name}_{self.count}"
        buffers: dict[Value, Buffer] = {}
        for outer, inner in zip(node.operands, body.inputs, strict=True):
            buffers[inner] = self._buffer(outer, "in")
        for outer, inner in zip(node.results, body.outputs, strict=True):
            buffers.setdefault(inner, self._buffer(outer, "out"))
        for check in body.nodes:
            if check.op.category == "check":
                self._number_check(check)
        outputs = self._ordered_outputs(node, body)
        kernel: Kernel | None
        kind = node.attributes["kind"]
        has_checks = any(inner.op.category == "check" for inner in body.nodes)
        if has_checks and kind in WITHOUT_CHECKS:
            raise AssertionError(f"internal error: a check inside a {kind} kernel: {body}")
        if kind == "contract":
            kernel = lower_contraction(name, body, outputs, buffers)
        elif kind == "random":
            kernel = lower_random(name, body, outputs, buffers, self.codes)
        elif kind == "scan":
            kernel = lower_scan(name, body, outputs, buffers)
        elif kind == "scatter":
            kernel = lower_scatter(name, body, buffers, self._overwritten(node, body))
        elif kind == "sort":
            kernel = lower_sort(name, body, outputs, buffers)
        elif kind == "lattice":
            kernel = lower_lattice(name, body, buffers)
        elif kind == "host":
            kernel = lower_host(name, body, buffers, self.host_calls)
            self.host_calls += 1
        elif kind == "attention":
            kernel = lower_attention(name, body, buffers)
        elif kind == "recurrence":
            kernel = lower_recurrence(name, body, buffers, self.target, self.extra)
        elif kind == "columns":
            kernel = lower_columns(name, body, outputs, buffers, self.codes)
        elif kind == "copy":
            source, target = self._buffer(node.operands[0], "in"), self._buffer(node.result, "out")
            kernel = lower_copy(name, source, target)
        else:
            kernel = lower_nest(name, body, outputs, buffers, self.codes)
        if kernel is None:
            return None
        kernel.comment = _comment(body)
        if self.explained:
            kernel.comment += _operations(body)
        if self.record is not None:
            self.record("lower", kernel)
        if kind == "lattice":
            return kernel
        if kind == "pointwise" and isinstance(kernel, Nest):
            trimmed = trim_stores(kernel, self._updated(node))
            if trimmed is None:
                return None
            kernel = trimmed
            if self.record is not None:
                self.record("trim_stores", kernel)
        taken = {self.names[result] for result in node.results if result in self.overwrites}
        return tune_loops(kernel, self.target, taken, self.record, self.choices)

    def _ordered_outputs(self, node: Node, body: Graph) -> list[Value]:
        """The body's outputs in the order in which they may be stored."""
        mine = {r: self.overwrites[r] for r in node.results if r in self.overwrites}
        order = store_order(node, {r: x for r, x in mine.items() if x in node.operands})
        assert order is not None, "an operand is overwritten while it is needed"
        return list(dict.fromkeys(body.outputs[position] for position in order))

    def _overwritten(self, node: Node, body: Graph) -> set[Value]:
        """The body's inputs whose memory the node's results take over."""
        taken = {self.overwrites[r] for r in node.results if r in self.overwrites}
        pairs = zip(node.operands, body.inputs, strict=True)
        return {inner for outer, inner in pairs if outer in taken}

    def _updated(self, node: Node) -> dict[str, str]:
        """Outputs of the graph that the node writes over inputs of the graph, by name."""
        found = {}
        for result in node.results:
            source = self.overwrites.get(result)
            if source in node.operands and self.placements[self.names[result]].kind == "output":
                assert source is not None
                found[self.names[result]] = self.names[source]
        return found

    def _buffer(self, value: Value, access: Literal["in", "out"]) -> Buffer:
        return Buffer(self.names[value], value.dtype, value.type.numel, access)

    def _number_check(self, check: Node) -> None:
        low, high = check.attributes["low"], check.attributes["high"]
        assert isinstance(low, int) and isinstance(high, int)
        message = str(check.attributes["message"])
        self.sites.append(CheckSite(message, low, high, check.location))
        self.codes[check] = len(self.sites)


def buffer_names(graph: Graph) -> Iterator[tuple[Value, str]]:
    """The name of each value's buffer: the value's own name if it has one, else a number."""
    taken = {value.name for value in graph.values() if value.name}
    count = 0
    for value in graph.values():
        if value.name:
            yield value, value.name
            continue
        while str(count) in taken:
            count += 1
        yield value, str(count)
        count += 1


def _comment(body: Graph) -> str:
    """The user's lines that a kernel comes from."""
    lines = dict.fromkeys(str(n.location) for n in own_nodes(body.nodes) if n.location)
    return ", ".join(lines)


def _operations(body: Graph) -> str:
    """What a kernel computes, line by line, behind the line with the user's lines."""
    return "".join(f"\n{line.partition('  # ')[0]}" for line in str(body).splitlines())
