"""Points in the work of streams, for other streams to wait for.

PyCUDA's events wait for the null stream or have it wait only by way of the host, which stops, as
their handles are not to be had.
"""

from __future__ import annotations

import sys
from ctypes import byref, c_void_p
from typing import Any

from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import is_initialised
from braze.runtime.cuda.graph_calls import call, is_ready

_DISABLE_TIMING = 2  # CUDA driver API, `CUevent_flags`


class Event:
    """What a stream has been given by now. The device's context is active in all calls.

    Args:
        stream: whose; others wait for it by `precede`.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._device: CudaDevice = stream.device
        self._handle = c_void_p()
        call("cuEventCreate", byref(self._handle), _DISABLE_TIMING)
        call("cuEventRecord", self._handle, stream.number)

    def precede(self, stream: Stream) -> None:
        """Have what a stream is given from now on come behind it."""
        if stream is not self.stream:
            call("cuStreamWaitEvent", stream.number, self._handle, 0)

    def has_passed(self) -> bool:
        """Whether the stream has got here.  Raises: CudaError if the device has failed."""
        return is_ready("cuEventQuery", self._handle)

    def __del__(self, _is_finalizing: Any = sys.is_finalizing) -> None:
        if self._handle and not _is_finalizing() and is_initialised():
            with self._device.active():
                call("cuEventDestroy_v2", self._handle)
