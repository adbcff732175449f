"""A model's code for one GPU: arrays of the host in, arrays of the host out.

In: a `CudaCode` and the weights that it reads, which `CudaWeights` copies to the GPU once.  Out: a
`CudaInstance`, whose `run` copies a call's arrays there, launches the code on the calling thread's
stream, and copies the results back.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braze.ir.dtypes import dtype_named
from braze.ir.types import tensor_type
from braze.runtime.artifact import Slot
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.cuda.memory import DeviceStorage, copy_storage
from braze.runtime.executable import Input
from braze.runtime.package_instance import arguments_of, converted, type_of
from braze.runtime.storage import Storage


class CudaWeights:
    """A package's weights on a GPU, each once for the code of all sizes that read it."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self._copies: dict[tuple[int, int], tuple[Storage, DeviceStorage]] = {}
        self._lock = threading.Lock()

    def copy(self, item: Input | None) -> Input | None:
        """A number as it is, memory of the host as a copy on the GPU."""
        if not isinstance(item, Storage):
            return item
        with self._lock:
            key = item.address, item.nbytes
            if key not in self._copies:  # with the original, so that its address stays its own
                self._copies[key] = item, copy_to(self.device, item, "weight")
            return self._copies[key][1]


def copy_to(device: CudaDevice, item: Storage, label: str) -> DeviceStorage:
    """A copy of memory of the host."""
    copy = DeviceStorage.on(device, item.nbytes, label=label)
    copy_storage(item, copy)
    return copy


class CudaInstance:
    """Code for a GPU, with its weights; see `braze.runtime.package_instance.Instance`.

    Raises: CudaError if the code cannot be loaded, OutOfMemoryError for weights that do not fit.
    """

    def __init__(
        self,
        model: str,
        code: CudaCode,
        names: Sequence[str],
        weights: Mapping[str, np.ndarray],
        there: CudaWeights,
    ) -> None:
        self._model = model
        self._device = device = there.device
        fixed, self._places, self.inputs = arguments_of(code.inputs, names, weights)
        self._fixed: list[Input | None] = list(map(there.copy, fixed))
        self.outputs = code.outputs
        self._results = [
            (tensor_type(dtype_named(slot.dtype), slot.shape).nbytes, slot) for slot in self.outputs
        ]
        self._executable = CudaExecutable(code, device)

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """New arrays, in the order of `outputs`; see `LoadedModel.__call__` for what is raised."""
        given: list[Any] = list(self._fixed)
        for place, slot, array in zip(self._places, self.inputs, arrays, strict=True):
            item = converted(self._model, slot, array)
            given[place] = (
                copy_to(self._device, item, slot.name) if isinstance(item, Storage) else item
            )
        made = [
            DeviceStorage.on(self._device, nbytes, label=type_of(slot))
            for nbytes, slot in self._results
        ]
        self._executable.run(given, made)
        if not made:
            self._device.stream.synchronize()
        return [
            self._array(storage, slot) for storage, slot in zip(made, self.outputs, strict=True)
        ]

    def _array(self, storage: DeviceStorage, slot: Slot) -> np.ndarray:
        array = np.empty(slot.shape, dtype_named(slot.dtype).numpy)
        copy_storage(storage, Storage.from_numpy(array))
        return array
