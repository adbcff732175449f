"""Run a model that was compiled ahead of time, from one file, without any compiler.

In: a package.  Out: a `LoadedModel`: NumPy arrays in, NumPy arrays out.  Everything is checked
before code is mapped; neither the front end nor LLVM is imported.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.polynomials import Point
from braze.runtime.artifact import Slot
from braze.runtime.object_loader import ObjectError
from braze.runtime.package_accuracy import AccuracyReport
from braze.runtime.package_codes import Dynamic, SizedCodes, code_of, described, gpu_code_of
from braze.runtime.package_facts import require_code, require_manifest, require_structure
from braze.runtime.package_format import UNSOUND, Archive, PackageError
from braze.runtime.package_instance import Description, Instance, type_of
from braze.runtime.package_targets import META, choose, device_name, target_of
from braze.runtime.pool import get_pool
from braze.runtime.weights import unpack_weights

if TYPE_CHECKING:
    from braze.runtime.cuda.package_instance import CudaInstance
    from braze.runtime.package_codes import AnyInstance

__all__ = ["LoadedModel", "PackageError", "load"]


class LoadedModel:
    """A compiled model.

    Attributes:
        name: of the graph.
        inputs, outputs: names, dtypes and shapes of what a call takes and gives.
        dynamic: the dimensions whose sizes calls choose, or None; `inputs` and `outputs` are then
            those of their least sizes.
        target: what the code in use was made for.
        device: where it runs: "cpu" or "cuda:N"; or "meta".
        targets: names of all that the package has code for.
        arrange: puts one item for each output in the structure of a call's results.
        graph_text: the captured graph, for reading.
        braze_version: of the Braze that wrote the package.
        accuracy: what its narrow weights lose; None if it has the model's own.
    """

    def __init__(self, archive: Archive, device: str | None = None) -> None:
        manifest = archive.manifest
        require_manifest(manifest)
        entry, self.target, self.device = choose(archive.path, manifest["targets"], device)
        self.targets = tuple(target_of(own).name for own in manifest["targets"])
        self.name: str = manifest["name"]
        self.braze_version: str = manifest["braze"]
        self.accuracy: AccuracyReport | None = None
        if "accuracy" in manifest:
            self.accuracy = AccuracyReport.from_facts(manifest["accuracy"])
        self.graph_text = bytes(archive["graph.ir"]).decode()
        names: list[str] = manifest["inputs"]
        everything = dict(unpack_weights(archive["weights.safetensors"]))
        self.dynamic = Dynamic.of(manifest["dynamic"], names) if "dynamic" in manifest else None
        self._codes: SizedCodes | None = None
        self._only: AnyInstance
        make: Callable[..., AnyInstance] = Description
        if self.target.is_gpu and self.device != META:
            make = _gpu_instances(archive, self.device)
        elif self.device != META:
            make = Instance
            # The pool's code is the package's, unless this process has started one before.
            pool = archive[entry["pool"]]
            get_pool(compile=lambda: bytes(pool))
        if self.dynamic is None:
            artifact: Any
            find = gpu_code_of if self.target.is_gpu else code_of
            artifact, weights = find(archive, entry, everything)
            require_code(artifact, names, weights)
            self._only = make(self.name, artifact, names, weights)
        else:
            self._codes = SizedCodes(self.name, archive, entry["codes"], names, everything, make)
            self._codes.require_all(self.dynamic)
            self._only = self._codes.instance(self.dynamic.lowest)
            self.dynamic.require_axes(self._only.inputs)
        self.inputs = self._only.inputs
        self.outputs = self._only.outputs
        structure = json.loads(manifest["structure"])
        require_structure(structure, len(self.outputs))
        self.arrange = arranger(structure)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run the model.

        Args:
            arrays: one for each of `inputs`, of exactly its dtype and shape, but for dynamic
                dimensions. What is not contiguous is copied.
            named: arrays by the names of inputs, behind those without.

        Returns:
            New arrays, in the structure that the exported function returned: one array, or tuples,
            lists and dicts of them.

        Raises:
            TypeError: too many or too few arrays, or one with a wrong name.
            DTypeError, ShapeError: one does not fit; the message names the input.
            IndexError: an index was out of range.
        """
        if named:
            left = [slot.name for slot in self.inputs[len(arrays) :]]
            if named.keys() - left:
                unknown = ", ".join(sorted(named.keys() - left))
                raise TypeError(
                    f"model {self.name} takes no input {unknown} behind {len(arrays)} others, but "
                    f"{', '.join(left) or 'none'}"
                )
            arrays = (*arrays, *(named[name] for name in left if name in named))
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


def load(path: str | os.PathLike[str], device: object = None) -> LoadedModel:
    """Load a package that `braze.aot.compile` wrote.

    Args:
        device: where it is to run, "cpu", "cuda" or "cuda:N". By default on the CPU if the package
            has code for one, else on the first GPU. A call takes arrays of the host and gives such
            arrays in any case; weights are on the GPU all the time. With "meta" it cannot run, and
            anybody's package can be looked at.

    Raises:
        PackageError: it is no package, is damaged (the message names the entry) or inconsistent,
            has another format, or is made for another processor (the message names the missing
            features) or GPU.
        ValueError: `device` is no name of one.
        CudaError: PyCUDA, the driver, or the GPU is missing.
        FileNotFoundError: there is no such file.
    """
    wanted = None if device is None else device_name(str(device))
    archive = Archive(Path(path), wait=False)
    try:
        model = LoadedModel(archive, wanted)
    except PackageError:
        raise
    except ModuleNotFoundError as error:
        if error.name != "ml_dtypes":
            raise
        archive.finish()
        raise PackageError(
            f"{path} has bfloat16 arrays, which NumPy lacks: pip install ml_dtypes"
        ) from error
    except (*UNSOUND, ObjectError, struct.error) as error:
        archive.finish()
        # The hashes are right, so this is how it was written.
        raise PackageError(f"{path} cannot be loaded: {error!r}") from error
    archive.finish()
    return model


def _gpu_instances(archive: Archive, device: str) -> Callable[..., CudaInstance]:
    """What makes instances of code on a GPU."""
    from braze.runtime.cuda.devices import device_named
    from braze.runtime.cuda.package_instance import CudaInstance, CudaWeights

    archive.finish()  # before weights are copied from it
    return partial(CudaInstance, there=CudaWeights(device_named(device)))


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
