"""A model's code for fixed shapes: arrays in, arrays out.

In: an `Artifact` and the weights that it reads.  Out: an `Instance`, whose `run` checks a call's
arrays, makes those of the results, and calls the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.dtypes import dtype_named
from braze.ir.errors import DTypeError, ShapeError
from braze.runtime.artifact import Artifact, Slot
from braze.runtime.executable import Executable, Input, Resident
from braze.runtime.package_format import PackageError
from braze.runtime.storage import Storage

if TYPE_CHECKING:
    from braze.runtime.cuda.code import CudaCode

_LARGE = 1 << 17


class Instance:
    """Code for fixed shapes, with its weights.

    Attributes:
        inputs, outputs: of a call.
    """

    def __init__(
        self,
        model: str,
        artifact: Artifact,
        names: Sequence[str],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        self._model = model
        self.outputs = artifact.outputs
        self._fixed, self._places, self.inputs = arguments_of(artifact.inputs, names, weights)
        dtypes = [dtype_named(slot.dtype).numpy for slot in self.inputs]
        self._types = [(d, slot.shape) for d, slot in zip(dtypes, self.inputs, strict=True)]
        self._makers = [_maker(slot) for slot in self.outputs]
        self._packed = _resident(artifact.inputs, self._fixed)
        self._executable = Executable(artifact)

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """New arrays, in the order of `outputs`; see `LoadedModel.__call__` for what is raised."""
        if self._packed is None:
            return self._run_with_numbers(arrays)
        given, kept = [], []
        for array, slot, (dtype, shape) in zip(arrays, self.inputs, self._types, strict=True):
            # The usual case first; what is left has to be converted, or does not fit.
            if (
                type(array) is not np.ndarray
                or array.dtype is not dtype
                or array.shape != shape
                or not array.flags.c_contiguous
                or (address := array.__array_interface__["data"][0]) % dtype.alignment
            ):
                storage = converted(self._model, slot, array)
                kept.append(storage)
                address = storage.address  # type: ignore[union-attr]
            given.append(address)
        results = [make() for make in self._makers]
        made = [array.__array_interface__["data"][0] for array in results]
        self._executable.run_at(given, made, self._packed)
        return results

    def _run_with_numbers(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        given: list[Any] = list(self._fixed)
        for place, slot, array in zip(self._places, self.inputs, arrays, strict=True):
            given[place] = converted(self._model, slot, array)
        results = [make() for make in self._makers]
        self._executable.run(given, [Storage.from_numpy(array) for array in results])
        return results


class Description:
    """What an `Instance` takes and gives, without code that could run here."""

    def __init__(
        self,
        model: str,
        code: Artifact | CudaCode,
        names: Sequence[str],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        self._model = model
        _, _, self.inputs = arguments_of(code.inputs, names, weights)
        self.outputs = code.outputs

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """Raises: PackageError."""
        raise PackageError(f"[{self._model}] was loaded with device='meta', to be looked at only")


def arguments_of(
    slots: Sequence[Slot], names: Sequence[str], weights: Mapping[str, np.ndarray]
) -> tuple[list[Input | None], list[int], tuple[Slot, ...]]:
    """What code is given in each call.

    Args:
        slots: the code's inputs. names: what a call's arguments are called. weights: what is fixed.

    Returns:
        An item for each slot, which is None where a call's argument goes; the places of these; and
        what each argument must be.

    Raises:
        ValueError: a weight is not what the code reads.
    """
    fixed: list[Input | None] = []
    places: list[int] = []
    arguments: list[Slot] = []
    for place, slot in enumerate(slots):
        if slot.name in weights:
            fixed.append(_held(weights[slot.name], slot))
            continue
        arguments.append(Slot(names[len(places)], slot.dtype, slot.shape, slot.role))
        places.append(place)
        fixed.append(None)
    return fixed, places, tuple(arguments)


def _held(array: np.ndarray, slot: Slot) -> Input:
    """A weight where it lies in the file, which stays mapped, unless it is not aligned there.

    Raises: ValueError if it is not what the code reads.
    """
    if array.dtype != dtype_named(slot.dtype).numpy or array.shape != slot.shape:
        raise ValueError(
            f"weight {slot.name} is {array.dtype}{list(array.shape)}, the code reads "
            f"{type_of(slot)}"
        )
    if slot.role == "scalar":
        number: int | float | bool = array.item()
        return number
    return Storage.from_numpy(array)


def converted(model: str, slot: Slot, given: Any) -> Input:
    """An argument as code takes it.  Raises: DTypeError, ShapeError; both name the input."""
    if slot.role == "scalar" and isinstance(given, (int, float)):
        return given
    array = np.asarray(given)
    dtype = dtype_named(slot.dtype).numpy
    if array.dtype.newbyteorder("=") != dtype:
        raise DTypeError(
            f"[{model}] input {slot.name} must be {type_of(slot)}, given {array.dtype}"
            f"{list(array.shape)}; convert it with .astype(numpy.{dtype})"
        )
    if array.shape != slot.shape:
        raise ShapeError(
            f"[{model}] input {slot.name} must be {type_of(slot)}, given shape {list(array.shape)}"
        )
    if slot.role == "scalar":
        number: int | float | bool = array.item()
        return number
    return Storage.from_numpy(array)


def type_of(slot: Slot) -> str:
    return f"{slot.dtype}[{','.join(map(str, slot.shape))}]"


def _maker(slot: Slot) -> Callable[[], np.ndarray]:
    """What makes a new array for a result. Large ones take memory that is in use already: the
    system clears every fresh page."""
    shape, dtype = slot.shape, dtype_named(slot.dtype).numpy
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < _LARGE:
        return lambda: np.empty(shape, dtype)
    return lambda: Storage(nbytes).array(dtype, shape)


def _resident(slots: Sequence[Slot], fixed: Sequence[Input | None]) -> Resident | None:
    """The addresses of the weights, where they follow a call's arrays and nothing is a number."""
    if any(slot.role == "scalar" for slot in slots):
        return None
    count = next((i for i, held in enumerate(fixed) if held is not None), len(fixed))
    weights = [held for held in fixed[count:] if isinstance(held, Storage)]
    return Resident(weights) if len(weights) == len(fixed) - count else None
