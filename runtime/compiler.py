"""From a captured graph to object code: passes, code generation, LLVM.

In: a graph and a target.  Out: an `Artifact`, or with `stages` every step on the way as text.
The passes and the code generators are imported when something has to be compiled.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.loops import CheckSite
from braze.ir.loops_recurrence import is_of_step
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.artifact import Artifact, CallSite, FailureSite, Figures, slots_of
from braze.runtime.config import config
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Recorder
from braze.runtime.sized_texts import Fit
from braze.runtime.symbolic_code import SymbolicCode
from braze.runtime.symbolic_compiling import SizedLoops

if TYPE_CHECKING:
    from braze.ir.loops import Program
    from braze.passes.symbolic import SymbolicProgram

Modules = Sequence[tuple[str, str]]

STEP_OBJECTS_KEPT = 256
SWITCH_SECONDS = 0.0002
NEW_OBJECTS = 50_000  # before garbage is looked for


def compile_artifact(
    graph: Graph,
    target: Target,
    record: Recorder | None = None,
    change: Callable[[Program], Program] | None = None,
) -> Artifact:
    """Compile a graph.

    Args:
        change: what is done to the loops before code is generated for them.

    Raises: CompileError where LLVM refuses the generated code; whatever the passes raise. A note
    says which graph it was.
    """
    if record is None and Recorder.is_wanted():
        record = Recorder(graph, fingerprint(graph))
    return _compile(graph, target, record, change)[0]


def compile_timed(
    graph: Graph,
    target: Target,
    record: Recorder,
    change: Callable[[Program], Program] | None = None,
) -> tuple[Artifact, Program, list[str], Provenance]:
    """Compile a graph to code that also writes when each chunk of each kernel ran.

    Args:
        change: what is done to the loops before code is generated for them.

    Returns: the artifact, the loops, the kernel of each slot of times, and where the nodes that
    were recorded come from.
    """
    artifact, program, generated, origin = _compile(graph, target, record, change, timed=True)
    return artifact, program, generated.slots, origin


def compile_watched(
    graph: Graph, target: Target, record: Recorder
) -> tuple[Artifact, Program, Provenance]:
    """Compile a graph to code that calls a function of the runtime before its first wave of kernels
    and after each.

    Returns: the artifact, the loops, and where the nodes that were recorded come from.
    """
    artifact, program, _, origin = _compile(graph, target, record, None, watched=True)
    return artifact, program, origin


def _compile(
    graph: Graph,
    target: Target,
    record: Recorder | None,
    change: Callable[[Program], Program] | None,
    timed: bool = False,
    watched: bool = False,
) -> tuple[Artifact, Program, Any, Provenance]:
    start = time.perf_counter()
    try:
        origin = Provenance(graph)
        with ModuleCompiler(target) as compiler:
            program, report, generated = _to_llvm(
                origin.graph, target, record, compiler.start, change, timed, watched
            )
            objects = compiler.objects(generated.modules)
        if record is not None:
            _record_objects(generated.modules, objects, target, record)
    except Exception as error:
        from braze.runtime.compile_failures import explain_failure

        explain_failure(error, graph, target)
        raise
    if record is not None:
        record.finish()
    seconds = time.perf_counter() - start
    made = _artifact(graph, target, program, report, generated, objects, origin, seconds)
    return made, program, generated, origin


def compile_member(
    graph: Graph, target: Target, family: tuple[Fit, Point] | None
) -> tuple[Artifact, SymbolicCode[Artifact] | None, str]:
    """Compile a graph, for other sizes as well if there is a family: the artifact, the code for
    them, and why there is none."""
    from braze.codegen.llvm.kernel import CodegenError
    from braze.passes.symbolic_fit import NotSymbolic

    code, refusal = None, ""
    if family is not None:
        fit, sizes = family
        try:
            code = compile_symbolic(fit, sizes, target)
        except (NotSymbolic, CodegenError) as error:
            refusal = str(error)
        else:
            if code.serves(sizes):
                return code.instance(graph, sizes), code, ""
    # The sizes that the code serves are near the graph's, and may not include it.
    return compile_artifact(graph, target), code, refusal


def compile_symbolic(
    fit: Fit,
    sizes: Point,
    target: Target,
    change: Callable[[Program], Program] | None = None,
) -> SymbolicCode[Artifact]:
    """Compile a family of graphs for many sizes.

    Args:
        sizes: near which chunks, tiles and the order of the kernels are chosen.
        change: what is done to the loops of some sizes before they are compared; first those of the
            sizes that decisions are taken for.

    Raises:
        NotSymbolic, CodegenError: there is no such code.
    """
    return _symbolic(fit, sizes, target, change)[1]


def compile_recorded_symbolic(
    fit: Fit,
    sizes: Point,
    target: Target,
    change: Callable[[Program], Program],
    origin: Callable[[Graph], Provenance],
    record: Recorder,
) -> tuple[Artifact, Program, Any, Any]:
    """As `compile_symbolic`, for looking at: the artifact, the loops, the passes' report, the
    generated modules.

    Args:
        origin: takes the nodes of the graph apart that decisions are taken for.
    """
    loops, code, _, program, generated = _symbolic(
        fit, sizes, target, change, origin=origin, record=record
    )
    return code.artifact, program, loops.report, generated


def compile_watched_symbolic(
    fit: Fit, sizes: Point, target: Target
) -> tuple[SymbolicCode[Artifact], SymbolicProgram, Callable[[Point], Graph]]:
    """As `compile_symbolic`, to code that calls a function of the runtime between its waves.

    Returns: the code, its loops, and what gives the graph of fusion nodes for sizes.
    """
    loops, code, found, _, _ = _symbolic(fit, sizes, target, None, watched=True)
    return code, found, loops.scheduled_of


def _symbolic(
    fit: Fit,
    sizes: Point,
    target: Target,
    change: Callable[[Program], Program] | None,
    *,
    watched: bool = False,
    origin: Callable[[Graph], Provenance] = Provenance,
    record: Recorder | None = None,
) -> tuple[SizedLoops, SymbolicCode[Artifact], SymbolicProgram, Program, Any]:
    """The passes' work, the code, the loops for many sizes without and with the user's lines, and
    the generated modules."""
    from braze.codegen.llvm.program import Generated, generate
    from braze.codegen.llvm.symbolic_check import SameCode

    start = time.perf_counter()
    loops = SizedLoops(
        fit, sizes, target, for_package=change is not None, change=change, origin=origin,
        record=record,
    )  # fmt: skip
    made: list[Generated] = []
    with ModuleCompiler(target) as compiler:

        def checking(program: Program) -> Callable[[Program], None]:
            # LLVM works on it while it is found out which sizes it is right for.
            made.append(generate(program, target, compiler.start, watched=watched))
            return SameCode(program, target).require

        found = loops.symbolic(checking)
        (generated,) = made
        objects = compiler.objects(generated.modules)
    if loops.record is not None:
        _record_modules(generated.modules, loops.record)
        _record_objects(generated.modules, objects, target, loops.record)
        loops.record.finish()
    graph = loops.graph
    _require_pointers(generated.pointers, graph, found.program.words)
    program = loops.with_locations(found.program)
    seconds = time.perf_counter() - start
    artifact = _artifact(
        graph, target, program, loops.report, generated, objects, loops.origin, seconds
    )
    code = SymbolicCode(fit, artifact, found.layout, found.lowest, found.highest)
    return loops, code, found, program, generated


def _artifact(
    graph: Graph,
    target: Target,
    program: Program,
    report: Any,
    generated: Any,
    objects: Sequence[bytes],
    origin: Provenance,
    seconds: float,
) -> Artifact:
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
        failures=tuple(failure_site(site, origin) for site in program.checks),
        figures=figures_of(report, seconds),
        calls=tuple(
            CallSite(str(call), origin.position(call.location)) for call in program.host_calls()
        ),
    )


def figures_of(report: Any, seconds: float = 0.0) -> Figures:
    """What the passes report, and how long compiling took."""
    return Figures(
        kernels_before=report.kernels_before,
        kernels_after=report.kernels_after,
        bytes_before=report.bytes_before,
        lower_bound=report.lower_bound,
        refusals=tuple(report.refusals),
        seconds=seconds,
    )


def compile_recorded(
    graph: Graph,
    target: Target,
    record: Recorder,
    change: Callable[[Program], Program] | None = None,
) -> tuple[Program, Any, Any]:
    """As far as assembly, for looking at: the loops, the passes' report, the generated modules.
    Nothing is cached or loaded.

    Args:
        change: what is done to the loops before code is generated for them.
    """
    program, report, generated = _to_llvm(graph, target, record, None, change)
    _record_assembly(generated.modules, target, record)
    return program, report, generated


def _to_llvm(
    graph: Graph,
    target: Target,
    record: Recorder | None,
    made: Callable[[str, str], None] | None,
    change: Callable[[Program], Program] | None = None,
    timed: bool = False,
    watched: bool = False,
) -> tuple[Program, Any, Any]:
    """The loop program, the passes' report, and the generated modules; `made` is called with each
    as it comes."""
    from braze.codegen.llvm.program import generate
    from braze.passes import compile_graph

    if record is not None:
        record.restart_clock()
    of_kernels = None if record is None else record.of_kernels
    program, report = compile_graph(graph, target, record, of_kernels=of_kernels)
    if record is not None and record.stages[-1].kind != "loops":
        record("loops", program)
    if change is not None:
        program = change(program)
        if record is not None:
            record("pack_weights", program)
    generated = generate(program, target, made, timed=timed, watched=watched)
    _require_pointers(generated.pointers, graph, 0)
    if record is not None:
        _record_modules(generated.modules, record)
    return program, report, generated


def _require_pointers(pointers: int, graph: Graph, words: int) -> None:
    passed = len(graph.inputs) + len(graph.outputs) + 3 + words
    if pointers != passed:
        raise RuntimeError(f"[compiler] {pointers} pointers where {passed} are passed")


def _record_modules(modules: Modules, record: Recorder) -> None:
    lines = (f"{text.count(chr(10))} lines of {name}" for name, text in modules)
    record("generate", "\n".join(lines))
    for name, text in modules:
        record(name, text, "llvm")


def _record_objects(
    modules: Modules, objects: Sequence[bytes], target: Target, record: Recorder
) -> None:
    sizes = zip(modules, objects, strict=True)
    record("objects", "\n".join(f"{len(data)} bytes of {name}" for (name, _), data in sizes))
    if record.wants_assembly:
        _record_assembly(modules, target, record)


def _record_assembly(modules: Modules, target: Target, record: Recorder) -> None:
    from braze.codegen.llvm.compile import assembly

    for name, text in modules:
        record(name, assembly(text, target), "assembly")


class ModuleCompiler:
    """Makes the objects of a graph's modules: several at a time, while further ones are generated.

    The steps of recurrences are the same modules for any number of steps; those compiled last are
    kept.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._futures: dict[str, Future[bytes]] = {}
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> ModuleCompiler:
        _interpreter.begin()
        if config.num_threads > 1:
            self._executor = ThreadPoolExecutor(config.num_threads, "braze-compile")
            self._executor.submit(_load_llvm, self._target)
        return self

    def __exit__(self, *error: object) -> None:
        _interpreter.end()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def start(self, name: str, text: str) -> None:
        """Have a module compiled, if there are threads for that."""
        if self._executor is not None:
            self._futures[name] = self._executor.submit(self._compile, name, text)

    def objects(self, modules: Modules) -> list[bytes]:
        """The object of each module, in their order.  Raises: CompileError."""
        late = [(name, text) for name, text in modules if name not in self._futures]
        # The longest first: the one that starts last must not be the one that takes longest.
        for name, text in sorted(late, key=lambda module: -len(module[1])):
            self.start(name, text)
        if self._executor is None:
            return [self._compile(name, text) for name, text in modules]
        return [self._futures[name].result() for name, _ in modules]

    def _compile(self, name: str, text: str) -> bytes:
        return (_step_object if is_of_step(name) else _object)(text, self._target)


