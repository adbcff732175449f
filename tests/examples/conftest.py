"""`load_example(name)` is the module examples/<name>/main.py."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load_example():
    def load(name):
        pytest.importorskip("tqdm")
        path = EXAMPLES / name / "main.py"
        spec = importlib.util.spec_from_file_location(f"example_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
