"""Run a model that was compiled ahead of time, from one file, without any compiler.

In: a package.  Out: a `LoadedModel`: NumPy arrays in, NumPy arrays out.  Everything is checked
before code is mapped; neither the front end nor LLVM is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from braze.ir.errors import ParseError
from braze.ir.polynomials import Point
from braze.ir.target import Target, can_run
from braze.runtime.artifact import Slot
from braze.runtime.cpu import host_target
from braze.runtime.object_loader import ObjectError
from braze.runtime.package_accuracy import AccuracyReport
from braze.runtime.package_codes import Dynamic, SizedCodes, code_of, described
from braze.runtime.package_format import Archive, PackageError
from braze.runtime.package_instance import Instance, type_of
from braze.runtime.pool import get_pool
from braze.runtime.weights import unpack_weights

__all__ = ["LoadedModel", "PackageError", "load"]


class LoadedModel:
    """A compiled model.

    Attributes:
        name: of the graph.
        inputs, outputs: names, dtypes and shapes of what a call takes and gives.
        dynamic: the dimensions whose sizes calls choose, or None; `inputs` and `outputs` are then
            those of their least sizes.
        target: what the code in use was made for.
        arrange: puts one item for each output in the structure of a call's results.
        graph_text: the captured graph, for reading.
        braze_version: of the Braze that wrote the package.
        accuracy: what its narrow weights lose; None if it has the model's own.
    """

    def __init__(self, archive: Archive) -> None:
        manifest = archive.manifest
        entry, self.target = _choose(archive.path, manifest["targets"])
        self.name: str = manifest["name"]
        self.braze_version: str = manifest["braze"]
        self.accuracy: AccuracyReport | None = None
        if "accuracy" in manifest:
            self.accuracy = AccuracyReport.from_facts(manifest["accuracy"])
        self.graph_text = bytes(archive["graph.ir"]).decode()
        names: list[str] = manifest["inputs"]
        everything = dict(unpack_weights(archive["weights.safetensors"]))
        # The pool's code is the package's, unless this process has started one before.
        get_pool(compile=lambda: bytes(archive[entry["pool"]]))
        self.arrange = arranger(json.loads(manifest["structure"]))
        self.dynamic = Dynamic.of(manifest["dynamic"], names) if "dynamic" in manifest else None
        self._codes: SizedCodes | None = None
        if self.dynamic is None:
            artifact, weights = code_of(archive, entry, everything)
            self._only = Instance(self.name, artifact, names, weights)
        else:
            self._codes = SizedCodes(self.name, archive, entry["codes"], names, everything)
            self._codes.require_all(self.dynamic)
            self._only = self._codes.instance(self.dynamic.lowest)
            self.dynamic.require_axes(self._only.inputs)
        self.inputs = self._only.inputs
        self.outputs = self._only.outputs

    def __call__(self, *arrays: Any) -> Any:
        """Run the model.

        Args:
            arrays: one for each of `inputs`, of exactly its dtype and shape, but for dynamic
                dimensions. What is not contiguous is copied.

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
        return self.arrange(self.results(arrays))

    def results(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """What a call computes from as many arrays as there are `inputs`, in the order of
        `outputs`; see `__call__` for what is raised."""
        if self.dynamic is None or self._codes is None:
            return self._only.run(arrays)
        instance = self._codes.met(arrays)
        if instance is None:
            sizes = self.dynamic.sizes_of(self.name, self.inputs, arrays)
            instance = self._codes.instance(sizes)
        return instance.run(arrays)

    def outputs_at(self, sizes: Point) -> tuple[Slot, ...]:
        """The outputs of a call whose dynamic dimensions have `sizes`, which must be served."""
        return self.outputs if self._codes is None else self._codes.instance(sizes).outputs

    def describe_sizes(self) -> str:
        """What calls may choose, and how many codes serve that, for people; "" for fixed sizes."""
        if self.dynamic is None or self._codes is None:
            return ""
        return described(self.dynamic, self._codes.ranges)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{slot.name}: {type_of(slot)}" for slot in self.inputs)
        outputs = ", ".join(map(type_of, self.outputs))
        return f"<braze model {self.name}({inputs}) -> ({outputs}) for {self.target.name}>"


def load(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a package that `braze.aot.compile` wrote.

    Raises:
        PackageError: it is no package, is damaged (the message names the entry), has a newer
            format, or is made for another processor (the message names the missing features).
        FileNotFoundError: there is no such file.
    """
    archive = Archive(Path(path), wait=False)
    try:
        model = LoadedModel(archive)
    except PackageError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        ObjectError,
        ParseError,
        RecursionError,
        ArithmeticError,
    ) as error:
        archive.finish()
        # The hashes are right, so this is how it was written.
        raise PackageError(f"{path} cannot be loaded: {error!r}") from error
    archive.finish()
    return model


def _choose(path: Path, targets: list[dict[str, Any]]) -> tuple[dict[str, Any], Target]:
    """The widest target that this processor can run."""
    host = host_target()
    reasons: list[str] = []
    usable: list[tuple[int, int, int, dict[str, Any], Target]] = []
    for entry in targets:
        target = Target.from_text(entry["target"] if "codes" in entry else entry["facts"]["target"])
        reason = can_run(target, host)
        if reason is None:
            usable.append((target.vector_bits, len(target.features), len(usable), entry, target))
        else:
            reasons.append(f"{target.name} {reason}")
    if not usable:
        raise PackageError(f"{path} is not built for this CPU: {'; '.join(reasons)}")
    *_, entry, target = max(usable, key=lambda item: item[:3])
    return entry, target


def arranger(structure: Any) -> Callable[[Sequence[Any]], Any]:
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
