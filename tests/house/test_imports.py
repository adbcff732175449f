"""Imports point one way: passes -> ir; codegen -> ir; runtime -> all three; frontend -> ir.

Only frontend/engine.py may reach the runtime, and frontend/serve_command.py its server, for which
nothing of the front end is loaded. Imports inside functions and under TYPE_CHECKING
count like any other.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "ir": {"ir"},
    "passes": {"passes", "ir"},
    "codegen": {"codegen", "ir"},
    "runtime": {"runtime", "passes", "codegen", "ir"},
    "frontend": {"frontend", "ir"},
}
SERVER = "braze.runtime.serving."


def room_of(module: str) -> str | None:
    """The folder that a module lives in, or None where it is not Braze's."""
    parts = module.split(".")
    if parts[0] != "braze":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "frontend"


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name of each module that the source imports, by statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            # `from braze import ir` reaches a folder; `from braze import Tensor` the front end.
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            function, first = node.func, node.args[0]
            name = getattr(function, "attr", None) or getattr(function, "id", None)
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def violations(folder: str, file: str, source: str) -> list[str]:
    allowed = set(ALLOWED[folder])
    if (folder, file) == ("frontend", "engine.py"):
        allowed.add("runtime")
    is_server_door = (folder, file) == ("frontend", "serve_command.py")
    return [
        f"{folder}/{file}:{line}: {folder} must not import {module}"
        for line, module in imported_modules(ast.parse(source))
        if room_of(module) not in allowed | {None}
        and not (is_server_door and module.startswith(SERVER))
    ]


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = []
    for file in files:
        found += violations(folder, str(file.relative_to(ROOT / folder)), file.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "file", "source"),
    [
        ("ir", "x.py", "import braze"),
        ("ir", "x.py", "from braze.passes.fuse import fuse"),
        ("ir", "ops/x.py", "def f():\n    from braze import runtime"),
        ("passes", "x.py", "from braze import codegen"),
        ("codegen", "x.py", "import braze.passes as p"),
        ("runtime", "x.py", "from braze import Tensor"),
        ("runtime", "x.py", "from braze.tensors import Tensor"),
        ("runtime", "x.py", "import importlib\nimportlib.import_module('braze.nn')"),
        ("frontend", "cli.py", "from braze.runtime.stats import stats"),
        ("frontend", "nn/engine.py", "import braze.runtime"),
        ("frontend", "engine.py", "import braze.passes"),
        ("frontend", "serve_command.py", "from braze.runtime.package import load"),
        ("frontend", "cli.py", "from braze.runtime.serving.command import main"),
    ],
)
def test_the_check_finds_a_wrong_import(folder, file, source):
    assert len(violations(folder, file, source)) == 1


@pytest.mark.parametrize(
    ("folder", "file", "source"),
    [
        ("ir", "x.py", "import numpy\nfrom braze.ir.types import TensorType\nfrom braze import ir"),
        ("passes", "x.py", "import networkx\nfrom braze.ir import graph"),
        ("runtime", "x.py", "from braze.codegen.llvm import compile\nimport braze.passes"),
        ("frontend", "engine.py", "from braze import runtime\nimport braze.runtime.cache"),
        ("frontend", "nn/linear.py", "from braze.nn.module import Module\nfrom braze import ir"),
        ("frontend", "serve_command.py", "from braze.runtime.serving.command import main"),
    ],
)
def test_the_check_allows_a_right_import(folder, file, source):
    assert violations(folder, file, source) == []


def test_the_runtime_starts_alone():
    """What loads and runs a package needs no front end, no passes and no compiler."""
    program = (
        "import sys, braze.runtime\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('braze', 'llvmlite')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = done.stdout.split()
    assert "braze.runtime" in loaded
    wrong = [m for m in loaded if m != "braze" and room_of(m) not in ("runtime", "ir")]
    assert not wrong
