"""examples/c_interface: as its README says, from training to the program's answers."""

import shutil
import subprocess
import sys
from pathlib import Path

import c_programs
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "c_interface"
MAKE = shutil.which("make")


@pytest.mark.skipif(c_programs.COMPILER is None or MAKE is None, reason="no C compiler, or no make")
def test_the_program_reads_digits(tmp_path):
    for file in ("Makefile", "model.py", "main.c"):
        shutil.copy(FOLDER / file, tmp_path)
    made = [f"PYTHON={sys.executable}", "CFLAGS=-Wall -Wextra -Werror -pedantic"]
    done = subprocess.run(["make", *made], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pictures = sorted(path.name for path in tmp_path.glob("*.pgm"))
    assert len(pictures) == 6
    done = c_programs.run(tmp_path / "classify", *pictures)
    answers = [line.split()[1] for line in done.stdout.splitlines()]
    digits = [name.rpartition("-")[2][0] for name in pictures]
    assert sum(a == d for a, d in zip(answers, digits, strict=True)) >= 5
    assert c_programs.run(tmp_path / "classify", "main.c").returncode == 1
    assert c_programs.run(tmp_path / "classify").returncode == 2
