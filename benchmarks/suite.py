"""The table of workloads: what each is called, does, costs, and which bars it has to pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.programs import Array, Call, Library, Loop

if TYPE_CHECKING:
    from benchmarks.published import Published

CPU = "cpu"  # the other devices are GPUs, "cuda" or "cuda:N"

GROUPS = {
    "limits": "what the machine can do",
    "kernels": "single operations and short chains",
    "training": "training steps: forward pass, gradients, optimizer",
    "inference": "forward passes in evaluation mode",
    "overheads": "what is paid besides the arithmetic",
}


@dataclass(frozen=True)
class Cost:
    """What a workload cannot do without.

    flops: multiplications and additions, in the dtype `arithmetic`.
    read, written: bytes that come from memory and go to it at least once.
    """

    flops: float = 0.0
    arithmetic: str = "f32"
    read: float = 0.0
    written: float = 0.0

    def seconds(self, limits: dict[str, float]) -> float | None:
        """The least time on a machine with these limits; None where nothing was declared.

        Whichever takes longer, the arithmetic or the memory traffic: as many bytes as are both
        read and written go at the better copying speed, the rest at that of reading (or, for
        want of a better figure, copying).
        """
        seconds = []
        if self.flops and f"fma_{self.arithmetic}_all" in limits:
            seconds.append(self.flops / (limits[f"fma_{self.arithmetic}_all"] * 1e9))
        if (self.read or self.written) and "copy" in limits:
            copy = max(limits["copy"], limits.get("copy_streaming", 0.0)) * 1e9
            both = min(self.read, self.written)
            rest = (self.read - both) / (limits.get("read", limits["copy"]) * 1e9)
            seconds.append(2 * both / copy + rest + (self.written - both) / copy)
        return max(seconds, default=None)


@dataclass(frozen=True)
class Workload:
    """One row of the report.

    make: builds the program for a library with PyTorch's names.
    inputs: the arrays that a kernel's program starts from, for the peers with programs of their
        own.
    bars: names of rules in `benchmarks.bars`.
    images: whether torch has a layout to choose (channels last).
    per: units of work in one step, by which its time is divided.
    unit: of the figure: "ms", "us", "s" or "graphs".
    measure: for what needs processes of its own: a function of a `Setting` and a peer that gives
        the figure and, at will, other facts.
    peers: the only peers that this makes sense for; () for all.
    published: in place of `make`, a model that comes as a file.
    on_gpus: whether only GPUs are fast enough for it.
    """

    name: str
    group: str
    about: str
    make: Callable[[Library], Call | Loop] | None = None
    inputs: Callable[[], list[Array]] | None = None
    cost: Cost = field(default_factory=Cost)
    bars: tuple[str, ...] = ()
    images: bool = False
    per: int = 1
    unit: str = "ms"
    measure: Callable[[Any, str], dict[str, Any]] | None = None
    peers: tuple[str, ...] = ()
    published: Published | None = None
    on_gpus: bool = False

    def runs_on(self, device: str) -> bool:
        """Whether it is measured on this device. On GPUs, what has a program is: packages take
        arrays of the host, and overheads are the host's."""
        if device == CPU:
            return not self.on_gpus
        return self.make is not None and self.group != "overheads"


def workloads() -> dict[str, Workload]:
    """All workloads by name, in the order of the report."""
    from benchmarks import (
        inference,
        kernels,
        kernels_convolution,
        kernels_narrow,
        overheads,
        published,
        starting,
        training,
    )

    everything: dict[str, Workload] = {}
    modules = (
        kernels,
        kernels_convolution,
        kernels_narrow,
        training,
        inference,
        published,
        overheads,
        starting,
    )
    for module in modules:
        for workload in module.WORKLOADS:
            if workload.name in everything:
                raise ValueError(f"two workloads are called {workload.name}")
            everything[workload.name] = workload
    return everything


def chosen(names: list[str]) -> list[Workload]:
    """The workloads of these names, groups, or beginnings of names that end in a dot.

    Raises:
        ValueError: one is neither.
    """
    everything = workloads()
    if not names:
        return list(everything.values())
    found: dict[str, Workload] = {}
    for name in names:
        if name == "limits":
            continue  # always measured
        some = [
            w for w in everything.values()
            if name in (w.name, w.group) or w.name.startswith(f"{name}.")
        ]  # fmt: skip
        if not some:
            raise ValueError(
                f"no workload, group or family {name!r}; groups are {', '.join(GROUPS)}; "
                f"workloads are {', '.join(everything)}"
            )
        found.update((w.name, w) for w in some)
    return list(found.values())
