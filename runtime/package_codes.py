"""The code of a package that serves many sizes of one dimension.

In: what the manifest says of the dimension and of the code.  Out: a `Dynamic`, which takes the size
from a call's arrays, and `SizedCodes`, which have an `Instance` for each size that was met.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.ir.arena import ArenaLayout
from braze.ir.errors import ShapeError
from braze.runtime.artifact import Artifact, Slot, layout_from, number_from
from braze.runtime.package_format import Archive
from braze.runtime.package_instance import Instance
from braze.runtime.symbolic_code import instance_of

_INSTANCES_KEPT = 64


def code_of(
    archive: Archive, entry: Mapping[str, Any], everything: Mapping[str, np.ndarray]
) -> tuple[Artifact, dict[str, np.ndarray]]:
    """The code that the manifest describes, and those of the file's arrays that it reads."""
    objects = tuple(bytes(archive[name]) for name in entry["objects"])
    weights = {slot: everything[name] for slot, name in entry["weights"].items()}
    return Artifact.from_facts(entry["facts"], objects), weights


@dataclass(frozen=True, slots=True)
class SizedCode:
    """A package's code for the sizes from `lowest` to `highest`.

    layout: the arena's, of code for more than one size; None of code for one.
    weights: the arrays that the code reads.
    """

    lowest: int
    highest: int
    artifact: Artifact
    layout: ArenaLayout | None
    weights: dict[str, np.ndarray]


def sized_code_of(
    archive: Archive, entry: Mapping[str, Any], everything: Mapping[str, np.ndarray]
) -> SizedCode:
    """The code that the manifest describes.  Raises: ValueError if it cannot be."""
    artifact, weights = code_of(archive, entry, everything)
    layout = None if entry["layout"] is None else layout_from(entry["layout"])
    lowest, highest = number_from(entry["lowest"]), number_from(entry["highest"])
    if layout is None and lowest != highest:
        raise ValueError(f"code for the sizes {lowest} to {highest} has no layout")
    return SizedCode(lowest, highest, artifact, layout, weights)


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A dimension whose size calls choose.

    Attributes:
        name: of the dimension.
        lowest, highest: the least and the greatest size.
        axes: input -> the axes that have the size.
    """

    name: str
    lowest: int
    highest: int
    axes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, facts: dict[str, Any], names: Sequence[str]) -> Dynamic:
        """What the manifest says.  Raises: ValueError if it cannot be."""
        axes = {name: tuple(map(number_from, own)) for name, own in facts["axes"].items()}
        made = cls(
            str(facts["name"]), number_from(facts["lowest"]), number_from(facts["highest"]), axes
        )
        if not 1 <= made.lowest <= made.highest or not any(axes.values()):
            raise ValueError(f"the sizes of dimension {made.name} are out of range")
        if not axes.keys() <= set(names):
            raise ValueError(f"dimension {made.name} is one of inputs that there are not")
        return made

    def require_axes(self, slots: Sequence[Slot]) -> None:
        """Raise ValueError unless the axes of the inputs, of the least size, have that size."""
        shapes = {slot.name: slot.shape for slot in slots}
        for name, axes in self.axes.items():
            for axis in axes:
                if not 0 <= axis < len(shapes[name]) or shapes[name][axis] != self.lowest:
                    raise ValueError(f"dimension {axis} of input {name} is not {self.name}")

    def size_of(self, model: str, slots: Sequence[Slot], arrays: Sequence[Any]) -> int:
        """The size in a call.  Raises: ShapeError, which names the input and the dimension."""
        found, first = 0, ""
        for slot, array in zip(slots, arrays, strict=True):
            for axis in self.axes.get(slot.name, ()):
                shape = np.shape(array)
                if len(shape) != len(slot.shape):
                    raise ShapeError(
                        f"[{model}] input {slot.name} must have {len(slot.shape)} dimensions, "
                        f"given shape {list(shape)}"
                    )
                size, here = shape[axis], f"dimension {axis} of input {slot.name}"
                if not self.lowest <= size <= self.highest:
                    raise ShapeError(
                        f"[{model}] {here} ({self.name}) must be {self.lowest} to {self.highest}, "
                        f"given {size}"
                    )
                if first and size != found:
                    raise ShapeError(
                        f"[{model}] {here} must be equal to {first} ({self.name}): "
                        f"{size} != {found}"
                    )
                found, first = size, first or here
        return found


def require_every_size(codes: Sequence[SizedCode], dynamic: Dynamic) -> None:
    """Raise ValueError if there is a size that no code serves."""
    reached = dynamic.lowest - 1
    for lowest, highest in sorted((code.lowest, code.highest) for code in codes):
        if lowest > reached + 1:
            break
        reached = max(reached, highest)
    if reached < dynamic.highest:
        raise ValueError(f"no code serves size {reached + 1} of dimension {dynamic.name}")


class SizedCodes:
    """A package's code for ranges of sizes.  Calls of several threads are safe."""

    def __init__(
        self,
        model: str,
        archive: Archive,
        entries: Sequence[dict[str, Any]],
        names: Sequence[str],
        everything: Mapping[str, np.ndarray],
    ) -> None:
        self._model = model
        self._names = names
        self._lock = threading.Lock()
        self._instances: OrderedDict[int, Instance] = OrderedDict()
        self._codes = [sized_code_of(archive, entry, everything) for entry in entries]

    def require_all(self, dynamic: Dynamic) -> None:
        """Raise ValueError if there is a size that no code serves."""
        for code in self._codes:
            if code.layout is not None:
                for size in (code.lowest, code.highest):
                    instance_of(code.artifact, code.layout, size)
        require_every_size(self._codes, dynamic)

    def instance(self, size: int) -> Instance:
        """The code for a size that is served."""
        with self._lock:
            found = self._instances.get(size)
            if found is None:
                found = self._instances[size] = self._made(size)
                if len(self._instances) > _INSTANCES_KEPT:
                    self._instances.popitem(last=False)
            else:
                self._instances.move_to_end(size)
            return found

    def _made(self, size: int) -> Instance:
        # Code for one size first, then the code that was chosen for the nearest.
        serving = [code for code in self._codes if code.lowest <= size <= code.highest]
        code = min(serving, key=lambda code: code.highest - code.lowest)
        artifact = code.artifact
        if code.layout is not None:
            artifact = instance_of(artifact, code.layout, size)
        return Instance(self._model, artifact, self._names, code.weights)
