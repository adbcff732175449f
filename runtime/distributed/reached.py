"""When operations of GPUs are done, and how long they took.

In: events in the stream of an operation.  Out: what `Progress` asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from braze.runtime.cuda.devices import CudaDevice, Stream
from braze.runtime.cuda.driver import CudaError, driver
from braze.runtime.cuda.events import Event
from braze.runtime.distributed.nccl import require_sound

if TYPE_CHECKING:
    from braze.runtime.distributed.device_group import DeviceGroup


class Reached:
    """A request as `Progress` asks it: done once the GPU has got to an event.

    Args:
        comm: NCCL's communicator, which may say that it has failed.
        what: the operation.
        source: whom a message came from.
        watch: what times it, if anything does.
    """

    def __init__(
        self,
        group: DeviceGroup,
        device: CudaDevice,
        event: Event,
        comm: Any,
        what: str,
        source: int | None,
        watch: Stopwatch | None,
    ) -> None:
        self._group, self._device, self._event = group, device, event
        self._comm, self._what = comm, what
        self._source, self._watch = source, watch

    def precede(self) -> None:
        """Come before what is enqueued next, if that is on another stream."""
        with self._device.active():
            self._event.precede(self._device.stream)

    def Test(self, status: Any) -> bool:
        """Whether it is done.

        Raises:
            OSError: the GPU has failed, or a rank may be gone.
            DistBackendError: NCCL cannot do it.
        """
        self._group.require_open(self._what)
        try:
            with self._device.active():
                done = self._event.has_passed()
                require_sound(self._comm, f"[{self._what}] NCCL refuses it")
        except (driver().Error, CudaError) as error:
            raise OSError(str(error)) from None
        if self._source is not None:
            status.Set_source(self._source)
        return done

    def span(self) -> tuple[float, float] | None:
        """When it began and ended on the GPU, as `time.perf_counter` counts; None if nobody timed
        it."""
        return None if self._watch is None else self._watch.span()


class Stopwatch:
    """Times what a stream does from here to `stop`; the device's context is active.

    Args:
        idle: a stream with nothing to do, which tells how the GPU's time is to the host's.
    """

    def __init__(self, device: CudaDevice, idle: Stream, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self._now, self._start, self._end = (driver().Event() for _ in range(3))
        self._now.record(idle.handle)
        self._now.synchronize()
        self._host = time.perf_counter()
        self._start.record(stream.handle)

    def stop(self) -> None:
        """What the stream is given from now on does not count."""
        self._end.record(self._stream.handle)

    def span(self) -> tuple[float, float]:
        """From when to when, once it is over."""
        with self._device.active():
            start, end = (self._now.time_till(event) / 1e3 for event in (self._start, self._end))
        return self._host + start, self._host + end
