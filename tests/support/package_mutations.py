"""Mutations of packages, tried in another process: `mutated_packages`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import braze
from braze import nn
from braze.aot import Dim

PROGRAM = Path(__file__).with_name("mutated_packages.py")


def fixed_and_dynamic(
    folder: Path, target: str | None = None, weights: str | None = None
) -> dict[str, Path]:
    """Packages of a small network: one for fixed sizes, one for several.

    Args:
        weights: the dtype of the first one's.
    """
    braze.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    fixed, dynamic = folder / "fixed.brz", folder / "dynamic.brz"
    braze.aot.compile(net, braze.zeros(3, 12), fixed, target, weights=weights)
    sizes = [{0: Dim("batch", min=9, max=16)}]
    braze.aot.compile(net, braze.zeros(12, 12), dynamic, target, dynamic=sizes)
    return {"fixed": fixed, "dynamic": dynamic}


def facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the first target's code is said to be like."""
    return manifest["targets"][0]["facts"]


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
