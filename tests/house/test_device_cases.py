"""The list of tests that run on a device, and of those that do not, names tests that there are."""

import re
from pathlib import Path

import device_cases

FOLDER = Path(__file__).resolve().parents[1] / "frontend"


def test_every_file_and_test_that_is_named_is_there():
    assert device_cases.CPU_ONLY.keys() | device_cases.SAMPLED <= device_cases.FILES
    for name in device_cases.FILES:
        text = (FOLDER / f"test_{name}.py").read_text()
        tests = set(re.findall(r"^def (test_\w+)", text, re.M))
        assert device_cases.CPU_ONLY.get(name, {}).keys() <= tests, name
