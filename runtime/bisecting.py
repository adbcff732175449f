"""Find the stage of a compile that changed a result: `braze.bisect`.

In: a captured graph and its inputs.  Out: a `Bisection`, which names the first stage whose result
is not that of the one before it.

1. The graph after each pass is interpreted on the same inputs, in double precision, so that what
   differs by more than a few digits is no rounding.
2. Each kernel's loops are interpreted as they were lowered and after each pass over them, on the
   operands that the kernel has in the last graph, and compared with its fusion node's body within
   the bounds of `braze.ir.rounding`. Kernels that would take too long are left out.
3. The compiled program runs, checked kernel by kernel (`braze.runtime.checking`, and on a GPU
   `braze.runtime.cuda.checking`): the memory plan and the generated code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from braze.ir.devices import HOST
from braze.ir.errors import BrazeError, VerifyError
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Node
from braze.ir.interpreter import interpret
from braze.ir.loops import Program
from braze.ir.loops_interpreter import MemoryFault
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_points import points_of
from braze.ir.parser import parse_graph
from braze.ir.rounding import SLACK, Bounded, Difference, difference
from braze.ir.target import Target
from braze.ir.verifier import verify
from braze.ir.widening import widened, widened_inputs
from braze.runtime.checking import KernelDifference, checked_executable
from braze.runtime.cpu import host_target
from braze.runtime.kernel_cases import MOST_POINTS, Array, KernelCase, fitting, kernel_cases
from braze.runtime.placed_insides import stored_on, target_on
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Keeper

Given = Array | int | float

# Of a result's element and of its largest element together, in double precision, and where the
# graph has no such form. A result that is nothing but rounding, such as the gradient of a bias
# before a batch norm, may be off by some times what its rounding is.
WIDE_TOLERANCE = 1e-5
NARROW_TOLERANCE = 1e-2
NOISE = 8.0
MOST_POINTS_IN_ALL = 5 * MOST_POINTS  # of the kernels whose loops are interpreted
_CHANGE = 2.0**-20  # of inputs, to see what rounding does

Kind = Literal["pass", "loops", "plan", "code"]
Evaluate = Callable[[Graph, list[Given]], list[Array]]

_NOT_RUN = "the graph cannot be interpreted"


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first stage that is wrong.

    Attributes:
        kind: a pass over graphs, a stage of a kernel's loops, the memory plan, or generated code.
        stage: its name.
        kernel: the kernel's name, but for a pass.
        result: which result is wrong, with its type.
        what: how, in words, where there is no difference of numbers.
        difference: the numbers.
        before, after: what the stage was given and what it made of it: graphs, or loops as text.
        error: of generated code, the error that a checked run raises.
    """

    kind: Kind
    stage: str
    kernel: str = ""
    result: str = ""
    what: str = ""
    difference: Difference | None = None
    before: Graph | str = ""
    after: Graph | str = ""
    error: KernelDifference | None = None


@dataclass(slots=True)
class Bisection:
    """What was looked at, and what was found.

    Attributes:
        graph: as it was captured.
        stages: the names of the stages that are right, in order.
        culprit: the first that is wrong, or None.
        in_double: whether graphs could be interpreted in double precision.
        unread: kernels whose loops were not interpreted, as that would take too long.
        loops: how many kernels' loops were.
        kernels: for each kernel the positions of the captured operations that it computes.
        seconds: what it took.
        origin: where the nodes of all stages come from.
    """

    graph: Graph
    origin: Provenance
    stages: list[str] = field(default_factory=list)
    culprit: Culprit | None = None
    in_double: bool = True
    unread: list[str] = field(default_factory=list)
    loops: int = 0
    kernels: dict[str, list[int]] = field(default_factory=dict)
    seconds: float = 0.0

    def origins(self, nodes: Sequence[Node]) -> dict[Node, list[int]]:
        """Of nodes of any stage: the positions of the captured nodes that they come from."""
        return {node: self.origin.origins(node) for node in nodes}

    def __str__(self) -> str:
        from braze.runtime.bisection_text import describe

        return describe(self)


def bisect_graph(
    graph: Graph, inputs: Sequence[Given], target: Target | None = None, device: str = HOST
) -> Bisection:
    """Find the first stage of compiling a graph that changes a result.

    Args:
        graph: without devices.
        inputs: an array for each input, a Python number for those of role "scalar".
        device: the GPU that it is compiled for and runs on; `target` is that one's.

    Raises:
        IndexError, and whatever the graph's operations raise on these inputs; what a pass or the
        code generator raises, if all stages before it are right.
    """
    start = time.perf_counter()
    bisection = Bisection(graph, Provenance(graph))
    target = target_on(device, graph) or target or host_target()
    bisection.culprit = _first(bisection, list(inputs), target, device)
    bisection.seconds = time.perf_counter() - start
    return bisection


