"""What a GPU's memory can do, as JSON: ``benchmarks.limits_gpu DEVICE SECONDS MEBIBYTES``.

Bytes that the driver copies from one place of the GPU's memory to another, read and written; and
the GPU's name.
"""

from __future__ import annotations

import json
import sys
import time


def measure(device: str, seconds: float, mebibytes: int) -> tuple[str, dict[str, float]]:
    """The name, and GB/s of copying, by the best of repeated copies, which the GPU itself times."""
    import pycuda.driver as cuda

    cuda.init()
    gpu = cuda.Device(int(device.partition(":")[2] or 0))
    context = gpu.retain_primary_context()
    context.push()
    try:
        size = mebibytes << 20
        source, target = cuda.mem_alloc(size), cuda.mem_alloc(size)
        cuda.memset_d8(source, 1, size)
        begin, end = cuda.Event(), cuda.Event()
        times: list[float] = []
        until = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < until:
            begin.record()
            cuda.memcpy_dtod_async(target, source, size)
            end.record()
            end.synchronize()
            times.append(end.time_since(begin) / 1e3)
        source.free()
        target.free()
        return gpu.name(), {"copy": 2 * size / min(times) / 1e9}
    finally:
        context.pop()


def main() -> None:
    """Measure and print; see the module's description."""
    device, seconds, mebibytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    name, limits = measure(device, seconds, mebibytes)
    print(json.dumps({"name": name, **limits}))


if __name__ == "__main__":
    main()
