"""The code of a package that serves many sizes of some dimensions.

In: what the manifest says of the dimensions and of the code.  Out: a `Dynamic`, which takes the
sizes from a call's arrays, and `SizedCodes`, which have an `Instance` for each that were met.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import numpy as np

from braze.ir.arena import ArenaLayout
from braze.ir.errors import ShapeError
from braze.ir.polynomials import Point, corners
from braze.runtime.artifact import Artifact, Slot, layout_from
from braze.runtime.package_facts import require_code, require_same
from braze.runtime.package_format import Archive
from braze.runtime.package_instance import Description, Instance
from braze.runtime.symbolic_code import Code, are_within

if TYPE_CHECKING:
    from braze.runtime.cuda.code import CudaCode
    from braze.runtime.cuda.package_instance import CudaInstance
    from braze.runtime.package_recipes import Recipe

AnyInstance: TypeAlias = "Instance | Description | CudaInstance"

_INSTANCES_KEPT = 64
MOST_DIMENSIONS = 2


def code_of(
    archive: Archive, entry: Mapping[str, Any], everything: Mapping[str, np.ndarray]
) -> tuple[Artifact, dict[str, np.ndarray]]:
    """The code that the manifest describes, and those of the file's arrays that it reads."""
    objects = tuple(bytes(archive[name]) for name in entry["objects"])
    weights = {slot: everything[name] for slot, name in entry["weights"].items()}
    return Artifact.from_facts(entry["facts"], objects), weights


def gpu_code_of(
    archive: Archive, entry: Mapping[str, Any], everything: Mapping[str, np.ndarray]
) -> tuple[CudaCode, dict[str, np.ndarray]]:
    """As `code_of`, of code for a GPU."""
    from braze.runtime.cuda.code import CudaCode

    weights = {slot: everything[name] for slot, name in entry["weights"].items()}
    return CudaCode.from_facts(entry["facts"], bytes(archive[entry["cubin"]])), weights


@dataclass(frozen=True, slots=True)
class SizedCode(Generic[Code]):
    """A package's code for the sizes from `lowest` to `highest`, of each dimension.

    layout: the arena's, of code for more than one choice of sizes; None of code for one.
    weights: the arrays that the code reads.
    recipe: what it was compiled from, while a package is written.
    """

    lowest: Point
    highest: Point
    artifact: Code
    layout: ArenaLayout | None
    weights: dict[str, np.ndarray]
    recipe: Recipe | None = None

    @property
    def choices(self) -> int:
        """How many choices of sizes it serves."""
        return prod(b - a + 1 for a, b in zip(self.lowest, self.highest, strict=True))

    def corners(self) -> list[Point]:
        """The smallest sizes, the largest, and those that are smallest in some dimensions only."""
        return corners(self.lowest, self.highest)


def sized_code_of(
    archive: Archive, entry: Mapping[str, Any], everything: Mapping[str, np.ndarray]
) -> SizedCode[Any]:
    """The code that the manifest describes.  Raises: ValueError if it cannot be."""
    artifact: Artifact | CudaCode
    if "cubin" in entry:
        artifact, weights = gpu_code_of(archive, entry, everything)
    else:
        artifact, weights = code_of(archive, entry, everything)
    layout = None if entry["layout"] is None else layout_from(entry["layout"])
    lowest, highest = (tuple(map(_whole, entry[end])) for end in ("lowest", "highest"))
    if layout is None and lowest != highest:
        raise ValueError(f"code for the sizes {lowest} to {highest} has no layout")
    return SizedCode(lowest, highest, artifact, layout, weights)


def _whole(plain: Any) -> int:
    """A number that is no function.  Raises: ValueError."""
    if type(plain) is not int:
        raise ValueError(f"{plain!r} is no size")
    return plain


@dataclass(frozen=True, slots=True)
class DynamicDim:
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
    def of(cls, facts: dict[str, Any], names: Sequence[str]) -> DynamicDim:
        """What the manifest says.  Raises: ValueError if it cannot be."""
        axes = {name: tuple(map(_whole, own)) for name, own in facts["axes"].items()}
        made = cls(str(facts["name"]), _whole(facts["lowest"]), _whole(facts["highest"]), axes)
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


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The dimensions whose sizes calls choose: one, or two."""

    dims: tuple[DynamicDim, ...]

    @classmethod
    def of(cls, facts: Sequence[dict[str, Any]], names: Sequence[str]) -> Dynamic:
        """What the manifest says.  Raises: ValueError if it cannot be."""
        dims = tuple(DynamicDim.of(own, names) for own in facts)
        if not 1 <= len(dims) <= MOST_DIMENSIONS:
            raise ValueError(f"a package has {len(dims)} dynamic dimensions")
        axes = [(n, axis) for dim in dims for n, own in dim.axes.items() for axis in own]
        if len({dim.name for dim in dims}) < len(dims) or len(set(axes)) < len(axes):
            raise ValueError("two dynamic dimensions are one")
        return cls(dims)

    @property
    def lowest(self) -> Point:
        return tuple(dim.lowest for dim in self.dims)

    @property
    def highest(self) -> Point:
        return tuple(dim.highest for dim in self.dims)

    @property
    def name(self) -> str:
        """The dimensions' names."""
        return " and ".join(dim.name for dim in self.dims)

    def require_axes(self, slots: Sequence[Slot]) -> None:
        """Raise ValueError unless the axes of the inputs, of the least sizes, have these sizes."""
        for dim in self.dims:
            dim.require_axes(slots)

    def sizes_of(self, model: str, slots: Sequence[Slot], arrays: Sequence[Any]) -> Point:
        """The sizes in a call.  Raises: ShapeError, which names the input and the dimension."""
        return tuple([dim.size_of(model, slots, arrays) for dim in self.dims])


