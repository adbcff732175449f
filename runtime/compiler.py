"""From a captured graph to object code: passes, code generation, LLVM.

In: a graph and a target.  Out: an `Artifact`, or with `stages` every step on the way as text.
The passes and the code generators are imported when something has to be compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from braze.ir.builder import Rewriter
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Location
from braze.ir.loops import CheckSite
from braze.ir.loops_recurrence import is_of_step
from braze.ir.target import Target
from braze.runtime.artifact import Artifact, FailureSite, Figures, slots_of
from braze.runtime.config import config
from braze.runtime.host_calls import CallSite
from braze.runtime.recorder import Recorder, Stage

if TYPE_CHECKING:
    from braze.ir.loops import Program

Modules = Sequence[tuple[str, str]]

STEP_OBJECTS_KEPT = 256


def compile_artifact(graph: Graph, target: Target, record: Recorder | None = None) -> Artifact:
    """Compile a graph.

    Raises: CompileError where LLVM refuses the generated code; whatever the passes raise. A note
    says which graph it was.
    """
    if record is None and Recorder.is_wanted():
        record = Recorder(graph, fingerprint(graph))
    start = time.perf_counter()
    try:
        own, positions = _with_own_locations(graph)
        program, report, generated = _to_llvm(own, target, record)
        objects = compile_modules(generated.modules, target)
        if record is not None:
            sizes = zip(generated.modules, objects, strict=True)
            record("objects", "\n".join(f"{len(o)} bytes of {name}" for (name, _), o in sizes))
        if record is not None and record.wants_assembly:
            _record_assembly(generated.modules, target, record)
    except Exception as error:
        error.add_note(
            f"while compiling graph @{graph.name}; BRAZE_DUMP=<directory> writes what was made of "
            "it, and braze.config.tier = 'interpret' runs it without a compiler"
        )
        raise
    if record is not None:
        record.finish()
    inputs, outputs = slots_of(graph)
    return Artifact(
        name=graph.name,
        target=target.to_text(),
        main=generated.main,
        objects=tuple(objects),
        inputs=inputs,
        outputs=outputs,
        arena_bytes=program.arena_bytes,
        scratch_bytes=generated.scratch_bytes,
        failures=tuple(_failure(site, positions) for site in program.checks),
        figures=Figures(
            kernels_before=report.kernels_before,
            kernels_after=report.kernels_after,
            bytes_before=report.bytes_before,
            lower_bound=report.lower_bound,
            refusals=tuple(report.refusals),
            seconds=time.perf_counter() - start,
        ),
        calls=tuple(
            CallSite(str(call), positions.get(id(call.location), -1))
            for call in program.host_calls()
        ),
    )


def stages(graph: Graph, target: Target) -> list[Stage]:
    """Every step of compiling a graph: the captured graph, the graph after each pass, the loops,
    the LLVM IR and the assembly of each module. Nothing is cached or loaded."""
    record = Recorder(graph, fingerprint(graph))
    _, _, generated = _to_llvm(graph, target, record)
    _record_assembly(generated.modules, target, record)
    return record.stages


def _to_llvm(graph: Graph, target: Target, record: Recorder | None) -> tuple[Program, Any, Any]:
    """The loop program, the passes' report, and the generated modules."""
    from braze.codegen.llvm.program import generate
    from braze.passes import compile_graph

    if record is not None:
        record.restart_clock()
    program, report = compile_graph(graph, target, record)
    if record is not None and record.stages[-1].kind != "loops":
        record("loops", program)
    generated = generate(program, target)
    pointers = len(graph.inputs) + len(graph.outputs) + 3
    if generated.pointers != pointers:
        raise RuntimeError(f"[compiler] {generated.pointers} pointers where {pointers} are passed")
    if record is not None:
        lines = (f"{text.count(chr(10))} lines of {name}" for name, text in generated.modules)
        record("generate", "\n".join(lines))
        for name, text in generated.modules:
            record(name, text, "llvm")
    return program, report, generated


def _record_assembly(modules: Modules, target: Target, record: Recorder) -> None:
    from braze.codegen.llvm.compile import assembly

    for name, text in modules:
        record(name, assembly(text, target), "assembly")


def compile_modules(modules: Modules, target: Target) -> list[bytes]:
    """The object of each module, several compiled at a time.

    The steps of recurrences are the same modules for any number of steps; those compiled last are
    kept.
    """

    def compile_one(module: tuple[str, str]) -> bytes:
        return (_step_object if is_of_step(module[0]) else _object)(module[1], target)

    threads = min(config.num_threads, len(modules))
    return _parallel_map(compile_one, modules, threads)


def _object(text: str, target: Target) -> bytes:
    from braze.codegen.llvm.compile import compile_object

    return compile_object(text, target)


_step_object = lru_cache(STEP_OBJECTS_KEPT)(_object)


def _parallel_map(
    function: Callable[[tuple[str, str]], bytes], modules: Modules, threads: int
) -> list[bytes]:
    if threads <= 1:
        return [function(module) for module in modules]
    # The longest first: the one that starts last must not be the one that takes longest.
    order = sorted(range(len(modules)), key=lambda i: -len(modules[i][1]))
    with ThreadPoolExecutor(threads, thread_name_prefix="braze-compile") as executor:
        futures = {i: executor.submit(function, modules[i]) for i in order}
        return [futures[i].result() for i in range(len(modules))]


def _with_own_locations(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """A copy in which each node has a location object of its own, and whose node each is.

    Passes carry locations along, so the object's identity tells which captured node a check comes
    from, where two nodes of one line are equal by value.
    """
    rewriter = Rewriter(graph)
    positions: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        copy = rewriter.keep(node)
        if node.location is not None:
            copy.location = replace(node.location)
            positions[id(copy.location)] = position
    return rewriter.done(), positions


def _failure(site: CheckSite, positions: dict[int, int]) -> FailureSite:
    location: Location | None = site.location
    return FailureSite(
        site.message, site.low, site.high, positions.get(id(location), -1), location
    )
