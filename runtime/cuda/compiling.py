"""From a graph for a GPU to its program and machine code.

In: a graph without devices, and a GPU's target.  Out: a `CudaCode`: the steps that run it, the
cubin that they launch functions of, and what is needed to explain them. Cubins are kept on disk by
their source: for other graphs of the same source, and for the next start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.artifact import slots_of
from braze.runtime.compile_failures import explain_failure
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.nvcc import OPTIONS, cubin_of
from braze.runtime.disk_cache import DiskCache
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Keeper, Recorder
from braze.runtime.sized_texts import Fit
from braze.runtime.symbolic_code import SymbolicCode
from braze.runtime.symbolic_compiling import SizedLoops

if TYPE_CHECKING:
    from braze.ir.cuda_program import CudaProgram, Step
    from braze.ir.loops import Kernel, Program


def compile_cuda(
    graph: Graph,
    target: Target,
    disk: DiskCache | None,
    *,
    origin: Provenance | None = None,
    keep: Keeper | None = None,
    told: Callable[[Kernel, Sequence[Step]], None] | None = None,
) -> CudaCode:
    """Compile a graph for a GPU.

    Args:
        origin: takes its nodes apart, for who asks about them later.
        keep: is given every stage.
        told: called with each kernel and its steps, in order. Then no launch does several kernels.

    Raises:
        CudaError: nvcc refuses the code or is missing. CodegenError: there is no code for something
            in the graph. What the passes raise.
    """
    from braze.codegen.cuda.generate import generate
    from braze.passes import compile_graph

    start = time.perf_counter()
    record: Recorder | None = keep
    if record is None and Recorder.is_wanted():
        record = Recorder(graph, fingerprint(graph))
    origin = origin or Provenance(graph)
    try:
        loops, report = compile_graph(origin.graph, target, record)
        program = generate(loops, target, told=told, one_by_one=told is not None)
        if record is not None:
            record("cuda", program.source, "cuda")
        cubin, from_disk = kept_cubin(program, target, disk)
    except Exception as error:
        explain_failure(error, graph, target)
        raise
    if record is not None:
        record.finish()
    return _code(program, cubin, origin, report, loops, time.perf_counter() - start, from_disk)


def compile_cuda_symbolic(
    fit: Fit, sizes: Point, target: Target, disk: DiskCache | None, *, for_package: bool = False
) -> SymbolicCode[CudaCode]:
    """Compile a family of graphs for many sizes.

    Args:
        sizes: near which numbers of threads and the order of the kernels are chosen.
        for_package: there is no other way to serve the sizes.

    Raises:
        NotSymbolic, CodegenError: there is no such code. CudaError: as `compile_cuda`.
    """
    from braze.codegen.cuda.symbolic_check import SameCode

    start = time.perf_counter()
    loops = SizedLoops(fit, sizes, target, for_package=for_package)
    checks: list[SameCode] = []

    def checking(program: Program) -> Callable[[Program], None]:
        checks.append(SameCode(program, target))
        return checks[-1].require

    found = loops.symbolic(checking)
    program = replace(checks[-1].made, name=loops.graph.name)
    if loops.record is not None:
        loops.record("cuda", program.source, "cuda")
        loops.record.finish()
    cubin, from_disk = kept_cubin(program, target, disk)
    made = loops.with_locations(found.program)
    seconds = time.perf_counter() - start
    code = _code(program, cubin, loops.origin, loops.report, made, seconds, from_disk)
    return SymbolicCode(fit, code, found.layout, found.lowest, found.highest)


def _code(
    program: CudaProgram,
    cubin: bytes,
    origin: Provenance,
    report: Any,
    loops: Program,
    seconds: float,
    from_disk: bool,
) -> CudaCode:
    from braze.runtime.compiler import failure_site, figures_of

    inputs, outputs = slots_of(origin.graph)
    return CudaCode(
        program,
        cubin,
        inputs,
        outputs,
        tuple(failure_site(site, origin) for site in loops.checks),
        tuple(origin.position(call.location) for call in loops.host_calls()),
        figures_of(report, seconds),
        from_disk,
    )


def tools(target: Target) -> str:
    """What a source's machine code depends on, in words for keys of the disk cache."""
    # What the emulated driver runs are objects of the host, which no GPU may be given.
    emulated = os.environ.get("BRAZE_EMULATED_VERSION", "")
    return " ".join((target.cpu, *OPTIONS, *target.features, emulated))


def kept_cubin(program: CudaProgram, target: Target, disk: DiskCache | None) -> tuple[bytes, bool]:
    """The machine code of a program, and whether it was compiled before.

    Raises: CudaError: nvcc refuses the code or is missing.
    """
    if not program.source:
        return b"", True
    key = f"cubin {tools(target)} {sha256(program.code.encode()).hexdigest()}"
    found = disk.load(key) if disk is not None else None
    if found is not None:
        (cubin,) = found[1]
        return cubin, True
    cubin = cubin_of(program.source, target)
    if disk is not None:
        disk.store(key, {}, [cubin])
    return cubin, False