def compile_modules(modules: Modules, target: Target) -> list[bytes]:
    """The object of each module, several compiled at a time.  Raises: CompileError."""
    with ModuleCompiler(target) as compiler:
        return compiler.objects(modules)


class _Interpreter:
    """Has the interpreter do what suits a compile while a module compiler is at work.

    It switches threads sooner: those of the compiler need it for microseconds between calls of
    LLVM, and one that generates code keeps it for as long as it is let. And it looks for garbage
    more rarely: what a compile makes is mostly alive until the end, and going through it took a
    fifth of the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual = 0.0
        self._thresholds = (0, 0, 0)
        os.register_at_fork(after_in_child=self._after_fork)

    def begin(self) -> None:
        with self._lock:
            if self._users == 0:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH_SECONDS, self._usual))
                self._thresholds = gc.get_threshold()
                if 0 < self._thresholds[0] < NEW_OBJECTS:
                    gc.set_threshold(NEW_OBJECTS, *self._thresholds[1:])
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._set_back()

    def _set_back(self) -> None:
        sys.setswitchinterval(self._usual)
        gc.set_threshold(*self._thresholds)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._users:  # by threads that only the parent has
            self._users = 0
            self._set_back()


_interpreter = _Interpreter()


def _load_llvm(target: Target) -> None:
    """Load LLVM, which takes a while, before there is something to do for it."""
    from braze.codegen.llvm.target import module_header

    module_header(target)


def _object(text: str, target: Target) -> bytes:
    from braze.codegen.llvm.compile import compile_object

    return compile_object(text, target)


_step_object = lru_cache(STEP_OBJECTS_KEPT)(_object)


def failure_site(site: CheckSite, origin: Provenance) -> FailureSite:
    """What a failure means, with the captured node that can fail."""
    location = site.location
    return FailureSite(site.message, site.low, site.high, origin.position(location), location)
