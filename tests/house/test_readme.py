"""The README's sample runs as it stands, and its test command is the one that CI uses."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_sample_runs(tmp_path):
    (sample,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "sample.py").write_text(sample)
    done = subprocess.run(
        [sys.executable, "sample.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    # An untrained classifier of ten classes has a loss of ln 10 = 2.3.
    assert float(done.stdout.splitlines()[0]) < 1.0


def test_the_commands_are_those_that_are_checked():
    commands = re.findall(r"^    (python3 .*)$", README, re.MULTILINE)
    assert len(commands) == 2
    steps = [command.split(" && ") for command in commands]
    assert steps[0][-1] == ".venv/bin/braze demo"
    run = (ROOT / ".ci/run").read_text()
    assert steps[1][-1] in run.splitlines()
    assert "'.[dev]'" in steps[1][1] and "'.[dev]'" in run
