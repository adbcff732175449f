"""Elements side by side in memory of a GPU, for libraries that take addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.ir.collectives import DeviceArray
from braze.ir.dtypes import from_numpy
from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.cuda.driver import driver
from braze.runtime.cuda.memory import DeviceStorage


@dataclass(frozen=True)
class Block:
    """Elements of one dtype.

    Attributes:
        storage: what they are a part of, if that is a storage's memory.
    """

    device: CudaDevice
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    storage: DeviceStorage | None = None

    @classmethod
    def of(
        cls, storage: DeviceStorage, address: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> Block:
        """Elements at an address in the memory of a storage."""
        return cls(storage.device, address, dtype, shape, storage)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def copy_to(self, target: DeviceArray) -> None:
        """Enqueue a copy of all bytes on the device's current stream."""
        if self.nbytes:
            stream = self.device.stream.handle
            with self.device.active():
                driver().memcpy_dtod_async(
                    target.address, self.address, self.nbytes, stream=stream
                )

    def __str__(self) -> str:
        return f"{from_numpy(self.dtype).name}[{','.join(map(str, self.shape))}]"
