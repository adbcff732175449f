"""Every module imports by its package name, its examples hold, and its folder is mapped."""

import doctest
import importlib
import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]


def source_modules() -> Iterator[tuple[str, Path]]:
    """Package name and file of every module in the five folders."""
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(p for p in parts if p != "__init__")]), file


MODULES = dict(source_modules())
# Packages that need an extra.
NEEDS = {
    "braze.onnx": ["onnx.defs"],
    "braze.runtime.serving": ["starlette", "uvicorn", "prometheus_client"],
}


def need(name: str) -> None:
    """Skip the test of a module whose extra is not installed."""
    for package, needed in NEEDS.items():
        if name.startswith(package):
            for module in needed:
                pytest.importorskip(module)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith(".__main__")])
def test_examples_in_docstrings(name):
    need(name)
    module = importlib.import_module(name)
    assert module.__name__ == name
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_mapping_covers_every_module(name):
    need(name)
    assert importlib.util.find_spec(name) is not None


def test_folders_of_modules_are_packages():
    """A folder without `__init__.py` works from a wheel and not from an editable install."""
    folders = {file.parent for file in MODULES.values()}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_test_files_have_unique_names_and_no_packages():
    """Two tests of one name collide, and a package in tests/ puts the folders on sys.path."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert not [str(file) for file in files if file.name == "__init__.py"]
    names = [file.name for file in files if file.name != "conftest.py"]
    assert not {name for name in names if names.count(name) > 1}
