"""Run a reproducer: what the programs that `braze.runtime.repro` writes call.

In: the texts and arrays of such a program, and its command line.  Out: what is printed, and the
status: 0 if compiled code does what the interpreters do, 1 if not, 2 if it cannot be told.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import braze.ir.ops  # noqa: F401  (the parser looks operations up)
from braze.codegen.llvm.panels import Order, packed
from braze.ir.devices import HOST
from braze.ir.errors import BrazeError
from braze.ir.graph import Graph, Node, types_of
from braze.ir.loops import Program
from braze.ir.loops_interpreter import MemoryFault
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_points import points_of
from braze.ir.op import op_named
from braze.ir.parser import parse_graph
from braze.ir.rounding import Bounded, difference, interpret_bounded
from braze.ir.target import Target, can_run
from braze.runtime.cpu import host_runner, host_target
from braze.runtime.executable import Executable
from braze.runtime.kernel_cases import MOST_POINTS, Array, KernelCase, is_mixed
from braze.runtime.kernel_program import KernelProgram, program_of
from braze.runtime.package_targets import device_name
from braze.runtime.placed_insides import stored_on
from braze.runtime.pool import set_num_threads
from braze.runtime.repro import array_from
from braze.runtime.storage import Storage

NO_ORDERS: Mapping[str, Order] = {}


def _arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--time", action="store_true", help="time the compiled code")
    parser.add_argument("--show", action="store_true", help="show what the compiler makes of it")
    parser.add_argument("--threads", type=int, help="how many, in place of those of the run")
    parser.add_argument("--device", help="where it runs, in place of that of the run")
    parser.add_argument("--all", action="store_true", help="interpret large loops, too")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Where:
    """Where the code of a reproducer runs, and what it is compiled for."""

    device: str
    target: Target
    threads: int

    @classmethod
    def of(
        cls, args: argparse.Namespace, threads: int, device: str, target: str
    ) -> Where | None:
        """As the program and its command line say; None, with a message, if it cannot be."""
        device = device_name(args.device or device)
        if device != HOST:
            from braze.runtime.cuda.devices import device_named

            return cls(device, device_named(device).target, 0)
        wanted = Target.from_text(target) if target else host_target()
        reason = can_run(wanted, host_runner())
        if reason is not None:
            print(f"this processor cannot run code for {wanted.name}: it {reason}", file=sys.stderr)
            return None
        threads = args.threads or threads
        set_num_threads(threads)
        return cls(HOST, wanted, threads)

    def __str__(self) -> str:
        if self.device != HOST:
            return f"{self.device}, {self.target.name}"
        return f"{self.target.name}, {self.threads} threads"


# Kernels ------------------------------------------------------------------------------------------


def run_kernel(
    body: str,
    loops: str,
    operands: Sequence[str],
    results: Sequence[str],
    overwritten: Mapping[str, str],
    arrays: Mapping[str, Any],
    threads: int = 1,
    device: str = HOST,
    target: str = "",
    orders: Mapping[str, Order] = NO_ORDERS,
) -> int:
    """Run one kernel, compiled and interpreted, and compare.

    Args:
        body: of its fusion node, in the graph IR. loops: in the loop IR.
        operands, results: the buffers of the body's inputs and outputs.
        overwritten: result's buffer -> operand's that lies at the same place.
        arrays: by buffer, as `braze.runtime.repro` describes them.
        threads, device: unless the command line says otherwise.
        target: text of what it is compiled for; "" for the device.
        orders: of the operands that the loops read in another order than the body.

    Returns:
        The program's status.
    """
    case = case_of(body, loops, operands, results, overwritten)
    args = _arguments(f"Run kernel @{case.name}, compiled and interpreted.")
    where = Where.of(args, threads, device, target)
    if where is None:
        return 2
    values = {name: np.asarray(array_from(entry)) for name, entry in arrays.items()}
    print(f"kernel @{case.name} for {where}")
    if where.device != HOST:
        case = replace(case, mixed=False)  # GPUs have no form that computes several results
    if args.show:
        _show_kernel(case, where)
    program = _kernel_program(case, where)
    given = {n: packed(v, orders[n]) if n in orders else v for n, v in values.items()}
    if args.time:
        seconds, count = program.seconds(given)
        print(f"time: {seconds * 1e6:.2f} us, the quickest of {count} runs")
    raised: dict[str, Exception] = {}
    found: dict[str, Array] = {}
    expected: dict[str, Bounded] = {}
    try:
        expected = case.expected(values)
    except (IndexError, BrazeError) as error:
        raised["interpreter"] = error
    try:
        found = program.run(given)
    except (IndexError, BrazeError) as error:
        raised["compiled code"] = error
    if raised:
        for who, what in raised.items():
            print(f"the {who} raises {type(what).__name__}: {what}")
        return int(len(raised) == 1)
    wrong = _compared("compiled", found, expected)
    _compare_loops(case, given, expected, whatever_it_takes=args.all)
    return int(wrong)


def _kernel_program(case: KernelCase, where: Where) -> KernelProgram:
    if where.device == HOST:
        return KernelProgram(case, where.target)
    from braze.runtime.cuda.devices import device_named
    from braze.runtime.cuda.kernel_program import CudaKernelProgram

    return CudaKernelProgram(case, device_named(where.device))


def case_of(
    body: str,
    loops: str,
    operands: Sequence[str],
    results: Sequence[str],
    overwritten: Mapping[str, str],
) -> KernelCase:
    """A kernel by its texts."""
    graph = parse_graph(body)
    kind: dict[str, Any] = {"kind": "pointwise"}
    node = Node(op_named("fusion"), graph.inputs, kind, types_of(graph.outputs), None, graph)
    kernel = parse_kernel(loops)
    names = tuple(operands), tuple(results), dict(overwritten)
    return KernelCase(0, kernel, node, *names, is_mixed(kernel))


def _compared(
    who: str, found: Mapping[str, Array], expected: Mapping[str, Bounded], label: str = "%"
) -> bool:
    """Print how results compare with what is expected; whether any is wrong."""
    wrong = False
    for name, bounded in expected.items():
        differs = difference(found[name], bounded)
        value = bounded.value
        what = f"{label}{name}: {value.dtype}{list(value.shape)}"
        if differs is None:
            print(f"{who}: {what} as expected, at most {_apart(found[name], value):.3g} apart")
            continue
        wrong = True
        print(
            f"{who}: {what} DIFFERS in {differs.count} of {value.size} elements\n"
            f"  first {list(differs.index)}: expected {differs.expected!s}, found "
            f"{differs.found!s}, where {differs.allowed:.3g} apart is allowed\n"
            f"  worst {list(differs.worst)}: {differs.largest:.3g} apart"
        )
    return wrong


def _apart(found: Array, value: Array) -> float:
    with np.errstate(all="ignore"):
        apart = np.abs(found.astype(np.float64) - value.astype(np.float64))
    return float(np.max(apart, initial=0.0, where=np.isfinite(apart)))


def _compare_loops(
    case: KernelCase,
    values: Mapping[str, Array],
    expected: Mapping[str, Bounded],
    *,
    whatever_it_takes: bool,
) -> None:
    points = points_of(case.kernel)
    if points > MOST_POINTS and not whatever_it_takes:
        print(f"loops: not interpreted, since they have {points} points; --all does it")
        return
    try:
        _compared("loops", case.run_loops(case.kernel, values), expected)
    except MemoryFault as fault:
        print(f"loops: {fault}")


def _show_kernel(case: KernelCase, where: Where) -> None:
    print(case.kernel)
    program = program_of(case.kernel)
    if where.device != HOST:
        from braze.runtime.cuda.insides import generate_for_gpu

        _, functions = generate_for_gpu(program, where.target)
        for _, code in functions.values():
            print("\n".join(f"-- {language}\n{text}" for language, text in code.items()))
        return
    from braze.codegen.llvm.compile import assembly
    from braze.codegen.llvm.program import generate

    for name, text in generate(program, where.target).modules:
        print(f"-- {name}\n{text}\n{assembly(text, where.target)}")


# Graphs -------------------------------------------------------------------------------------------


def run_graph(
    text: str,
    arrays: Mapping[int, Any],
    threads: int = 1,
    device: str = HOST,
    target: str = "",
    orders: Mapping[str, Order] = NO_ORDERS,
) -> int:
    """Run a graph through all stages of the compiler, and compare each with the interpreter.

    Args:
        text: of the graph.
        arrays: of its inputs, as `braze.runtime.repro` describes them.
        threads, device: unless the command line says otherwise.
        target: text of what it is compiled for; "" for the device.
        orders: of the weights that a package's code reads in another order; it is compiled and
            compared as well.

    Returns:
        The program's status.
    """
    from braze.runtime.bisecting import bisect_graph
    from braze.runtime.bisection_text import describe

    graph = parse_graph(text)
    args = _arguments(f"Compile graph @{graph.name}, and compare each stage.")
    where = Where.of(args, threads, device, target)
    if where is None:
        return 2
    inputs = [array_from(arrays[number]) for number in range(len(graph.inputs))]
    print(f"graph @{graph.name} for {where}")
    if args.show:
        from braze.runtime.insides import look_inside

        for stage in look_inside(graph, where.target).stages:
            print(f"== {stage.name}\n{stage.text}")
    if args.time:
        _time_graph(graph, inputs, where)
    try:
        found = bisect_graph(graph, inputs, where.target, where.device)
    except Exception as error:
        if not isinstance(error, (IndexError, BrazeError)):
            traceback.print_exc()
        print(f"it raises {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(describe(found))
    if found.culprit is not None or not orders or where.device != HOST:
        return int(found.culprit is not None)
    return int(_compare_packed(graph, inputs, where.target, orders))


def _compare_packed(
    graph: Graph, inputs: Sequence[Any], target: Target, orders: Mapping[str, Order]
) -> bool:
    """Compare the code that reads weights in other orders, as in a package, with the interpreter.

    Returns: whether a result is wrong.
    """
    from braze.codegen.llvm.panels import Packer
    from braze.runtime.compiler import compile_artifact
    from braze.runtime.kept_objects import pool_object
    from braze.runtime.pool import get_pool

    arrays = {value.name or "": item for value, item in zip(graph.inputs, inputs, strict=True)}
    pack = Packer({name: arrays[name] for name in orders}, target, dict(orders))
    programs: list[Program] = []

    def change(program: Program) -> Program:
        programs.append(pack(program))
        return programs[-1]

    artifact = compile_artifact(graph, target, change=change)
    mixed = any(is_mixed(kernel) for program in programs for kernel in program.kernels())
    values = [np.asarray(item) for item in inputs]
    expected = interpret_bounded(graph, values, mixed=mixed)
    given = [
        item if isinstance(item, (int, float)) else stored_on(HOST, np.array(item))
        for item in {**arrays, **pack.given}.values()
    ]
    results = [Storage(value.type.nbytes) for value in graph.outputs]
    get_pool(compile=pool_object)
    Executable(artifact).run(given, results)
    found, wanted = {}, {}
    pairs = zip(graph.outputs, results, expected, strict=True)
    for number, (value, storage, bounded) in enumerate(pairs):
        found[str(number)] = storage.array(value.dtype.numpy, value.shape)
        wanted[str(number)] = bounded
    return _compared("compiled for weights in their package's order", found, wanted, "output ")


def _time_graph(graph: Graph, inputs: Sequence[Any], where: Where) -> None:
    from braze.runtime.timing import duration, measure, timed_executable

    given = [
        item if isinstance(item, (int, float)) else stored_on(where.device, np.array(item))
        for item in inputs
    ]
    if where.device == HOST:
        times = measure(timed_executable(graph, where.target), graph, given, 5, 0.5)
    else:
        from braze.runtime.cuda.devices import device_named
        from braze.runtime.cuda.timing import measure_on_device, timed_cuda_executable

        executable = timed_cuda_executable(graph, device_named(where.device))
        times = measure_on_device(executable, graph, given, 5, 0.5)
    print(f"time: {duration(times) * 1e6:.2f} us, of {len(times)} kernels:")
    for time in times:
        print(f"  {time.seconds * 1e6:10.2f} us  @{time.kernel.name}")
