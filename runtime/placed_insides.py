"""Everything that a graph on GPUs went through, as text.

In: a captured graph with values on GPUs.  Out: its stages: of each program that it is split into,
for one device each, those from the graph to CUDA C or machine code, and the copies in between. Of a
GPU's program also what its kernels must move and compute, and what launches take of a
multiprocessor.
"""

from __future__ import annotations

from braze.ir.devices import HOST
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.loops import Program
from braze.ir.loops_cost import kernel_cost
from braze.ir.target import Target
from braze.runtime.cuda.resources import report, resources_of
from braze.runtime.insides import look_inside
from braze.runtime.recorder import Keeper
from braze.runtime.splitting import Segment, split_devices


def placed_stages(graph: Graph) -> list[tuple[str, str]]:
    """Names and texts, in the order in which the programs run."""
    split = split_devices(graph)
    stages = [("captured", str(graph))]
    for number, step in enumerate(split.steps):
        if isinstance(step, Segment):
            own = _stages(step)
            stages += [(f"{number} {step.device} {name}", text) for name, text in own]
        else:
            source, target = split.types[step.source], split.types[step.target]
            stages.append((f"{number} copy", f"{source} to {target.device}"))
    return stages


def _stages(segment: Segment) -> list[tuple[str, str]]:
    if segment.device == HOST:
        return [(stage.name, stage.text) for stage in look_inside(segment.graph).stages]
    from braze.runtime.cuda.devices import device_named

    return gpu_stages(segment.graph, device_named(segment.device).target)


def gpu_stages(graph: Graph, target: Target) -> list[tuple[str, str]]:
    """The stages of a graph without devices, compiled for a GPU, which need not be there."""
    from braze.codegen.cuda.generate import generate
    from braze.passes import compile_graph

    record = Keeper(graph, fingerprint(graph))
    loops, _ = compile_graph(graph, target, record)
    program = generate(loops, target)
    record("cuda", program.source, "cuda")
    record("roofline", roofline(loops))
    record("launches", report(program, resources_of(program.source, target)))
    return [(stage.name, stage.text) for stage in record.stages]


def roofline(program: Program) -> str:
    """What each kernel must move and compute at least, counted from its loops."""
    lines = [f"{'kernel':<40} {'bytes':>14} {'flops':>16} {'flops a byte':>12}"]
    for kernel in program.kernels():
        cost = kernel_cost(kernel)
        ratio = cost.flops / cost.bytes_moved if cost.bytes_moved else 0.0
        lines.append(f"{kernel.name:<40} {cost.bytes_moved:>14} {cost.flops:>16} {ratio:>12.2f}")
    return "\n".join(lines)
