"""What GPUs' memory is used for, under PyTorch's names. Without a GPU nothing is.

"Allocated" is what tensors and running programs hold; "reserved" what was taken from the driver,
which keeps freed memory for the next tensor until `empty_cache`.
"""

from __future__ import annotations

from typing import Any

from braze import engine
from braze.cuda.devices import index_of, is_available


def _device(wanted: Any) -> Any:
    """The runtime's device if it is in use; else None, so that asking does not start it."""
    if not is_available():
        return None
    index = index_of(wanted)
    return next((d for d in engine.cuda().devices_in_use() if d.index == index), None)


def memory_stats(device: Any = None) -> dict[str, int]:
    """The counters by name; empty for a GPU that is not in use."""
    found = _device(device)
    return {} if found is None else found.stats.by_name(found.reserved_bytes())


def _entry(device: Any, name: str) -> int:
    return memory_stats(device).get(name, 0)


def memory_allocated(device: Any = None) -> int:
    """Bytes in tensors and running programs."""
    return _entry(device, "allocated_bytes.all.current")


def max_memory_allocated(device: Any = None) -> int:
    """The most there were since the start or `reset_peak_memory_stats`."""
    return _entry(device, "allocated_bytes.all.peak")


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the driver."""
    return _entry(device, "reserved_bytes.all.current")


def max_memory_reserved(device: Any = None) -> int:
    """The most there were since the start or `reset_peak_memory_stats`."""
    return _entry(device, "reserved_bytes.all.peak")


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved  # early names


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let the peaks begin from what is in use now."""
    found = _device(device)
    if found is not None:
        found.stats.reset_peaks(found.reserved_bytes())


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats  # early names


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Count what is allocated and freed from now on."""
    found = _device(device)
    if found is not None:
        found.stats.reset_totals()


def empty_cache() -> None:
    """Return the memory of all GPUs that nothing uses to the driver."""
    if is_available():
        for device in engine.cuda().devices_in_use():
            device.empty_cache()


def ipc_collect() -> None:
    """Let go of tensors that other processes received and have dropped."""
    from braze.multiprocessing.gpu_memory import collect

    collect()


_ROWS = (
    ("Allocated memory", "allocated_bytes"),
    ("Active memory", "active_bytes"),
    ("Reserved memory", "reserved_bytes"),
    ("Allocations", "allocation"),
)
_COLUMNS = ("current", "peak", "allocated", "freed")


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """A table of the counters.

    Args:
        abbreviated: only what is in use and the peaks.
    """
    stats = memory_stats(device)
    columns = _COLUMNS[:2] if abbreviated else _COLUMNS
    lines = [f"CUDA memory of device {index_of(device)}"]
    lines.append(f"{'':20}" + "".join(f"{name:>16}" for name in columns))
    for title, name in _ROWS:
        cells = [stats.get(f"{name}.all.{column}") for column in columns]
        lines.append(f"{title:20}" + "".join(f"{'' if c is None else f'{c:,}':>16}" for c in cells))
    lines.append(
        f"{'Out of memory':20}{stats.get('num_ooms', 0):>16,} after "
        f"{stats.get('num_alloc_retries', 0):,} retries"
    )
    return "\n".join(lines)
