"""What the machine can do, as JSON: ``python -m benchmarks.limits THREADS SECONDS MEBIBYTES``.

The figures are those of `braze.runtime.limits`.
"""

from __future__ import annotations

import json
import sys

from braze.codegen.llvm.limit_loops import fma_text, memory_text
from braze.runtime.limits import aligned, measure, native

__all__ = ["UNITS", "aligned", "fma_text", "measure", "memory_text", "native"]

UNITS = {
    "fma_f32_1": "GFLOP/s", "fma_f32_all": "GFLOP/s", "fma_f64_1": "GFLOP/s",
    "fma_f64_all": "GFLOP/s", "copy": "GB/s", "copy_streaming": "GB/s", "read": "GB/s",
}  # fmt: skip


def main() -> None:
    """Measure and print; see the module's description."""
    threads, seconds, mebibytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(measure(threads, seconds, mebibytes)))


if __name__ == "__main__":
    main()
