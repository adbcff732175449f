"""What compiling a graph for a GPU leaves: a cubin, the steps that launch its functions, and what
explains them.

In: these.  Out: a `CudaCode`, and its facts as plain JSON values, which packages store beside the
cubin. Code for many sizes has functions (`braze.ir.symint`) in the place of numbers. Nothing here
needs the compiler, PyCUDA or a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

import braze.ir.ops  # noqa: F401  (the parser looks operations up)
from braze.ir.arena import ArenaLayout
from braze.ir.cuda_program import (
    Argument,
    BufferArgument,
    CollectiveStep,
    CudaProgram,
    Fill,
    HostStep,
    Launch,
    Place,
    Repeat,
    Size,
    Step,
)
from braze.ir.loops import CheckSite, HostCall, Placement
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import Target
from braze.runtime.artifact import (
    FailureSite,
    Figures,
    Slot,
    failure_from,
    failures_at,
    figures_from,
    number_from,
    plain,
    slot_from,
    slots_at,
)

_MOST_THREADS = 1024  # of a block


@dataclass(frozen=True, slots=True)
class CudaCode:
    """A compiled graph.

    Attributes:
        program: its steps. cubin: machine code of the launched functions; b"" for none.
        inputs, outputs: in the order of the program's.
        failures: meaning of the failure codes 1, 2, ...
        calls: the captured node of each host call, or -1, by the call's number.
        from_disk: the cubin was compiled before.
    """

    program: CudaProgram
    cubin: bytes
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    failures: tuple[FailureSite, ...]
    calls: tuple[int, ...]
    figures: Figures
    from_disk: bool = False

    @property
    def arena_bytes(self) -> int:
        return self.program.arena_bytes

    def at(self, layout: ArenaLayout, sizes: Sequence[int], name: str = "") -> CudaCode:
        """The same code with every number the one that its function has for some sizes.

        Args:
            name: of the graph of these sizes, if it is another one.

        Raises: ValueError for launches that no GPU makes.
        """
        words = layout.words(sizes)
        program = self.program.at(words)
        _require_sound(program, len(self.calls))
        return replace(
            self,
            program=replace(program, name=name or program.name),
            inputs=slots_at(self.inputs, words),
            outputs=slots_at(self.outputs, words),
            failures=failures_at(self.failures, words),
        )

    def facts(self) -> dict[str, Any]:
        """Everything but the cubin and the source, as JSON values."""
        program = self.program
        return {
            "name": program.name,
            "target": program.target.to_text(),
            "steps": steps_facts(program),
            "placements": {
                n: [p.kind, p.slot, plain(p.offset)] for n, p in program.placements.items()
            },
            "arena_bytes": plain(program.arena_bytes),
            **{name: plain(getattr(self, name)) for name in _EXPLAINED},
        }

    @classmethod
    def loaded(cls, facts: dict[str, Any], objects: Sequence[bytes]) -> CudaCode:
        """As `from_facts`, of code that the disk cache kept."""
        (cubin,) = objects
        return replace(cls.from_facts(facts, cubin), from_disk=True)

    @classmethod
    def from_facts(cls, facts: dict[str, Any], cubin: bytes) -> CudaCode:
        """The code whose `facts` these are.  Raises: ValueError if they are of another form."""
        try:
            inputs = tuple(slot_from(slot) for slot in facts["inputs"])
            outputs = tuple(slot_from(slot) for slot in facts["outputs"])
            failures = tuple(failure_from(site) for site in facts["failures"])
            program = CudaProgram(
                str(facts["name"]),
                Target.from_text(facts["target"]),
                "",
                tuple(_step_from(step) for step in facts["steps"]),
                len(inputs),
                len(outputs),
                {str(n): _placement_from(own) for n, own in facts["placements"].items()},
                number_from(facts["arena_bytes"]),
                tuple(CheckSite(f.message, f.low, f.high, f.location) for f in failures),
            )
            calls = tuple(map(number_from, facts["calls"]))
            figures = figures_from(facts["figures"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"[cuda] facts of another form: {error!r}") from None
        _require_sound(program, len(calls))
        return cls(program, cubin, inputs, outputs, failures, calls, figures)


_EXPLAINED = ("inputs", "outputs", "failures", "calls", "figures")


# Steps as JSON values -----------------------------------------------------------------------------


def steps_facts(program: CudaProgram) -> list[dict[str, Any]]:
    """What a program does, as JSON values."""
    return [_step_facts(step) for step in program.steps]


def _step_facts(step: Step) -> dict[str, Any]:
    if isinstance(step, Launch):
        return {
            "launch": step.kernel,
            "grid": plain(step.grid),
            "block": list(step.block),
            "shared_bytes": step.shared_bytes,
            "arguments": [
                [a.name, plain(a.offset)] if isinstance(a, BufferArgument) else plain(a)
                for a in step.arguments
            ],
        }
    if isinstance(step, Fill):
        return {field.name: plain(getattr(step, field.name)) for field in fields(step)}
    if isinstance(step, HostStep):
        return {"call": str(step.call)}
    if isinstance(step, CollectiveStep):
        return {"collective": str(step.call), "kept": step.kept}
    return {
        "times": plain(step.times),
        "steps": [_step_facts(inner) for inner in step.steps],
        "places": [
            [p.name, p.buffer, plain(p.offset), plain(p.stride), plain(p.edge)] for p in step.places
        ],
    }


def _step_from(facts: dict[str, Any]) -> Step:
    if "launch" in facts:
        return Launch(
            str(facts["launch"]),
            _size_from(facts["grid"]),
            _size_from(facts["block"]),
            number_from(facts["shared_bytes"]),
            tuple(map(_argument_from, facts["arguments"])),
        )
    if "value" in facts:
        numbers = (number_from(facts[name]) for name in ("offset", "value", "nbytes"))
        return Fill(str(facts["name"]), *numbers)
    if "call" in facts:
        return HostStep(_call_from(facts["call"]))
    if "collective" in facts:
        return CollectiveStep(_call_from(facts["collective"]), str(facts["kept"]))
    steps = tuple(_step_from(inner) for inner in facts["steps"])
    return Repeat(number_from(facts["times"]), steps, tuple(map(_place_from, facts["places"])))


def _call_from(text: str) -> HostCall:
    call = parse_kernel(text)
    if not isinstance(call, HostCall):
        raise ValueError(f"[cuda] {call.name} is no host call")
    return call


def _size_from(facts: Any) -> Size:
    x, y, z = map(number_from, facts)
    return x, y, z


def _argument_from(facts: Any) -> Argument:
    if isinstance(facts, list):
        name, offset = facts
        return BufferArgument(str(name), number_from(offset))
    return "status" if facts == "status" else number_from(facts)


def _place_from(facts: Any) -> Place:
    name, buffer, offset, stride, edge = facts
    if edge is not None:
        turn, other = edge
        edge = number_from(turn), str(other)
    return Place(str(name), str(buffer), number_from(offset), number_from(stride), edge)


def _placement_from(facts: Any) -> Placement:
    kind, slot, offset = facts
    if kind not in ("input", "output", "arena"):
        raise ValueError(f"[cuda] {kind!r} is no place for a buffer")
    return Placement(kind, number_from(slot), number_from(offset))


# What would be found on the GPU only --------------------------------------------------------------


def _require_sound(program: CudaProgram, calls: int) -> None:
    """Raise ValueError for buffers that there are not, or launches that no GPU makes."""
    counts = {"input": program.inputs, "output": program.outputs, "arena": 1}
    for name, placement in program.placements.items():
        if not 0 <= placement.slot < counts[placement.kind]:
            raise ValueError(f"[cuda] buffer {name} is in {placement.kind} {placement.slot}")
        if not 0 <= placement.offset <= program.arena_bytes:
            raise ValueError(f"[cuda] buffer {name} lies outside the arena")
    _require_sound_steps(program.steps, program.placements, calls)


def _require_sound_steps(
    steps: tuple[Step, ...], known: Mapping[str, Placement] | frozenset[str], calls: int
) -> None:
    for step in steps:
        if isinstance(step, Launch):
            needed = {a.name for a in step.arguments if isinstance(a, BufferArgument)}
            if min(*step.grid, *step.block) < 1 or prod(step.block) > _MOST_THREADS:
                raise ValueError(f"[cuda] {step.kernel} is launched with {step.grid}, {step.block}")
            if step.shared_bytes < 0:
                raise ValueError(f"[cuda] {step.kernel} has {step.shared_bytes} shared bytes")
        elif isinstance(step, Fill):
            needed = {step.name}
            if step.nbytes < 0 or not 0 <= step.value < 256:
                raise ValueError(f"[cuda] {step.name} is filled with {step.nbytes} {step.value}s")
        elif isinstance(step, (HostStep, CollectiveStep)):
            needed = {buffer.name for buffer in step.call.buffers}
            if isinstance(step, CollectiveStep) and step.kept:
                needed.add(step.kept)
            if not 0 <= step.call.number < calls:
                raise ValueError(f"[cuda] there is no host call {step.call.number}")
        else:
            needed = {p.buffer for p in step.places}
            needed |= {p.edge[1] for p in step.places if p.edge is not None}
            _require_sound_steps(step.steps, frozenset(p.name for p in step.places), calls)
        missing = needed - set(known)
        if missing:
            raise ValueError(f"[cuda] there is no buffer {min(missing)}")
