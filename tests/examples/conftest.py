"""`load_example(name)` is the module examples/<name>/main.py, which finds those beside it."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load_example(monkeypatch):
    def load(name, file="main"):
        pytest.importorskip("tqdm")
        path = EXAMPLES / name / f"{file}.py"
        monkeypatch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(f"example_{name}_{file}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
