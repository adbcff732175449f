"""A model's code for one GPU: arrays of the host in, arrays of the host out.

In: a `CudaCode` and the weights that it reads, which are copied to the GPU once.  Out: a
`CudaInstance`, whose `run` copies a call's arrays there, launches the code on the calling thread's
stream, and copies the results back.
"""

from __future__ import annotations

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
        device: CudaDevice,
    ) -> None:
        self._model = model
        self._device = device
        fixed, self._places, self.inputs = arguments_of(code.inputs, names, weights)
        self._fixed: list[Input | None] = [self._there(item, "weight") for item in fixed]
        self.outputs = code.outputs
        self._results = [
            (tensor_type(dtype_named(slot.dtype), slot.shape).nbytes, slot) for slot in self.outputs
        ]
        self._executable = CudaExecutable(code, device)

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """New arrays, in the order of `outputs`; see `LoadedModel.__call__` for what is raised."""
        given: list[Any] = list(self._fixed)
        for place, slot, array in zip(self._places, self.inputs, arrays, strict=True):
            given[place] = self._there(converted(self._model, slot, array), slot.name)
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

    def _there(self, item: Input | None, label: str) -> Input | None:
        """A number as it is, memory of the host as a copy on the GPU."""
        if not isinstance(item, Storage):
            return item
        copy = DeviceStorage.on(self._device, item.nbytes, label=label)
        copy_storage(item, copy)
        return copy

    def _array(self, storage: DeviceStorage, slot: Slot) -> np.ndarray:
        array = np.empty(slot.shape, dtype_named(slot.dtype).numpy)
        copy_storage(storage, Storage.from_numpy(array))
        return array
