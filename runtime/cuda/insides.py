"""From a graph to CUDA C with every step kept, for people to look at.

In: a graph without devices, and a GPU's target; the GPU need not be there.  Out: its loops, the
passes' report, and of each kernel the functions that it launches, with their text and with what a
launch takes of a multiprocessor (where nvcc is there to say so).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from braze.ir.cuda_program import (
    CollectiveStep,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Repeat,
    Step,
    launches_of,
)
from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.ir.loops_cost import kernel_cost
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.cuda.resources import Resources, report, resources_of, table
from braze.runtime.insides import Functions
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Recorder
from braze.runtime.sized_texts import Fit
from braze.runtime.symbolic_compiling import SizedLoops

# What a comment above it says, the function's head, and all up to the brace that closes it.
_FUNCTION = re.compile(
    r'(?:^//[^\n]*\n)*^extern "C" __global__ void __launch_bounds__\(.*?\) (\w+)\(.*?^\}$',
    re.MULTILINE | re.DOTALL,
)


def compile_for_gpu(
    graph: Graph, target: Target, record: Recorder
) -> tuple[Program, Any, CudaProgram, Functions]:
    """The loops, the passes' report, the program, and of each kernel the name of its (first)
    function and its code by language: "cuda", and "launches".

    Raises: CodegenError: there is no code for something in the graph. What the passes raise.
    """
    from braze.passes import compile_graph

    record.restart_clock()
    loops, passes = compile_graph(graph, target, record, of_kernels=record.of_kernels)
    return loops, passes, *generate_for_gpu(loops, target, record)


def compile_sizes_for_gpu(
    fit: Fit,
    sizes: Point,
    target: Target,
    origin: Callable[[Graph], Provenance],
    record: Recorder,
) -> tuple[Program, Any, CudaProgram, Functions]:
    """As `compile_for_gpu`, of a package's code for many sizes.

    Args:
        sizes: near which decisions are taken.
        origin: takes the nodes of the graph apart that they are taken for.

    Raises: NotSymbolic, CodegenError: there is no such code.
    """
    from braze.codegen.cuda.symbolic_check import SameCode

    record.restart_clock()
    loops = SizedLoops(fit, sizes, target, for_package=True, origin=origin, record=record)
    found = loops.symbolic(lambda program: SameCode(program, target).require)
    program = loops.with_locations(found.program)
    return program, loops.report, *generate_for_gpu(program, target, record)


def generate_for_gpu(
    loops: Program, target: Target, record: Recorder | None = None
) -> tuple[CudaProgram, Functions]:
    """The program of some loops, and the code of each kernel."""
    from braze.codegen.cuda.generate import generate

    steps: dict[str, Sequence[Step]] = {}

    def told(kernel: Kernel, own: Sequence[Step]) -> None:
        steps[kernel.name] = own

    program = generate(loops, target, told=told)
    if record is not None:
        record("cuda", program.source, "cuda")
        record("roofline", roofline(loops))
    taken = resources_of(program.source, target)
    if record is not None:
        record("launches", report(program, taken))
    texts = {match[1]: match[0] for match in _FUNCTION.finditer(program.source)}
    return program, {
        name: _described(name, tuple(own), texts, taken, target) for name, own in steps.items()
    }


def _described(
    name: str,
    steps: tuple[Step, ...],
    texts: dict[str, str],
    taken: dict[str, Resources],
    target: Target,
) -> tuple[str, dict[str, str]]:
    """A kernel's function and code."""
    launches = list(launches_of(steps))
    functions = list(dict.fromkeys(launch.kernel for launch in launches))
    lines = [table(launches, taken, target)] if launches else []
    lines += [line for step in steps if (line := _beside(step))]
    code = "\n\n".join(texts[function] for function in functions)
    return "+".join(functions) or name, {"cuda": code, "launches": "\n".join(lines)}


def _beside(step: Step) -> str:
    """What a step does that is no launch."""
    if isinstance(step, Launch):
        return ""
    if isinstance(step, Fill):
        return f"{step.nbytes} bytes of {step.name} from byte {step.offset} are set to {step.value}"
    if isinstance(step, HostStep):
        return f"{step.call.op.name} is computed by NumPy on the host, which waits for the GPU"
    if isinstance(step, CollectiveStep):
        return _collective(step)
    assert isinstance(step, Repeat)
    return f"all of it {step.times} times"


def _collective(step: CollectiveStep) -> str:
    call = step.call
    if call.op.is_awaited:
        return "what follows waits for the result, and so for the stream of communication"
    nbytes = sum(operand.type.nbytes for operand in call.operands[1:])
    where = "where they are" if step.kept else "in a copy"
    return (
        f"{call.attributes['kind']} of {nbytes} bytes, {where}, on the stream of communication; "
        "what follows runs meanwhile"
    )


def roofline(program: Program) -> str:
    """What each kernel must move and compute at least, counted from its loops."""
    lines = [f"{'kernel':<40} {'bytes':>14} {'flops':>16} {'flops a byte':>12}"]
    for kernel in program.kernels():
        cost = kernel_cost(kernel)
        ratio = cost.flops / cost.bytes_moved if cost.bytes_moved else 0.0
        lines.append(f"{kernel.name:<40} {cost.bytes_moved:>14} {cost.flops:>16} {ratio:>12.2f}")
    return "\n".join(lines)
