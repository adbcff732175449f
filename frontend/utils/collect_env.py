"""What to put into a bug report: `python -m braze.utils.collect_env` prints it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections import namedtuple

SystemEnv = namedtuple(
    "SystemEnv",
    "braze_version python_version platform cpu cores target vector_bits caches threads "
    "cuda_available config packages",
)
PACKAGES = ("numpy", "llvmlite", "networkx", "ml_dtypes", "safetensors", "pycuda", "torch")


def get_env_info() -> SystemEnv:
    """Versions, the machine, what code is generated for, and the settings."""
    import braze
    from braze.engine import host_target

    target = host_target()
    return SystemEnv(
        braze_version=braze.__version__,
        python_version=sys.version.replace("\n", " "),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        target=f"{target.cpu} {' '.join(target.features)}",
        vector_bits=target.vector_bits,
        caches=f"{target.l1_bytes >> 10} KiB, {target.l2_bytes >> 10} KiB",
        threads=braze.get_num_threads(),
        cuda_available=braze.cuda.is_available(),
        config=", ".join(repr(braze.config).splitlines()),
        packages=", ".join(_installed()),
    )


def get_pretty_env_info() -> str:
    """The same as text, a line for each."""
    rows = get_env_info()._asdict().items()
    return "\n".join(f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in rows)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _installed() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Print it."""
    print("Collecting environment information...")
    print(get_pretty_env_info())


if __name__ == "__main__":
    main()
