"""What compiling a graph leaves: object code and the facts needed to load, run and explain it.

In: objects and facts.  Out: an `Artifact`, and its facts as plain JSON values, which the disk cache
and packages store beside the objects.  Nothing here needs the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from braze.ir.arena import ArenaLayout
from braze.ir.graph import Graph, Location
from braze.ir.symint import SymInt, value_at


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or an output: its name for people, dtype by IR name, shape, and an input's role."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str = "data"


@dataclass(frozen=True, slots=True)
class FailureSite:
    """What a failure code means: the operation, its range, and where it was in the graph.

    node: position among the captured graph's nodes, or -1 where the passes lost it.
    location: the user's line when the graph was compiled; another call may come from elsewhere.
    """

    message: str
    low: int
    high: int
    node: int = -1
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class CallSite:
    """A host call.

    text: of the `HostCall`, by the loop IR's grammar, its location included.
    node: position among the captured graph's nodes, or -1 where the passes lost it.
    """

    text: str
    node: int = -1


@dataclass(frozen=True, slots=True)
class Figures:
    """What the compiler says of its work.

    kernels_before, kernels_after: fusion's; bytes_before: of intermediate values without a plan;
    lower_bound: the least arena that any plan could have; refusals: sentences, why not fused.
    """

    kernels_before: int = 0
    kernels_after: int = 0
    bytes_before: int = 0
    lower_bound: int = 0
    refusals: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled graph.

    Attributes:
        name: the graph's.
        target: the text of the `Target` that the code is made for.
        main: symbol of the entry point, ``i64 main(ptr buffers, ptr pool)``.
        objects: ELF objects; between them they define every symbol but libc's.
        inputs, outputs: in the order of the buffers.
        arena_bytes: of the block of intermediate values; scratch_bytes: of each thread's workspace.
        failures: meaning of the failure codes 1, 2, ...
        calls: the calls of NumPy that the code makes, by their numbers.
        words: numbers that the code is given behind its pointers: its size, if it serves several.
    """

    name: str
    target: str
    main: str
    objects: tuple[bytes, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    arena_bytes: int
    scratch_bytes: int
    failures: tuple[FailureSite, ...] = ()
    figures: Figures = Figures()
    calls: tuple[CallSite, ...] = ()
    words: tuple[int, ...] = ()

    def at(self, layout: ArenaLayout, sizes: Sequence[int], name: str = "") -> Artifact:
        """The same code with every number the one that its function has for some sizes.

        Args:
            name: of the graph of these sizes, if it is another one.
        """
        *words, nbytes = layout.words(sizes)
        return replace(
            self,
            name=name or self.name,
            inputs=slots_at(self.inputs, words),
            outputs=slots_at(self.outputs, words),
            arena_bytes=nbytes,
            scratch_bytes=value_at(self.scratch_bytes, words),
            failures=failures_at(self.failures, words),
            words=tuple(words),
        )

    def facts(self) -> dict[str, Any]:
        """Everything but the objects, as JSON values."""
        return {
            field.name: plain(getattr(self, field.name))
            for field in fields(self)
            if field.name != "objects"
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any], objects: tuple[bytes, ...]) -> Artifact:
        """The artifact whose `facts` these are.  Raises: ValueError if they are of another form."""
        try:
            return cls(
                name=str(facts["name"]),
                target=str(facts["target"]),
                main=str(facts["main"]),
                objects=objects,
                inputs=tuple(slot_from(slot) for slot in facts["inputs"]),
                outputs=tuple(slot_from(slot) for slot in facts["outputs"]),
                arena_bytes=number_from(facts["arena_bytes"]),
                scratch_bytes=number_from(facts["scratch_bytes"]),
                failures=tuple(failure_from(site) for site in facts["failures"]),
                figures=figures_from(facts["figures"]),
                calls=tuple(CallSite(**site) for site in facts.get("calls", ())),
                words=tuple(map(int, facts.get("words", ()))),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"[artifact] facts of another form: {error!r}") from None


