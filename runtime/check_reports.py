"""What the error of a checked run says: which kernel, how it differs, and the user's line.

In: a kernel, what it was given, and a difference.  Out: a `KernelDifference` with its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from braze.ir.errors import BrazeError, LinAlgError
from braze.ir.graph import Graph, Location
from braze.ir.loops_interpreter import MemoryFault
from braze.ir.rounding import SLACK, Bounded, Difference
from braze.runtime.checked_memory import CheckedMemory
from braze.runtime.config import config
from braze.runtime.executable import Sites, place, site_of
from braze.runtime.kernel_cases import Array, KernelCase, operations_of
from braze.runtime.kernel_difference import KernelDifference
from braze.runtime.provenance import Provenance

_MOST_OPERATIONS = 24  # listed in a message


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a kernel.

    Attributes:
        what: how it differs, a sentence without a subject.
        values: what its operands held.
        result, difference: of the result that differs, if one does.
        is_of_plan: whether it wrote where it was to write.
        cause: what the interpreter raised.
    """

    case: KernelCase
    what: str
    values: Mapping[str, Array]
    result: str = ""
    difference: Difference | None = None
    is_of_plan: bool = False
    cause: Exception | None = None

    def error(
        self, graph: Graph, origin: Provenance, sites: Sites | None, device: str = ""
    ) -> KernelDifference:
        """The error to be raised, with its message and with copies of the values.

        Args:
            origin: of the kernel's nodes. sites: the user's lines in this run.
            device: the GPU that it ran on.
        """
        case = self.case
        values = {name: array.copy() for name, array in self.values.items()}
        error = KernelDifference(
            "", graph, case, values, self.result, self.difference,
            is_of_plan=self.is_of_plan, device=device,
        )  # fmt: skip
        on = f" on {device}" if device else ""
        message = f"[check] kernel @{case.name} of graph @{graph.name}{on} {self.what}"
        message += f"\n  it computes: {_operations(case)}"
        message += _reproducer(error, case)
        error.args = (message + _where(error, case, origin, sites),)
        return error


def wrong_result(case: KernelCase, memory: CheckedMemory, *, failed: bool) -> Wrong | None:
    """Compare a kernel's results with the interpreter's.

    Args:
        failed: a check in the program or a host call has reported an error, which the user will be
            told of; kernels behind it do nothing.
    """
    values = {name: memory.copies[name] for name in case.operands}
    try:
        expected = case.expected(values)
    except (IndexError, BrazeError, LinAlgError, np.linalg.LinAlgError) as error:
        if failed:
            return None
        what = f"ran, where the interpreter raises: {error}"
        return Wrong(case, what, values, cause=error)
    if failed:
        return None
    differing = case.differing({name: memory.now(name) for name in expected}, expected)
    if differing is None or memory.is_disturbed(case):
        return None
    name, differs = differing
    what = _comparison(case, name, differs, expected[name]) + _blame(case, values, expected)
    return Wrong(case, what, values, name, differs)


def wrong_place(fault: tuple[KernelCase, str, bool], memory: CheckedMemory) -> Wrong:
    """What `CheckedMemory.fault` has found."""
    case, what, is_of_plan = fault
    known = memory.copies.keys() & case.operands
    values = {name: memory.copies[name] for name in known}
    return Wrong(case, what, values, is_of_plan=is_of_plan)


def _reproducer(error: KernelDifference, case: KernelCase) -> str:
    """How to get a program that runs the kernel alone; with `config.dump_dir` it is written."""
    if not config.dump_dir:
        return (
            "\n  reproducer: `error.repro(path)` of this error, or BRAZE_DUMP=<directory> "
            "writes it there"
        )
    path = Path(config.dump_dir, f"repro-{case.name}.py")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        error.repro(path)
    except OSError as failure:
        return f"\n  no reproducer could be written: {failure}"
    return f"\n  reproducer: python {path}"


def _where(
    error: KernelDifference, case: KernelCase, origin: Provenance, sites: Sites | None
) -> str:
    """The user's line of a kernel, in this run: that of the operation whose result is wrong."""
    location: Location | None = case.node.location
    origins = origin.origins(case.node)
    if error.result:
        node = case.body.outputs[case.results.index(error.result)].node
        if node is not None and node.location is not None:
            location, origins = node.location, [origin.position(node.location)]
    if origins and origins[0] >= 0:
        assert error.graph is not None
        location = error.graph.nodes[origins[0]].location or location
        if sites is not None:
            location = site_of(sites, origins[0]) or location
    return place(location)


def _comparison(case: KernelCase, name: str, differs: Difference, expected: Bounded) -> str:
    """How a result differs, a sentence without a subject."""
    value = expected.value
    result = case.node.results[case.results.index(name)]
    at = ", ".join(map(str, differs.index))
    worst = ", ".join(map(str, differs.worst))
    apart = abs(_number(differs.found) - _number(differs.expected))
    return (
        f"differs from the interpreter in {differs.count} of {value.size} elements of "
        f"%{name}: {result.type}\n"
        f"  first [{at}]: expected {differs.expected!s}, found {differs.found!s}, "
        f"{apart:.3g} apart where {differs.allowed:.3g} is allowed "
        f"({SLACK:g} times the bound on rounding for {result.dtype.name})\n"
        f"  worst [{worst}]: {differs.largest:.3g} apart"
    )


def _number(value: Any) -> float:
    return float(value)


def _blame(case: KernelCase, values: dict[str, Array], expected: dict[str, Bounded]) -> str:
    """Which of the two steps from the fusion node to machine code went wrong."""
    try:
        loops = case.loops(values)
    except MemoryFault as fault:
        return f"\n  its loops are at fault, before any code is generated: {fault}"
    if loops is None:
        return ""
    if case.differing(loops, expected) is not None:
        return "\n  its loops differ, too, when they are interpreted: lowering is at fault"
    return "\n  its loops are right when they are interpreted: code generation is at fault"


def _operations(case: KernelCase) -> str:
    """The operations of a kernel by lines."""
    lines: dict[str, list[str]] = {}
    for node in operations_of(case)[:_MOST_OPERATIONS]:
        where = "" if node.location is None else f" ({_short(node.location)})"
        lines.setdefault(where, []).append(node.op.name)
    left_out = len(operations_of(case)) - _MOST_OPERATIONS
    more = f" and {left_out} more" if left_out > 0 else ""
    return "; ".join(", ".join(names) + where for where, names in lines.items()) + more


def _short(location: Location) -> str:
    return f"{Path(location.file).name}:{location.line}"
