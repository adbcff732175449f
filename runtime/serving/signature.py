"""What a model takes and gives, as those who call it over HTTP see it.

In: a `LoadedModel`.  Out: a `Signature`: its description, and the check of a request's arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from braze.ir.dtypes import dtype_named
from braze.ir.polynomials import Point
from braze.runtime.package import LoadedModel
from braze.runtime.serving.faults import RequestFault


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or an output.

    Attributes:
        shape: dynamic dimensions stand by their names; None is a size that follows from them in
            some other way.
        axes: for each dynamic dimension those that have its size.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    axes: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """The axes that have the first dynamic dimension's size."""
        return self.axes[0] if self.axes else ()

    @property
    def numpy(self) -> np.dtype:
        return dtype_named(self.dtype).numpy

    def __str__(self) -> str:
        sizes = ("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{','.join(sizes)}]"

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": dtype_named(self.dtype).public_name,
            "shape": list(self.shape),
        }

    def at(self, sizes: Point) -> tuple[int, ...]:
        """The shape of an input where the dynamic dimensions have these sizes."""
        own = {axis: size for axes, size in zip(self.axes, sizes, strict=True) for axis in axes}
        fixed = (n if isinstance(n, int) else 0 for n in self.shape)
        return tuple(own.get(axis, n) for axis, n in enumerate(fixed))


