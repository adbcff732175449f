"""examples/with_torch.py: an example trains under PyTorch, on data that come with Braze."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def under_torch(*program):
    """What the program prints."""
    for name in ("torch", "tqdm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    command = [sys.executable, "examples/with_torch.py", *program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_example_trains_under_torch():
    printed = under_torch("examples/vae/main.py", "--limit", "1000", "--epochs", "2")
    bounds = [float(bound) for bound in re.findall(r"test ([\d.]+)", printed)]
    assert len(bounds) == 2 and bounds[1] < bounds[0] < 400


def test_processes_that_it_spawns_have_torch_too(tmp_path):
    program = tmp_path / "several.py"
    program.write_text(PROGRAM)
    assert sorted(under_torch(str(program), "hello").split("\n")[:-1]) == [
        f"{number} torch torch.nn.functional hello" for number in range(2)
    ]


PROGRAM = """
import sys

import braze
import braze.multiprocessing as mp
import braze.nn.functional as F


def work(number):
    print(f"{number} {braze.__name__} {F.__name__} {sys.argv[1]}", flush=True)


if __name__ == "__main__":
    mp.start_processes(work, nprocs=2, start_method="spawn")
"""
