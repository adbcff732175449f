"""A graph whose values are not all on the CPU, ready to run.

In: a captured graph.  Out: a `PlacedEntry`, which runs its segments and copies in order; see
`braze.runtime.splitting`. Only then are PyCUDA and the CUDA driver needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.ir.devices import HOST
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Location
from braze.ir.types import TensorType
from braze.runtime.config import Tier, config
from braze.runtime.executable import Input, Resident, Sites, site_of
from braze.runtime.splitting import Copy, Segment, Split, split_devices
from braze.runtime.storage import Storage

if TYPE_CHECKING:
    from braze.runtime.cache import Entry
    from braze.runtime.cuda.entries import DeviceEntry


class PlacedEntry:
    """As `braze.runtime.cache.Entry`, for a graph on several devices or on a GPU.

    Attributes:
        graph: as it was captured. split: what is run of it.
    """

    __slots__ = ("_entries", "fingerprint", "graph", "split", "tier")

    def __init__(self, graph: Graph, tier: Tier | None) -> None:
        self.graph = graph
        self.fingerprint = fingerprint(graph)
        self.tier = tier
        self.split: Split = split_devices(graph)
        self._entries = [
            None if isinstance(step, Copy) else _entry_of(step, tier) for step in self.split.steps
        ]

    @property
    def is_compiled(self) -> bool:
        """Whether machine code is loaded for all segments."""
        return all(entry.is_compiled for entry in self._entries if entry is not None)

    def compile(self) -> None:
        """Have machine code for all segments."""
        for entry in self._entries:
            if entry is not None:
                entry.compile()

    def run(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None = None,
        resident: Resident | None = None,
    ) -> None:
        """Compute the outputs; see `braze.runtime.cache.Entry.run`. What is on a GPU is there when
        its stream is done."""
        from braze.runtime.cuda.memory import copy_storage, new_storage

        given = [*inputs, *(resident.storages if resident is not None else ())]
        tier = self.tier or config.tier

        def run(number: int, segment: Segment, given: list[Any], made: list[Any]) -> None:
            entry: Any = self._entries[number]
            lines = _lines_of(sites, segment)
            if segment.device == HOST:
                entry.run(given, made, lines)
            else:
                entry.run(tier, given, made, lines)

        run_split(
            self.split,
            [*given, *outputs],
            lambda t: new_storage(t.device, t.nbytes, str(t)),
            run,
            copy_storage,
        )


def run_split(
    split: Split,
    memory: Sequence[Any],
    new: Callable[[TensorType], Any],
    run: Callable[[int, Segment, list[Any], list[Any]], None],
    copy: Callable[[Any, Any], None],
) -> None:
    """Run segments and copies in order.

    Args:
        memory: of the inputs and outputs.
        new: makes memory for a value in between.
        run: runs a segment (its number, itself, its inputs, its outputs).
        copy: copies from one memory to another.
    """
    slots: dict[int, Any] = dict(enumerate(memory))

    def at(slot: int) -> Any:
        if slot not in slots:
            slots[slot] = new(split.types[slot])
        return slots[slot]

    for number, (step, dead) in enumerate(zip(split.steps, split.last_uses, strict=True)):
        if isinstance(step, Copy):
            copy(slots[step.source], at(step.target))
        else:
            run(number, step, [slots[s] for s in step.inputs], [at(s) for s in step.outputs])
        for slot in dead:
            slots.pop(slot, None)


def _entry_of(segment: Segment, tier: Tier | None) -> Entry | DeviceEntry:
    if segment.device == HOST:
        from braze.runtime.cache import prepare

        found: Any = prepare(segment.graph, tier=tier)
        return found  # type: ignore[no-any-return]
    from braze.runtime.cuda.entries import DeviceEntry

    return DeviceEntry(segment.graph, fingerprint(segment.graph), segment.device)


def _lines_of(sites: Sites | None, segment: Segment) -> Callable[[int], Location | None] | None:
    """The user's lines by a segment's nodes."""
    if sites is None:
        return None
    return lambda node: site_of(sites, segment.nodes[node])