class Signature:
    """What a model takes and gives.

    Attributes:
        inputs, outputs: in the order of the model's.
        dims: the dynamic dimensions.
        lowest, highest: their sizes.
        structure: of results, with an output's number for each.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model.name
        self.dims = () if model.dynamic is None else model.dynamic.dims
        self.lowest = tuple(dim.lowest for dim in self.dims)
        self.highest = tuple(dim.highest for dim in self.dims)
        inputs = []
        for slot in model.inputs:
            axes = tuple(dim.axes.get(slot.name, ()) for dim in self.dims)
            shape: list[int | str | None] = [*slot.shape]
            for dim, own in zip(self.dims, axes, strict=True):
                for axis in own:
                    shape[axis] = dim.name
            inputs.append(Argument(slot.name, slot.dtype, tuple(shape), axes))
        self.inputs = tuple(inputs)
        self.structure = model.arrange(range(len(model.outputs)))
        names: dict[int, str] = {}
        for number, path in _named(self.structure, ""):
            names.setdefault(number, path if path not in names.values() else f"{path}#{number}")
        self.outputs = tuple(self._output(model, i, names) for i in range(len(model.outputs)))

    def _output(self, model: LoadedModel, number: int, names: dict[int, str]) -> Argument:
        low = model.outputs_at(self.lowest)[number]
        shape: list[int | str | None] = [*low.shape]
        axes: list[tuple[int, ...]] = []
        for at, dim in enumerate(self.dims):
            sizes = *self.lowest[:at], dim.highest, *self.lowest[at + 1 :]
            high = model.outputs_at(sizes)[number].shape
            changed = [axis for axis, one in enumerate(low.shape) if high[axis] != one]
            ends = dim.lowest, dim.highest
            # What changes with an earlier dimension, too, is a function of both.
            own = [axis for axis in changed if shape[axis] == low.shape[axis]]
            own = [axis for axis in own if (low.shape[axis], high[axis]) == ends]
            for axis in changed:
                shape[axis] = dim.name if axis in own else None
            axes = [tuple(axis for axis in before if axis not in changed) for before in axes]
            axes.append(tuple(own))
        name = names.get(number, f"output{number}")
        return Argument(name, low.dtype, tuple(shape), tuple(axes))

    def facts(self) -> dict[str, Any]:
        """For `GET /model`."""
        dynamic = [
            {"name": dim.name, "lowest": dim.lowest, "highest": dim.highest} for dim in self.dims
        ]
        return {
            "inputs": [argument.facts() for argument in self.inputs],
            "outputs": [argument.facts() for argument in self.outputs],
            "dynamic": dynamic,
        }

    @property
    def most_values(self) -> int:
        """How many numbers, or empty lists where a dimension is 0, a request holds at most."""
        count = 0
        for argument in self.inputs:
            shape = argument.at(self.highest)
            held = max(prod(shape[:end]) for end in range(len(shape) + 1))
            count += 2 * held if dtype_named(argument.dtype).is_complex else held
        return count

    def place(self, argument: Argument) -> str:
        """How messages begin that are about an input."""
        return f"[{self.model}] input {argument.name}"

    def by_name(self, given: dict[str, Any]) -> list[Any]:
        """What is given for each input, in order.  Raises: RequestFault for other names."""
        names = [argument.name for argument in self.inputs]
        for name in given:
            if name not in names:
                raise RequestFault(
                    422,
                    f"[{self.model}] there is no input {_short(name)!r}, expected "
                    f"{', '.join(names) or 'none'}",
                )
        for argument in self.inputs:
            if argument.name not in given:
                raise RequestFault(422, f"{self.place(argument)} is missing, expected {argument}")
        return [given[name] for name in names]

    def in_order(self, given: Sequence[Any]) -> list[Any]:
        """What is given, if it is one item for each input."""
        if len(given) != len(self.inputs):
            raise RequestFault(
                422,
                f"[{self.model}] expected {len(self.inputs)} inputs "
                f"({', '.join(f'{a.name}: {a}' for a in self.inputs)}), given {len(given)}",
            )
        return list(given)

    def checked(self, arrays: Sequence[np.ndarray], finite_only: bool = False) -> Point:
        """The sizes of the dynamic dimensions in a request's arrays.

        Raises: RequestFault that names the input, what is expected and what is given.
        """
        found: list[int] = [0 for _ in self.dims]
        first = ["" for _ in self.dims]
        for argument, array in zip(self.inputs, arrays, strict=True):
            place = self.place(argument)
            if array.dtype.newbyteorder("=") != argument.numpy:
                raise RequestFault(
                    422,
                    f"{place} must be {argument}, given {array.dtype}{list(array.shape)}",
                )
            if len(array.shape) != len(argument.shape) or any(
                isinstance(n, int) and n != given
                for n, given in zip(argument.shape, array.shape, strict=True)
            ):
                raise RequestFault(
                    422, f"{place} must be {argument}, given shape {list(array.shape)}"
                )
            of_dims = [(at, axis) for at, own in enumerate(argument.axes) for axis in own]
            for at, axis in of_dims:
                dim, size = self.dims[at], array.shape[axis]
                here = f"dimension {axis} of input {argument.name}"
                if not dim.lowest <= size <= dim.highest:
                    raise RequestFault(
                        422,
                        f"[{self.model}] {here} ({dim.name}) must be {dim.lowest} to "
                        f"{dim.highest}, given {size}",
                    )
                if first[at] and size != found[at]:
                    raise RequestFault(
                        422,
                        f"[{self.model}] {here} ({dim.name}) must be equal to {first[at]}: "
                        f"{size} != {found[at]}",
                    )
                found[at], first[at] = size, first[at] or here
            if finite_only and array.dtype.kind not in "biu" and not np.isfinite(array).all():
                where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
                raise RequestFault(
                    422,
                    f"{place} must be finite, given {array[tuple(where)]} at {where}",
                )
        return tuple(found)


def _named(structure: Any, path: str) -> Iterator[tuple[int, str]]:
    """Numbers of outputs and their names: the keys and places that lead to each."""
    items: list[tuple[str, Any]]
    match structure:
        case None:
            return
        case dict():
            items = [(str(key), part) for key, part in structure.items()]
        case list() | tuple():
            items = [(str(i), part) for i, part in enumerate(structure)]
        case _:
            yield structure, path or "output"
            return
    for key, part in items:
        yield from _named(part, f"{path}.{key}" if path else key)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
