"""PyCUDA and the CUDA driver: whether they are there, and how many devices they know.

In: nothing.  Out: `driver()`, PyCUDA's driver module with CUDA initialised, or a `CudaError` that
says what is missing.
"""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

INSTALL = "install Braze with its extra for GPUs: pip install 'braze[cuda]'"


class CudaError(RuntimeError):
    """There is no CUDA device, or it reported an error."""


class _Driver:
    """What importing PyCUDA gave, once it was tried.

    Attributes:
        module: PyCUDA's driver module, once CUDA is initialised.
        process: the process that initialised it; a forked child cannot use it.
        error: why there is none.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.module: Any = None
        self.process = 0
        self.error: CudaError | None = None

    def after_fork(self) -> None:
        self.lock = threading.Lock()


_driver = _Driver()
os.register_at_fork(after_in_child=_driver.after_fork)


def driver() -> Any:
    """PyCUDA's driver module.

    Raises:
        CudaError: PyCUDA or the driver is missing, there is no device, or this process is a fork of
            one that uses them.
    """
    if _driver.module is None:
        with _driver.lock:
            if _driver.module is None and _driver.error is None:
                try:
                    _driver.module = _initialised()
                    _driver.process = os.getpid()
                except ModuleNotFoundError as error:  # which may be mended while we run
                    raise CudaError(f"CUDA devices need PyCUDA ({error}); {INSTALL}") from None
                except CudaError as error:
                    _driver.error = error
        if _driver.error is not None:
            raise CudaError(str(_driver.error))
    if _driver.process != os.getpid():
        raise CudaError(
            "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
            "must use the 'spawn' start method"
        )
    return _driver.module


def _initialised() -> Any:
    try:
        module: Any = importlib.import_module("pycuda.driver")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise CudaError(
            f"PyCUDA cannot be loaded: {error}. It needs NVIDIA's driver (libcuda.so.1)"
        ) from None
    try:
        module.init()
    except module.Error as error:
        raise CudaError(f"NVIDIA's driver finds no CUDA device: {error}") from None
    if not module.Device.count():
        raise CudaError("No CUDA GPUs are available")
    return module


def is_initialised() -> bool:
    """Whether this process uses CUDA."""
    return _driver.module is not None and _driver.process == os.getpid()


def device_count() -> int:
    """How many CUDA devices there are; 0 where one could not be used."""
    try:
        return int(driver().Device.count())
    except CudaError:
        return 0
