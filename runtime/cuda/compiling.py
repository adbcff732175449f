"""From a graph for a GPU to its program and machine code.

In: a graph without devices, and a GPU's target.  Out: a `CudaCode`: the steps that run it, the
cubin that they launch functions of, and what is needed to explain them. Cubins are kept on disk by
their source: for other graphs of the same source, and for the next start.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.artifact import slots_of
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.nvcc import OPTIONS, cubin_of
from braze.runtime.disk_cache import DiskCache
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Recorder


def compile_cuda(graph: Graph, target: Target, disk: DiskCache | None) -> CudaCode:
    """Compile a graph for a GPU.

    Raises:
        CudaError: nvcc refuses the code or is missing. CodegenError: there is no code for something
            in the graph. What the passes raise.
    """
    from braze.codegen.cuda.generate import generate
    from braze.passes import compile_graph
    from braze.runtime.compiler import failure_site, figures_of

    start = time.perf_counter()
    record = Recorder(graph, fingerprint(graph)) if Recorder.is_wanted() else None
    try:
        origin = Provenance(graph)
        loops, report = compile_graph(origin.graph, target, record)
        program = generate(loops, target)
        if record is not None:
            record("cuda", program.source, "cuda")
        cubin, from_disk = _cubin_of(program.source, target, disk)
    except Exception as error:
        error.add_note(
            f"while compiling graph @{graph.name} for {target.name}; BRAZE_DUMP=<directory> writes "
            "what was made of it, and braze.config.tier = 'interpret' runs it without a compiler"
        )
        raise
    if record is not None:
        record.finish()
    inputs, outputs = slots_of(graph)
    return CudaCode(
        program,
        cubin,
        inputs,
        outputs,
        tuple(failure_site(site, origin) for site in loops.checks),
        tuple(origin.position(call.location) for call in loops.host_calls()),
        figures_of(report, time.perf_counter() - start),
        from_disk,
    )


def _cubin_of(source: str, target: Target, disk: DiskCache | None) -> tuple[bytes, bool]:
    if not source:
        return b"", True
    # What the emulated driver runs are objects of the host, which no GPU may be given.
    emulated = os.environ.get("BRAZE_EMULATED_VERSION", "")
    words = " ".join((target.cpu, *OPTIONS, *target.features, emulated))
    key = f"cubin {words} {sha256(source.encode()).hexdigest()}"
    found = disk.load(key) if disk is not None else None
    if found is not None:
        (cubin,) = found[1]
        return cubin, True
    cubin = cubin_of(source, target)
    if disk is not None:
        disk.store(key, {}, [cubin])
    return cubin, False
