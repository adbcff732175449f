"""What CI gets ready for tests of CUDA devices: PyCUDA where there is a GPU, else the emulator."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "-m pip install --quiet --editable .[dev,cuda]"
EMULATE = "tests/cuda_emulator/run.py"
# Tools that are there, and the codes that they end with; what Python is called with; what is said.
CASES = {
    "a GPU": ({"nvidia-smi": 0, "nvcc": 0, "g++": 0}, [INSTALL], "a GPU of the test"),
    "a toolkit beside the path": (
        {"nvidia-smi": 0, "home/bin/nvcc": 0},
        [INSTALL],
        "home/bin/nvcc",
    ),
    "no toolkit": ({"nvidia-smi": 0, "g++": 0}, [], "no nvcc: tests of CUDA devices are skipped"),
    "a driver that does not work": ({"nvidia-smi": 9, "nvcc": 0, "g++": 0}, [EMULATE], ""),
    "no GPU": ({"g++": 0}, [EMULATE], ""),
    "nothing": ({}, [], "no g++: tests of CUDA devices are skipped"),
}


@pytest.mark.parametrize("tools, calls, said", CASES.values(), ids=CASES)
def test_what_is_made_ready(tmp_path, tools, calls, said):
    def tool(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    for name, code in tools.items():
        tool(name if "/" in name else f"tools/{name}", f"echo a GPU of the test; exit {code}")
    tool(".venv/bin/python", f'echo "$*" >> {tmp_path}/calls')
    script = f"set -euo pipefail; cd {tmp_path}; . {ROOT}/.ci/devices; echo went on"
    paths = {"PATH": f"{tmp_path}/tools", "CUDA_HOME": f"{tmp_path}/home"}
    done = subprocess.run(
        ["/bin/bash", "-c", script], env=paths, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.endswith("went on\n"), done.stderr
    assert said in done.stdout
    log = tmp_path / "calls"
    assert (log.read_text().splitlines() if log.exists() else []) == calls


def test_it_stops_where_pycuda_cannot_be_built(tmp_path):
    for name, code in {"nvidia-smi": 0, "nvcc": 0, ".venv/bin/python": 1}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        path.chmod(0o755)
    script = f"set -euo pipefail; cd {tmp_path}; . {ROOT}/.ci/devices; echo went on"
    done = subprocess.run(
        ["/bin/bash", "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode and "went on" not in done.stdout


def test_ci_uses_it_before_the_tests():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines.index(". .ci/devices") < lines.index('step "tests"')
