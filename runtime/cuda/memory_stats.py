"""What is counted of a GPU's memory, under PyTorch's names."""

from __future__ import annotations

import threading

_KINDS = ("current", "peak", "allocated", "freed")


class MemoryStats:
    """Counters of one device.

    Attributes:
        allocated, peak: bytes in storages, and the most there were.
        count, peak_count: how many storages, and the most there were.
        total, freed: bytes ever allocated and freed.
        total_count, freed_count: how many storages were ever allocated and freed.
        unpooled: bytes of storages that are in no pool.
        reserved_peak: the most bytes that were taken from the driver.
        retries, failures: how often memory was short, and how often in vain.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a storage may die while this thread counts another
        self.allocated = self.peak = self.count = self.peak_count = 0
        self.total = self.freed = self.total_count = self.freed_count = 0
        self.unpooled = self.reserved_peak = 0
        self.retries = self.failures = 0

    def allocate(self, nbytes: int, reserved: int, unpooled: int = 0) -> None:
        with self._lock:
            self.allocated += nbytes
            self.total += nbytes
            self.count += 1
            self.total_count += 1
            self.unpooled += unpooled
            self.peak = max(self.peak, self.allocated)
            self.peak_count = max(self.peak_count, self.count)
            self.reserved_peak = max(self.reserved_peak, reserved + unpooled)

    def free(self, nbytes: int, unpooled: int = 0) -> None:
        with self._lock:
            self.allocated -= nbytes
            self.freed += nbytes
            self.count -= 1
            self.freed_count += 1
            self.unpooled -= unpooled

    def reset_peaks(self, reserved: int) -> None:
        with self._lock:
            self.peak, self.peak_count = self.allocated, self.count
            self.reserved_peak = reserved

    def reset_totals(self) -> None:
        with self._lock:
            self.total = self.freed = self.total_count = self.freed_count = 0
            self.retries = self.failures = 0

    def by_name(self, reserved: int) -> dict[str, int]:
        """PyTorch's `memory_stats`: those of its entries that have a meaning here."""
        rows = {
            "allocation": (self.count, self.peak_count, self.total_count, self.freed_count),
            "allocated_bytes": (self.allocated, self.peak, self.total, self.freed),
            "active_bytes": (self.allocated, self.peak, self.total, self.freed),
            "reserved_bytes": (reserved, max(self.reserved_peak, reserved), None, None),
        }
        found: dict[str, int] = {"num_alloc_retries": self.retries, "num_ooms": self.failures}
        for name, numbers in rows.items():
            for kind, number in zip(_KINDS, numbers, strict=True):
                if number is not None:
                    found[f"{name}.all.{kind}"] = number
        return dict(sorted(found.items()))