def slots_of(graph: Graph) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    """The inputs and outputs of a graph."""
    inputs = tuple(
        Slot(value.name or f"input{i}", value.dtype.name, value.shape, role)
        for i, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True))
    )
    outputs = tuple(
        Slot(value.name or f"output{i}", value.dtype.name, value.shape)
        for i, value in enumerate(graph.outputs)
    )
    return inputs, outputs


def slots_at(slots: Sequence[Slot], words: Sequence[int]) -> tuple[Slot, ...]:
    """Inputs or outputs, whose shapes may be functions, for some words."""
    return tuple(
        replace(slot, shape=tuple(value_at(extent, words) for extent in slot.shape))
        for slot in slots
    )


def failures_at(sites: Sequence[FailureSite], words: Sequence[int]) -> tuple[FailureSite, ...]:
    """Failures, whose ranges may be functions, for some words."""
    return tuple(
        replace(site, low=value_at(site.low, words), high=value_at(site.high, words))
        for site in sites
    )


def layout_facts(layout: ArenaLayout) -> dict[str, Any]:
    """An arena's layout as JSON values; its buffers' names, which only the compiler needs, are
    left out."""
    return {"sizes": plain(layout.sizes), "below": plain(layout.below)}


def layout_from(facts: dict[str, Any]) -> ArenaLayout:
    """The layout whose `layout_facts` these are.  Raises: ValueError if they are none."""
    sizes = tuple(tuple(map(number_from, block)) for block in facts["sizes"])
    below = tuple(tuple(map(number_from, block)) for block in facts["below"])
    for at, others in enumerate(below):
        if any(not 0 <= other < at for other in others):
            raise ValueError("[artifact] a block of the arena lies below a later one")
    if len(sizes) != len(below) or not all(sizes):
        raise ValueError("[artifact] the arena's blocks do not fit each other")
    return ArenaLayout(sizes, below, {})


def number_from(plain: Any) -> int:
    """An integer that `facts` gave: itself, or ``{"value": ..., "form": [...]}`` of a `SymInt`.

    Raises: ValueError if it is neither.
    """
    if isinstance(plain, int) and not isinstance(plain, bool):
        return plain
    if isinstance(plain, dict) and plain.keys() == {"value", "form"}:
        value, form = plain["value"], _form(plain["form"])
        if type(value) is int and isinstance(form, tuple):
            return SymInt(value, form)
    raise ValueError(f"[artifact] {plain!r} is no integer")


def _form(plain: Any) -> Any:
    match plain:
        case int() if not isinstance(plain, bool):
            return plain
        case ["affine", int(word), int(factor), int(summand)] if word >= 0:
            return "affine", word, factor, summand
        case ["+" | "*" | "//" | "%" | "min" | "max" as op, left, right]:
            return op, _form(left), _form(right)
    raise ValueError(f"[artifact] {plain!r} is no function of the size")


def plain(value: Any) -> Any:
    """What these classes hold, as JSON values."""
    if isinstance(value, SymInt):
        return {"value": int(value), "form": plain(value.form)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, (Slot, FailureSite, Location, Figures, CallSite)):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def slot_from(facts: dict[str, Any]) -> Slot:
    """The slot of these facts.  Raises: ValueError, KeyError, TypeError if they are none."""
    shape = tuple(map(number_from, facts["shape"]))
    return Slot(facts["name"], facts["dtype"], shape, facts["role"])


def failure_from(facts: dict[str, Any]) -> FailureSite:
    """The failure of these facts.  Raises: as `slot_from`."""
    location = facts["location"]
    return FailureSite(
        facts["message"],
        number_from(facts["low"]),
        number_from(facts["high"]),
        facts["node"],
        None if location is None else Location(**location),
    )


def figures_from(facts: dict[str, Any]) -> Figures:
    """The figures of these facts.  Raises: as `slot_from`."""
    return Figures(**{**facts, "refusals": tuple(facts["refusals"])})
