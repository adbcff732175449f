"""Starting with a model from a file: ``python -m benchmarks.starting FORMAT ...``.

    write FORMAT WORKLOAD FOLDER THREADS     model and inputs, as a deployment has them
    load FORMAT FOLDER THREADS               import the runtime, load, call once; prints the times

The second is a process of its own, with nothing imported but NumPy and what the runtime needs. The
files are in the system's page cache, as they are after a deployment wrote them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import inference, published
from benchmarks.processes import Setting
from benchmarks.suite import Workload

# Peer -> its file's name.
FORMATS = {"braze.aot": "model.brz", "onnxruntime": "model.onnx"}


def write(peer: str, name: str, folder: Path, threads: int) -> None:
    """Write a peer's file, and the inputs."""
    from benchmarks.peers import PEERS
    from benchmarks.suite import workloads

    adapter: Any = PEERS[peer].open(threads)
    arrays = adapter.write(workloads()[name], folder / FORMATS[peer])
    np.savez(folder / "inputs.npz", *arrays)


# What makes a callable of a file and a number of threads.
Loader = Callable[[Path, int], Callable[[list[np.ndarray]], Any]]


def _braze() -> Loader:
    from braze.runtime import load, set_num_threads

    def open_file(path: Path, threads: int) -> Callable[[list[np.ndarray]], Any]:
        set_num_threads(threads)
        model = load(path)
        return lambda arrays: model(*arrays)

    return open_file


def _onnxruntime() -> Loader:
    import onnxruntime

    def open_file(path: Path, threads: int) -> Callable[[list[np.ndarray]], Any]:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))

    return open_file


# Peer -> imports its runtime.
_IMPORTS = {"braze.aot": _braze, "onnxruntime": _onnxruntime}


def load(peer: str, folder: Path, threads: int) -> dict[str, float]:
    """Milliseconds of importing, of loading and of the first call, and the peak memory."""
    from benchmarks.worker import resident

    arrays = list(np.load(folder / "inputs.npz").values())
    before = time.perf_counter()
    open_file = _IMPORTS[peer]()
    imported = time.perf_counter()
    run = open_file(folder / FORMATS[peer], threads)
    loaded = time.perf_counter()
    run(arrays)
    done = time.perf_counter()
    return {
        "import_ms": 1e3 * (imported - before),
        "load_ms": 1e3 * (loaded - imported),
        "first_ms": 1e3 * (done - loaded),
        "peak_bytes": float(resident("VmHWM")),
    }


def _measure(name: str) -> Callable[[Setting, str], dict[str, Any]]:
    """Of several processes the one that was ready first; importing is not counted."""

    def measure(setting: Setting, peer: str) -> dict[str, Any]:
        module, threads = ["-m", "benchmarks.starting"], str(setting.threads)
        with tempfile.TemporaryDirectory() as folder:
            setting.run([*module, "write", peer, name, folder, threads])
            found = [
                json.loads(setting.run([*module, "load", peer, folder, threads]))
                for _ in range(2 if setting.quick else 7)
            ]
        best = min(found, key=lambda times: times["load_ms"] + times["first_ms"])
        return {"value": best["load_ms"] + best["first_ms"], **best}

    return measure


WORKLOADS = [
    Workload(
        w.name.replace("infer.", "start."),
        "overheads",
        f"loading a model and the first call: {w.about}",
        measure=_measure(w.name),
        peers=tuple(FORMATS),
        bars=("start",),
    )
    for w in (*inference.WORKLOADS, *published.WORKLOADS)
]


def main(action: str, peer: str, *rest: str) -> None:
    """What the command line asks for."""
    if action == "write":
        name, folder, threads = rest
        write(peer, name, Path(folder), int(threads))
    else:
        folder, threads = rest
        print(json.dumps(load(peer, Path(folder), int(threads))))


if __name__ == "__main__":
    main(*sys.argv[1:])
