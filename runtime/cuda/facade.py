"""What the front end uses of CUDA devices."""

from braze.runtime.cuda.devices import (
    CudaDevice,
    Stream,
    cuda_device,
    device_named,
    devices_in_use,
)
from braze.runtime.cuda.driver import INSTALL, CudaError, device_count, driver, is_initialised
from braze.runtime.cuda.entries import clear_executables
from braze.runtime.cuda.memory import (
    DeviceStorage,
    OutOfMemoryError,
    copy_storage,
    is_pinned,
    new_storage,
    pinned_array,
)
from braze.runtime.cuda.sharing import open_shared, shared_handle

__all__ = [
    "INSTALL",
    "CudaDevice",
    "CudaError",
    "DeviceStorage",
    "OutOfMemoryError",
    "Stream",
    "clear_executables",
    "copy_storage",
    "cuda_device",
    "device_count",
    "device_named",
    "devices_in_use",
    "driver",
    "is_initialised",
    "is_pinned",
    "new_storage",
    "open_shared",
    "pinned_array",
    "shared_handle",
]
