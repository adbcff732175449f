"""Mutations of packages, tried in another process: `mutated_packages`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = Path(__file__).with_name("mutated_packages.py")


def check_mutations(
    package: Path, kind: str, count: int, environment: Mapping[str, str] | None = None
) -> None:
    """So many of a kind are refused or harmless, most of them refused."""
    command = [sys.executable, str(PROGRAM), str(package), str(count), "1", kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, lines[-1:], done.stderr[-2000:])
    assert len(lines) == count
    refused = sum(line.endswith(" refused") for line in lines)
    # The text may have been laid out otherwise, or an item exchanged with itself.
    assert refused > count * (0.2 if kind == "resealed" else 0.8)
