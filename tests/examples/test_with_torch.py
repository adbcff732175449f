"""examples/with_torch.py: an example trains under PyTorch, on data that come with Braze."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_an_example_trains_under_torch():
    for name in ("torch", "tqdm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    program = ["examples/with_torch.py", "examples/vae/main.py", "--limit", "1000", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    bounds = [float(bound) for bound in re.findall(r"test ([\d.]+)", done.stdout)]
    assert len(bounds) == 2 and bounds[1] < bounds[0] < 400
