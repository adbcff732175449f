"""Dimensions of example inputs whose size is chosen at each call: what the user says of them.

In: `braze.aot.compile`'s argument `dynamic`.  Out: the dimensions, and which axes have their sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from braze import engine
from braze.functions.creation import from_numpy
from braze.ir.polynomials import Point
from braze.tensors import Tensor


@dataclass(frozen=True)
class Dim:
    """A dimension whose size each call chooses.

    Args:
        name: dimensions of one name are equal.
        min, max: the least and the greatest size. min is at least 1: of an array without elements
            there is nothing to compute.

    Raises:
        ValueError: the limits are not 1 <= min < max.
    """

    name: str
    min: int = 1
    max: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.min < self.max:
            raise ValueError(
                f"[aot] dimension {self.name} must have limits 1 <= min < max, given min "
                f"{self.min} and max {self.max}"
            )


Axes = Mapping[int, str | Dim]
DynamicDims = Mapping[str, Axes] | Sequence[Axes | None]


def sizes_of(
    dynamic: DynamicDims, names: Sequence[str], examples: Sequence[Tensor]
) -> tuple[engine.Dynamic, Point]:
    """What `dynamic` says of some inputs: the dimensions, and their sizes in the examples.

    Raises: TypeError, ValueError; see `aot.compile`.
    """
    found: dict[str, Dim] = {}
    axes: dict[str, dict[str, list[int]]] = {}
    usual: dict[str, int] = {}
    for name, own in _by_name(dynamic, names).items():
        if not isinstance(own, Mapping):
            raise TypeError(
                f"[aot] dynamic dimensions of input {name} must be a dict as {{0: 'batch'}}, given "
                f"{type(own).__name__}"
            )
        shape = tuple(examples[names.index(name)].shape)
        for axis, given in own.items():
            if not isinstance(given, (str, Dim)):
                raise TypeError(
                    f"[aot] a dynamic dimension must be a name or a Dim, given "
                    f"{type(given).__name__} for dimension {axis} of input {name}"
                )
            if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                raise ValueError(f"[aot] input {name} has {len(shape)} dimensions, not {axis!r}")
            at = axis % len(shape)
            dim = Dim(given) if isinstance(given, str) else given
            if found.setdefault(dim.name, dim) != dim:
                raise ValueError(f"[aot] dimension {dim.name} has two different limits")
            if usual.setdefault(dim.name, shape[at]) != shape[at]:
                raise ValueError(
                    f"[aot] dimension {dim.name} is {usual[dim.name]} in one example input and "
                    f"{shape[at]} in dimension {at} of {name}; they must be equal"
                )
            own_axes = axes.setdefault(dim.name, {}).setdefault(name, [])
            if any(at in others.get(name, ()) for others in axes.values()):
                raise ValueError(f"[aot] dimension {at} of input {name} is given twice")
            own_axes.append(at)
    if not 1 <= len(found) <= engine.MOST_DIMENSIONS:
        raise ValueError(
            f"[aot] a package has one dynamic dimension or two, given {len(found)} names"
            f" ({', '.join(found)}); write one package for each size of the others"
        )
    dims = tuple(
        engine.DynamicDim(
            dim.name, dim.min, dim.max, {name: tuple(own) for name, own in axes[dim.name].items()}
        )
        for dim in found.values()
    )
    return engine.Dynamic(dims), tuple(usual[dim.name] for dim in dims)


def _by_name(dynamic: DynamicDims, names: Sequence[str]) -> dict[str, Axes]:
    if isinstance(dynamic, Mapping):
        unknown = [name for name in dynamic if name not in names]
        if unknown:
            raise ValueError(f"[aot] no input is called {unknown[0]!r}; there are {list(names)}")
        return dict(dynamic)
    if isinstance(dynamic, str) or not isinstance(dynamic, Sequence):
        raise TypeError(f"[aot] dynamic must be a dict or a list, given {type(dynamic).__name__}")
    if len(dynamic) != len(names):
        raise ValueError(f"[aot] dynamic has {len(dynamic)} items for {len(names)} inputs")
    return {name: own for name, own in zip(names, dynamic, strict=True) if own is not None}


def resized(
    examples: Sequence[Tensor], axes: Sequence[Mapping[int, int]], sizes: Sequence[int]
) -> list[Tensor]:
    """The examples with other sizes; their elements are repeated, and dtypes stay.

    Args:
        axes: of each example those that change, and the number of their dimension.
    """
    made = []
    for example, own in zip(examples, axes, strict=True):
        array = example._numpy()
        for axis, dim in own.items():
            size = sizes[dim]
            array = np.take(array, np.arange(size) % array.shape[axis], axis)
        made.append(from_numpy(np.ascontiguousarray(array)))
    return made
