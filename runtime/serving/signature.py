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
from braze.runtime.package import LoadedModel
from braze.runtime.serving.faults import RequestFault


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or an output.

    Attributes:
        shape: the dynamic dimension stands by its name; None is a size that follows from it in
            some other way.
        axes: those that have the dynamic dimension's size.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    axes: tuple[int, ...]

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

    def at(self, size: int) -> tuple[int, ...]:
        """The shape of an input where the dynamic dimension has `size`."""
        return tuple(size if isinstance(n, str) or n is None else n for n in self.shape)


class Signature:
    """What a model takes and gives.

    Attributes:
        inputs, outputs: in the order of the model's.
        name: of the dynamic dimension, or None.
        lowest, highest: its sizes; 1 without one.
        structure: of results, with an output's number for each.
    """

    def __init__(self, model: LoadedModel) -> None:
        dynamic = model.dynamic
        self.model = model.name
        self.name = None if dynamic is None else dynamic.name
        self.lowest = 1 if dynamic is None else dynamic.lowest
        self.highest = 1 if dynamic is None else dynamic.highest
        inputs = []
        for slot in model.inputs:
            axes = () if dynamic is None else dynamic.axes.get(slot.name, ())
            shape = (self.name if axis in axes else n for axis, n in enumerate(slot.shape))
            inputs.append(Argument(slot.name, slot.dtype, tuple(shape), tuple(axes)))
        self.inputs = tuple(inputs)
        self.structure = model.arrange(range(len(model.outputs)))
        names: dict[int, str] = {}
        for number, path in _named(self.structure, ""):
            names.setdefault(number, path if path not in names.values() else f"{path}#{number}")
        self.outputs = tuple(self._output(model, i, names) for i in range(len(model.outputs)))

    def _output(self, model: LoadedModel, number: int, names: dict[int, str]) -> Argument:
        low = model.outputs_at(self.lowest)[number]
        high = model.outputs_at(self.highest)[number]
        shape: list[int | str | None] = []
        axes = []
        for axis, (one, other) in enumerate(zip(low.shape, high.shape, strict=True)):
            if one == other:
                shape.append(one)
            elif (one, other) == (self.lowest, self.highest):
                shape.append(self.name)
                axes.append(axis)
            else:
                shape.append(None)
        name = names.get(number, f"output{number}")
        return Argument(name, low.dtype, tuple(shape), tuple(axes))

    def facts(self) -> dict[str, Any]:
        """For `GET /model`."""
        dynamic = None
        if self.name is not None:
            dynamic = {"name": self.name, "lowest": self.lowest, "highest": self.highest}
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

    def checked(self, arrays: Sequence[np.ndarray], finite_only: bool = False) -> int:
        """The size of the dynamic dimension in a request's arrays, 1 without one.

        Raises: RequestFault that names the input, what is expected and what is given.
        """
        found, first = 0, ""
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
            for axis in argument.axes:
                size, here = array.shape[axis], f"dimension {axis} of input {argument.name}"
                if not self.lowest <= size <= self.highest:
                    raise RequestFault(
                        422,
                        f"[{self.model}] {here} ({self.name}) must be {self.lowest} to "
                        f"{self.highest}, given {size}",
                    )
                if first and size != found:
                    raise RequestFault(
                        422,
                        f"[{self.model}] {here} ({self.name}) must be equal to {first}: "
                        f"{size} != {found}",
                    )
                found, first = size, first or here
            if finite_only and array.dtype.kind not in "biu" and not np.isfinite(array).all():
                where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
                raise RequestFault(
                    422,
                    f"{place} must be finite, given {array[tuple(where)]} at {where}",
                )
        return found or 1


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