def _first(
    found: Bisection, inputs: list[Given], target: Target, device: str
) -> Culprit | None:
    from braze.passes import compile_graph

    captured = found.origin.graph
    record = Keeper(captured, fingerprint(captured))
    failure: Exception | None = None
    program: Program | None = None
    try:
        program, _ = compile_graph(captured, target, record)
    except Exception as error:  # of a pass that was given what an earlier one spoilt, perhaps
        failure = error
    # A graph that a later pass has changed in place is read back from its text.
    graphs = [
        (stage.name, made if str(made) == stage.text else parse_graph(stage.text))
        for stage, made in zip(record.stages, record.results, strict=True)
        if isinstance(made, Graph)
    ]
    culprit = _first_pass(found, graphs, inputs)
    if culprit is not None:
        return culprit
    if failure is not None:
        raise failure
    assert program is not None
    scheduled = graphs[-1][1]
    culprit = _first_loops(found, scheduled, program, inputs, target)
    return culprit or _code(found, inputs, target, device)


# Passes -------------------------------------------------------------------------------------------


def _first_pass(
    found: Bisection, graphs: Sequence[tuple[str, Graph]], inputs: list[Given]
) -> Culprit | None:
    for evaluate, tolerance in ((_in_double, WIDE_TOLERANCE), (_as_it_is, NARROW_TOLERANCE)):
        found.in_double = evaluate is _in_double
        try:
            expected = evaluate(graphs[0][1], inputs)
        except Exception:
            if not found.in_double:
                raise
            continue
        found.stages = []
        noise = _noise(graphs[0][1], inputs, expected, in_double=found.in_double)
        allowed = [_allowance(e, tolerance, n) for e, n in zip(expected, noise, strict=True)]
        bounded = [Bounded(_parts(e), a) for e, a in zip(expected, allowed, strict=True)]
        culprit = _first_of(found.stages, graphs, inputs, evaluate, bounded)
        # Some primitives are for one dtype, and then their composite had a double form alone.
        if culprit is None or not found.in_double or not culprit.what.startswith(_NOT_RUN):
            return culprit
    return culprit


def _first_of(
    right: list[str],
    graphs: Sequence[tuple[str, Graph]],
    inputs: list[Given],
    evaluate: Evaluate,
    expected: list[Bounded],
) -> Culprit | None:
    """The first pass after which a result is another one; those before it are added to `right`."""
    before = graphs[0][1]
    text = str(before)
    for name, after in graphs[1:]:
        if str(after) != text:
            wrong = _wrong_graph(after, inputs, evaluate, expected)
            if wrong is not None:
                result, what, differs = wrong
                return Culprit("pass", name, "", result, what, differs, before, after)
        right.append(name)
        before, text = after, str(after)
    return None


def _as_it_is(graph: Graph, inputs: list[Given]) -> list[Array]:
    return interpret(graph, fitting(graph, inputs))


def _in_double(graph: Graph, inputs: list[Given]) -> list[Array]:
    given = fitting(graph, inputs)
    return interpret(widened(graph), widened_inputs(graph, given))


def _noise(
    graph: Graph, inputs: list[Given], expected: list[Array], *, in_double: bool
) -> list[float]:
    """How far rounding, or what is as small, moves each result."""
    others = inputs
    if not in_double:
        rng = np.random.default_rng(0)
        others = [
            item
            if isinstance(item, (int, float)) or item.dtype.kind in "iub"
            else (item * (1 + _CHANGE * rng.choice([-1, 1], item.shape))).astype(item.dtype)
            for item in inputs
        ]
    try:
        found = _as_it_is(graph, others)
    except Exception:  # there is a form in double precision only
        return [0.0] * len(expected)
    noise = []
    for one, other in zip(found, expected, strict=True):
        with np.errstate(all="ignore"):
            wide = np.complex128 if one.dtype.kind == "c" else np.float64
            apart = np.abs(one.astype(wide) - other.astype(wide))
        noise.append(float(np.max(apart, initial=0.0, where=np.isfinite(apart))))
    return noise


def _wrong_graph(
    graph: Graph, inputs: list[Given], evaluate: Evaluate, expected: list[Bounded]
) -> tuple[str, str, Difference | None] | None:
    """The first result of a graph that is not as expected: which, what is wrong, the numbers."""
    try:
        verify(graph)
    except VerifyError as error:
        return "", f"the graph breaks a rule of the IR: {error}", None
    try:
        results = evaluate(graph, inputs)
    except Exception as error:  # of any kind: before the pass it could be interpreted
        return "", f"{_NOT_RUN}: {type(error).__name__}: {error}", None
    for number, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        one, other = _parts(result), wanted.value
        name = f"result {number}: {graph.outputs[number].type}"
        if one.shape != other.shape or one.dtype != other.dtype:
            return name, f"it was {other.dtype}{list(other.shape)}", None
        differs = difference(one, wanted)
        if differs is not None:
            return name, "", differs
    return None


def _parts(array: Array) -> Array:
    return array if array.dtype.kind != "c" else np.ascontiguousarray(array)[..., None].view(
        array.real.dtype
    )


