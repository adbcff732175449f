"""Run a model that was compiled ahead of time, from one file, without any compiler.

In: a package.  Out: a `LoadedModel`: NumPy arrays in, NumPy arrays out.  Everything is checked
before code is mapped; neither the front end nor LLVM is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from math import prod
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from braze.ir.dtypes import dtype_named
from braze.ir.errors import DTypeError, ParseError, ShapeError
from braze.ir.target import Target, can_run
from braze.runtime.artifact import Artifact, Slot
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable, Input, Resident
from braze.runtime.object_loader import ObjectError
from braze.runtime.package_format import Archive, PackageError
from braze.runtime.pool import get_pool
from braze.runtime.storage import Storage
from braze.runtime.weights import unpack_weights

__all__ = ["LoadedModel", "PackageError", "load"]

_LARGE = 1 << 17


class LoadedModel:
    """A compiled model.

    Attributes:
        name: of the graph.
        inputs, outputs: names, dtypes and shapes of what a call takes and gives.
        target: what the code in use was made for.
        graph_text: the captured graph, for reading.
        braze_version: of the Braze that wrote the package.
    """

    def __init__(self, archive: Archive) -> None:
        manifest = archive.manifest
        entry, self.target = _choose(archive.path, manifest["targets"])
        objects = tuple(bytes(archive[name]) for name in entry["objects"])
        artifact = Artifact.from_facts(entry["facts"], objects)
        self.name: str = manifest["name"]
        self.braze_version: str = manifest["braze"]
        self.graph_text = bytes(archive["graph.ir"]).decode()
        self.outputs = artifact.outputs
        everything = _weights(archive)
        weights = {slot: everything[name] for slot, name in entry["weights"].items()}
        names: list[str] = manifest["inputs"]
        self.inputs: tuple[Slot, ...] = ()
        # What is fixed stands here already; what a call brings goes into the other places.
        self._fixed: list[Input | None] = []
        self._places: list[int] = []
        for place, slot in enumerate(artifact.inputs):
            if slot.name in weights:
                self._fixed.append(_held(weights[slot.name], slot))
                continue
            name = names[len(self._places)]
            self.inputs += (Slot(name, slot.dtype, slot.shape, slot.role),)
            self._places.append(place)
            self._fixed.append(None)
        dtypes = [dtype_named(slot.dtype).numpy for slot in self.inputs]
        self._types = [(d, slot.shape) for d, slot in zip(dtypes, self.inputs, strict=True)]
        self._makers = [_maker(slot) for slot in self.outputs]
        self._packed = _resident(artifact.inputs, self._fixed)
        self._arrange = arranger(json.loads(manifest["structure"]))
        # The pool's code is the package's, unless this process has started one before.
        get_pool(compile=lambda: bytes(archive[entry["pool"]]))
        self._executable = Executable(artifact)

    def __call__(self, *arrays: Any) -> Any:
        """Run the model.

        Args:
            arrays: one for each of `inputs`, of exactly its dtype and shape. What is not contiguous
                is copied.

        Returns:
            New arrays, in the structure that the exported function returned: one array, or tuples,
            lists and dicts of them.

        Raises:
            TypeError: too many or too few arrays.
            DTypeError, ShapeError: one does not fit; the message names the input.
            IndexError: an index was out of range.
        """
        if len(arrays) != len(self.inputs):
            names = ", ".join(slot.name for slot in self.inputs)
            raise TypeError(
                f"model {self.name} takes {len(self.inputs)} inputs ({names}), given {len(arrays)}"
            )
        if self._packed is None:
            return self._arrange(self._run_with_numbers(arrays))
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
                storage = _input(self.name, slot, array)
                kept.append(storage)
                address = storage.address  # type: ignore[union-attr]
            given.append(address)
        results = [make() for make in self._makers]
        made = [array.__array_interface__["data"][0] for array in results]
        self._executable.run_at(given, made, self._packed)
        return self._arrange(results)

    def _run_with_numbers(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        given: list[Any] = list(self._fixed)
        for place, slot, array in zip(self._places, self.inputs, arrays, strict=True):
            given[place] = _input(self.name, slot, array)
        results = [make() for make in self._makers]
        self._executable.run(given, [Storage.from_numpy(array) for array in results])
        return results

    def __repr__(self) -> str:
        inputs = ", ".join(f"{slot.name}: {_type(slot)}" for slot in self.inputs)
        outputs = ", ".join(map(_type, self.outputs))
        return f"<braze model {self.name}({inputs}) -> ({outputs}) for {self.target.name}>"


def load(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a package that `braze.aot.compile` wrote.

    Raises:
        PackageError: it is no package, is damaged (the message names the entry), has a newer
            format, or is made for another processor (the message names the missing features).
        FileNotFoundError: there is no such file.
    """
    archive = Archive(Path(path))
    try:
        return LoadedModel(archive)
    except PackageError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, ObjectError, ParseError) as error:
        # The hashes are right, so this is how it was written.
        raise PackageError(f"{path} cannot be loaded: {error!r}") from error


def _choose(path: Path, targets: list[dict[str, Any]]) -> tuple[dict[str, Any], Target]:
    """The widest target that this processor can run."""
    host = host_target()
    reasons: list[str] = []
    usable: list[tuple[int, int, int, dict[str, Any], Target]] = []
    for entry in targets:
        target = Target.from_text(entry["facts"]["target"])
        reason = can_run(target, host)
        if reason is None:
            usable.append((target.vector_bits, len(target.features), len(usable), entry, target))
        else:
            reasons.append(f"{target.name} {reason}")
    if not usable:
        raise PackageError(f"{path} is not built for this CPU: {'; '.join(reasons)}")
    *_, entry, target = max(usable, key=lambda item: item[:3])
    return entry, target


def _weights(archive: Archive) -> dict[str, np.ndarray]:
    return dict(unpack_weights(archive["weights.safetensors"]))


def _held(array: np.ndarray, slot: Slot) -> Input:
    """A weight where it lies in the file, which stays mapped, unless it is not aligned there."""
    if slot.role == "scalar":
        number: int | float | bool = array.item()
        return number
    return Storage.from_numpy(array)


def _input(model: str, slot: Slot, given: Any) -> Input:
    if slot.role == "scalar" and isinstance(given, (int, float)):
        return given
    array = np.asarray(given)
    dtype = dtype_named(slot.dtype).numpy
    if array.dtype.newbyteorder("=") != dtype:
        raise DTypeError(
            f"[{model}] input {slot.name} must be {_type(slot)}, given {array.dtype}"
            f"{list(array.shape)}; convert it with .astype(numpy.{dtype})"
        )
    if array.shape != slot.shape:
        raise ShapeError(
            f"[{model}] input {slot.name} must be {_type(slot)}, given shape {list(array.shape)}"
        )
    if slot.role == "scalar":
        number: int | float | bool = array.item()
        return number
    return Storage.from_numpy(array)


def _type(slot: Slot) -> str:
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


def arranger(structure: Any) -> Callable[[list[np.ndarray]], Any]:
    """What puts results in the places of their numbers; see `write_package` for the form."""
    match structure:
        case None:
            return lambda results: None
        case {"dict": pairs}:
            made = [(key, arranger(part)) for key, part in pairs]
            return lambda results: {key: part(results) for key, part in made}
        case {"tuple": items}:
            parts = list(map(arranger, items))
            return lambda results: tuple([part(results) for part in parts])
        case {"list": items}:
            parts = list(map(arranger, items))
            return lambda results: [part(results) for part in parts]
    return itemgetter(structure)
