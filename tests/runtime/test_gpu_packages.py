"""Packages for GPUs on a machine that has none: made by NVIDIA's compiler alone, looked at, and
refused where they should run. What they compute is tested in tests/cuda."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import braze

NVCC = shutil.which("/usr/local/cuda/bin/nvcc") or shutil.which("/usr/local/bin/nvcc")
ELF, OF_NVIDIA = b"\x7fELF", 190  # EM_CUDA

PROGRAM = """
    import struct, sys
    import braze
    from braze import nn
    from braze.runtime.package_format import Archive
    if braze.cuda.is_available():
        sys.exit("there is a GPU")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    targets = sys.argv[2].split()
    try:
        braze.aot.compile(model, braze.ones(2, 3, 8, 8), sys.argv[1], target=targets)
    except RuntimeError as error:
        print(error)
        sys.exit()
    archive = Archive(__import__("pathlib").Path(sys.argv[1]))
    print(braze.runtime.load(sys.argv[1], "meta").targets)
    for entry in archive.manifest["targets"]:
        cubin = bytes(archive[entry["cubin"]])
        print(cubin[:4], struct.unpack_from("<H", cubin, 18)[0])
    from braze.runtime.package_insides import package_codes
    with braze.config.using(cache_dir=""):
        print({code.label: code.difference for code in package_codes(sys.argv[1])[:1]})
    try:
        braze.runtime.load(sys.argv[1])
    except RuntimeError as error:
        print(error)
"""


def run(tmp_path, targets, path):
    """What the program prints where no driver can be loaded."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    variables = {
        "PATH": path,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(braze.__file__).parents[1]),
        "BRAZE_CACHE_DIR": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    ran = subprocess.run([sys.executable, program, tmp_path / "m.brz", targets],
                         capture_output=True, text=True, env=variables)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
def test_packages_are_made_without_a_gpu(tmp_path):
    targets = ["sm_75", "sm_90", "sm_120"]
    system = os.pathsep.join([str(Path(NVCC).parent), "/usr/bin", "/bin"])
    first, *cubins, compared, last = run(tmp_path, " ".join(targets), system)
    assert first == str(tuple(targets))
    assert cubins == [f"{ELF!r} {OF_NVIDIA}"] * 3
    assert compared == "{'sm_75': ''}"  # compiled once more, it is the same to the byte
    assert "CUDA" in last


def test_a_missing_compiler_is_said(tmp_path):
    (said,) = run(tmp_path, "sm_80", str(tmp_path))
    assert "cannot run nvcc" in said and "needs NVIDIA's CUDA toolkit on the PATH" in said
    assert not (tmp_path / "m.brz").exists()