def _allowance(wanted: Array, tolerance: float, noise: float) -> Array | None:
    wanted = _parts(wanted)
    if wanted.dtype.kind in "iub":
        return None
    size = np.abs(wanted.astype(np.float64))
    finite = np.isfinite(size)
    largest = np.max(size, initial=0.0, where=finite)
    return (np.where(finite, size + largest, 0.0) * tolerance + NOISE * noise) / SLACK


# Loops --------------------------------------------------------------------------------------------


def _first_loops(
    found: Bisection, scheduled: Graph, program: Program, inputs: list[Given], target: Target
) -> Culprit | None:
    from braze.passes.lower import lower_program
    from braze.passes.plan_memory import plan_memory
    from braze.passes.waves import waves_of

    texts: dict[str, list[tuple[str, str]]] = {}
    plan = plan_memory(scheduled, waves_of(scheduled, on_gpu=target.is_gpu))
    lower_program(
        scheduled,
        plan,
        target,
        lambda stage, kernel: texts.setdefault(kernel.name, []).append((stage, str(kernel))),
    )
    cases = {case.node: case for case in kernel_cases(program, scheduled)}
    found.kernels = {case.name: found.origin.origins(node) for node, case in cases.items()}
    culprits: list[Culprit] = []
    points = 0

    def look(node: Node, operands: Sequence[Array], results: Sequence[Array]) -> None:
        case = cases.get(node)
        if case is None or culprits:
            return
        nonlocal points
        points += min(points_of(case.kernel), MOST_POINTS)
        if points_of(case.kernel) > MOST_POINTS or points > MOST_POINTS_IN_ALL:
            found.unread.append(case.name)
            return
        values = dict(zip(case.operands, operands, strict=True))
        found.loops += 1
        culprits.extend(_wrong_stage(case, values, texts[case.name]))

    interpret(scheduled, fitting(scheduled, inputs), look)
    if culprits:
        return culprits[0]
    found.stages.append("loops")
    return None


def _wrong_stage(
    case: KernelCase, values: dict[str, Array], texts: Sequence[tuple[str, str]]
) -> Iterator[Culprit]:
    """The first stage of a kernel's loops that is wrong, if the last one is."""
    expected = case.expected(values)
    last = texts[-1][1]
    if _wrong_loops(case, last, values, expected) is None:
        return
    before = str(case.body)
    seen = ""
    for stage, text in texts:
        if text == seen:
            continue
        wrong = _wrong_loops(case, text, values, expected)
        if wrong is not None:
            result, what, differs = wrong
            yield Culprit("loops", stage, case.name, result, what, differs, before, text)
            return
        before = seen = text


def _wrong_loops(
    case: KernelCase, text: str, values: dict[str, Array], expected: dict[str, Bounded]
) -> tuple[str, str, Difference | None] | None:
    """What is wrong with a kernel's loops: which result, how in words, or the numbers."""
    try:
        loops = case.run_loops(parse_kernel(text), values)
    except (MemoryFault, BrazeError) as error:
        return "", str(error), None
    differing = case.differing(loops, expected)
    if differing is None:
        return None
    name, differs = differing
    return f"%{name}: {case.node.results[case.results.index(name)].type}", "", differs


# Code ---------------------------------------------------------------------------------------------


def _code(
    found: Bisection, inputs: list[Given], target: Target, device: str
) -> Culprit | None:
    graph = found.graph
    executable = _checked(graph, target, device)
    given: list[Any] = []
    for item, role in zip(inputs, graph.roles, strict=True):
        if role == "scalar":
            given.append(item if isinstance(item, (int, float)) else item.item())
        else:
            given.append(stored_on(device, np.array(item, order="C")))
    outputs = []
    for position, value in enumerate(graph.outputs):
        source = graph.aliases.get(position)
        empty = np.empty(value.type.nbytes, np.uint8)
        outputs.append(stored_on(device, empty) if source is None else given[source])
    try:
        executable.run(given, outputs)
    except KernelDifference as error:
        assert error.case is not None
        return _of_code(error, error.case)
    found.stages += ["plan_memory", "compiled code"]
    return None


def _checked(graph: Graph, target: Target, device: str) -> Any:
    """Its code, which is checked when it runs."""
    if device == HOST:
        return checked_executable(graph, target)
    from braze.runtime.cuda.checking import checked_cuda_executable
    from braze.runtime.cuda.devices import device_named

    return checked_cuda_executable(graph, device_named(device))


def _of_code(error: KernelDifference, case: KernelCase) -> Culprit:
    text = str(case.kernel)
    what = str(error)
    if error.difference is None:
        kind: Kind = "plan" if error.is_of_plan else "code"
        stage = "plan_memory" if error.is_of_plan else "compiled code"
        return Culprit(kind, stage, case.name, "", what, None, "", text, error)
    name = error.result
    result = f"%{name}: {case.node.results[case.results.index(name)].type}"
    unread = points_of(case.kernel) > MOST_POINTS
    stage = "lowering or compiled code" if unread else "compiled code"
    return Culprit("code", stage, case.name, result, what, error.difference, "", text, error)
