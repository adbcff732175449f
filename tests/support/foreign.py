"""Run a package that was compiled for aarch64 on this machine: linked with a C program that stands
for the runtime, under an emulator."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from braze.ir.dtypes import dtype_named
from braze.runtime.package_codes import code_of
from braze.runtime.package_format import Archive
from braze.runtime.weights import unpack_weights

COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = next(filter(shutil.which, ("qemu-aarch64", "qemu-aarch64-static")), None)
AVAILABLE = EMULATOR is not None and shutil.which(COMPILER) is not None
DRIVER = Path(__file__).with_name("foreign_driver.c")


def run_foreign(path, arrays, folder, *, threads=1, target="aarch64"):
    """The outputs of the package's code for a target.

    Args:
        arrays: what a call is given.
        folder: for what is written on the way.
    """
    archive = Archive(Path(path))
    (entry,) = (t for t in archive.manifest["targets"] if f"/{target}/" in t["pool"])
    everything = dict(unpack_weights(archive["weights.safetensors"]))
    artifact, weights = code_of(archive, entry, everything)
    assert not artifact.calls, "NumPy is not there"
    files = []
    for i, data in enumerate([*artifact.objects, bytes(archive[entry["pool"]])]):
        file = folder / f"{i}.o"
        file.write_bytes(data)
        files.append(file)
    given = iter(arrays)
    inputs = [
        np.ascontiguousarray(
            weights[slot.name] if slot.name in weights else next(given),
            dtype_named(slot.dtype).numpy,
        )
        for slot in artifact.inputs
    ]
    blank = [np.empty(slot.shape, dtype_named(slot.dtype).numpy) for slot in artifact.outputs]
    plan = [
        threads, len(inputs), len(blank), artifact.arena_bytes, artifact.scratch_bytes,
        len(artifact.words), *(x.nbytes for x in (*inputs, *blank)), *artifact.words,
    ]  # fmt: skip
    (folder / "plan").write_text(" ".join(map(str, plan)))
    (folder / "inputs").write_bytes(b"".join(x.tobytes() for x in inputs))
    program = folder / "program"
    link = [COMPILER, "-O1", "-static", f"-DMAIN={artifact.main}", DRIVER, *files, "-lpthread"]
    subprocess.run([*link, "-o", program], check=True, capture_output=True, text=True)
    command = [EMULATOR, program, folder / "plan", folder / "inputs", folder / "outputs"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    data, results, at = (folder / "outputs").read_bytes(), [], 0
    for x in blank:
        results.append(np.frombuffer(data[at : at + x.nbytes], x.dtype).reshape(x.shape))
        at += x.nbytes
    assert at == len(data)
    return results
