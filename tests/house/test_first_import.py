"""Each module of the front end can be the first that a program imports."""

import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parents[2] / "frontend"

# Forks, so that the packages are loaded once; every child then imports one name.
SCRIPT = """
import os, sys
import numpy, ml_dtypes, networkx, llvmlite.binding
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
sys.exit(bool(failed))
"""


def test_any_module_can_be_imported_first():
    files = [*FRONTEND.glob("*.py"), *FRONTEND.glob("*/__init__.py")]
    names = {f.parent.name if f.stem == "__init__" else f.stem for f in files}
    names -= {"__main__", FRONTEND.name}
    assert len(names) > 20
    command = [sys.executable, "-c", SCRIPT, *(f"braze.{name}" for name in sorted(names))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
