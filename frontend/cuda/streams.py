"""Streams and events of CUDA devices.

Operations are captured, and run on the stream that is current when their trace runs: entering or
leaving a block with another stream, and recording an event, are points at which it does.
"""

from __future__ import annotations

from typing import Any

from braze import engine
from braze.capture import flush
from braze.cuda.devices import device_at
from braze.devices import device as _Device


class Stream:
    """A queue of work on one GPU, which does not wait for the others.

    Args:
        device: the GPU; by default the current one.
        priority: accepted; all streams have one.

    Raises:
        RuntimeError: there is no such device.
    """

    def __init__(self, device: Any = None, priority: int = 0, _raw: Any = None) -> None:
        self._raw = device_at(device).new_stream() if _raw is None else _raw
        self.priority = 0

    @property
    def device(self) -> _Device:
        """The GPU."""
        return _Device(self._raw.device.name)

    @property
    def cuda_stream(self) -> int:
        """The driver's handle; 0 for the default stream."""
        return 0 if self._raw.handle is None else int(self._raw.handle.handle)

    def synchronize(self) -> None:
        """Run what was captured, and wait until all work of this stream is done."""
        flush()
        self._raw.synchronize()

    def query(self) -> bool:
        """Whether all work is done."""
        if self._raw.handle is None:
            return self.record_event().query()
        with self._raw.device.active():
            return bool(self._raw.handle.is_done())

    def record_event(self, event: Event | None = None) -> Event:
        """An event that happens when the work so far is done."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let what comes next wait for an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let what comes next wait for the work so far of another stream."""
        self.wait_event(stream.record_event())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self._raw is other._raw

    def __hash__(self) -> int:
        return hash((Stream, id(self._raw)))

    def __repr__(self) -> str:
        return f"<braze.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A place in a stream, to wait for or to measure time between.

    Args:
        enable_timing: whether `elapsed_time` can be asked for.
        blocking: whether waiting gives the processor away.
        interprocess: must be False.

    Raises:
        NotImplementedError: interprocess.
    """

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        if interprocess:
            raise NotImplementedError("Event(interprocess=True) is not implemented")
        self._timed = enable_timing
        self._blocking = blocking
        self._device: Any = None
        self._raw: Any = None

    def record(self, stream: Stream | None = None) -> None:
        """Run what was captured, and happen when a stream's work so far is done."""
        flush()
        stream = current_stream() if stream is None else stream
        cuda = engine.cuda().driver()
        raw = stream._raw
        if self._device is not raw.device:
            flags = 0 if self._timed else cuda.event_flags.DISABLE_TIMING
            flags |= cuda.event_flags.BLOCKING_SYNC if self._blocking else 0
            with raw.device.active():
                self._raw = cuda.Event(flags)
            self._device = raw.device
        with raw.device.active():
            self._raw.record(raw.handle)

    def query(self) -> bool:
        """Whether it has happened; one that was never recorded has."""
        if self._raw is None:
            return True
        with self._device.active():
            return bool(self._raw.query())

    def synchronize(self) -> None:
        """Wait until it has happened."""
        if self._raw is not None:
            with self._device.active():
                self._raw.synchronize()

    def wait(self, stream: Stream | None = None) -> None:
        """Let what comes next in a stream wait for it."""
        flush()
        stream = current_stream() if stream is None else stream
        if self._raw is None:
            return
        if stream._raw.handle is None:  # which PyCUDA has no name for: the host waits in its place
            self.synchronize()
        else:
            with stream._raw.device.active():
                stream._raw.handle.wait_for_event(self._raw)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another.

        Raises:
            RuntimeError: one was not recorded, or measures no time.
        """
        if not (self._timed and end_event._timed) or self._raw is None or end_event._raw is None:
            raise RuntimeError(
                "Both events must be recorded, and made with argument 'enable_timing=True', before "
                "calculating elapsed time."
            )
        with self._device.active():
            return float(self._raw.time_till(end_event._raw))

    def __repr__(self) -> str:
        return f"<braze.cuda.Event {'uninitialized' if self._raw is None else self._device.name}>"


class StreamContext:
    """A `with` block in which a stream is the current one of its GPU.

    Args:
        stream: None changes nothing.
    """

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: Any = None

    def __enter__(self) -> None:
        if self.stream is not None:
            self._before = self.stream._raw.device.stream
            set_stream(self.stream)

    def __exit__(self, *error: object) -> None:
        if self.stream is not None:
            flush()
            self.stream._raw.device.stream = self._before


def stream(stream: Stream | None) -> StreamContext:
    """As `StreamContext`."""
    return StreamContext(stream)


def set_stream(stream: Stream) -> None:
    """Make a stream the current one of its GPU, in the calling thread."""
    flush()
    stream._raw.device.stream = stream._raw


def current_stream(device: Any = None) -> Stream:
    """The stream on which a GPU's work runs.  Raises: RuntimeError, there is no such device."""
    return Stream(_raw=device_at(device).stream)


def default_stream(device: Any = None) -> Stream:
    """CUDA's null stream of a GPU.  Raises: RuntimeError, there is no such device."""
    return Stream(_raw=device_at(device).default_stream)