def require_every_size(codes: Sequence[SizedCode[Any]], dynamic: Dynamic) -> None:
    """Raise ValueError if there are sizes that no code serves."""
    count = len(dynamic.dims)
    if any(len(code.lowest) != count or len(code.highest) != count for code in codes):
        raise ValueError("code has sizes of other dimensions")
    boxes = [(code.lowest, code.highest) for code in codes]
    missing = first_outside(boxes, dynamic.lowest, dynamic.highest)
    if missing is not None:
        size = " and ".join(map(str, missing))
        raise ValueError(f"no code serves size {size} of dimension {dynamic.name}")


def arguments_in(code: SizedCode[Any]) -> list[Slot]:
    """The inputs that a call gives."""
    return [slot for slot in code.artifact.inputs if slot.name not in code.weights]


def require_codes(codes: Sequence[SizedCode[Any]], dynamic: Dynamic, names: Sequence[str]) -> None:
    """Raise ValueError if there are sizes that no code serves, or code cannot be as it says.

    Args:
        names: what a call's arguments are called.
    """
    require_every_size(codes, dynamic)
    require_same([(arguments_in(code), code.artifact.outputs) for code in codes])
    for code in codes:
        for sizes in code.corners():
            artifact = code.artifact
            if code.layout is not None:
                artifact = artifact.at(code.layout, sizes)
            require_code(artifact, names, code.weights)


def first_outside(
    boxes: Sequence[tuple[Point, Point]], lowest: Point, highest: Point
) -> Point | None:
    """Sizes between two that are in none of some boxes, given by their ends; None if there are
    none."""
    if not lowest:
        return None if boxes else ()
    (first, *others), (last, *others_last) = lowest, highest
    # Where boxes begin or end, it may be others that hold what follows.
    begins = {first, *(a[0] for a, _ in boxes), *(b[0] + 1 for _, b in boxes)}
    for at in sorted(size for size in begins if first <= size <= last):
        within = [(a[1:], b[1:]) for a, b in boxes if a[0] <= at <= b[0]]
        missing = first_outside(within, tuple(others), tuple(others_last))
        if missing is not None:
            return at, *missing
    return None


def described(dynamic: Dynamic, ranges: Sequence[tuple[Point, Point]]) -> str:
    """For people: the dimensions, and how many codes serve them."""
    lines = []
    for dim in dynamic.dims:
        places = [f"dimension {axis} of {name}" for name, own in dim.axes.items() for axis in own]
        lines.append(f"{dim.name}: {dim.lowest} to {dim.highest} ({', '.join(places)})")
    free = [sum(a < b for a, b in zip(*own, strict=True)) for own in ranges]
    kinds = []
    for count in sorted(set(free), reverse=True):
        what = f"many sizes of {'both' if count > 1 else 'one'}" if count else "one choice"
        if count and len(dynamic.dims) == 1:
            what = "many sizes"
        kinds.append(f"{free.count(count)} for {what}")
    return "\n".join([*lines, f"code: {', '.join(kinds)}"])


class SizedCodes:
    """A package's code for ranges of sizes.  Calls of several threads are safe."""

    def __init__(
        self,
        model: str,
        archive: Archive,
        entries: Sequence[dict[str, Any]],
        names: Sequence[str],
        everything: Mapping[str, np.ndarray],
        make: Callable[..., AnyInstance],
    ) -> None:
        self._make = make
        self._model = model
        self._names = names
        self._lock = threading.Lock()
        self._instances: OrderedDict[Point, AnyInstance] = OrderedDict()
        self._by_shapes: dict[tuple[Any, ...], AnyInstance] = {}
        self._codes = [sized_code_of(archive, entry, everything) for entry in entries]

    @property
    def ranges(self) -> list[tuple[Point, Point]]:
        """The least and the greatest sizes of each code."""
        return [(code.lowest, code.highest) for code in self._codes]

    def require_all(self, dynamic: Dynamic) -> None:
        """Raise ValueError if there are sizes that no code serves, or code cannot be as it says."""
        require_codes(self._codes, dynamic, self._names)

    def met(self, arrays: Sequence[Any]) -> AnyInstance | None:
        """The code for arrays of the right shapes, if it is at hand."""
        return self._by_shapes.get(tuple([getattr(array, "shape", None) for array in arrays]))

    def instance(self, sizes: Point) -> AnyInstance:
        """The code for sizes that are served."""
        with self._lock:
            found = self._instances.get(sizes)
            if found is None:
                found = self._instances[sizes] = self._made(sizes)
                self._by_shapes[tuple(slot.shape for slot in found.inputs)] = found
                if len(self._instances) > _INSTANCES_KEPT:
                    _, old = self._instances.popitem(last=False)
                    del self._by_shapes[tuple(slot.shape for slot in old.inputs)]
            else:
                self._instances.move_to_end(sizes)
            return found

    def _made(self, sizes: Point) -> AnyInstance:
        # Code for one choice first, then the code that was chosen for the nearest.
        serving = [code for code in self._codes if are_within(sizes, code.lowest, code.highest)]
        code = min(serving, key=lambda code: code.choices)
        artifact = code.artifact
        if code.layout is not None:
            artifact = artifact.at(code.layout, sizes)
        return self._make(self._model, artifact, self._names, code.weights)
