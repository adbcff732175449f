"""What compiled code depends on besides the graph and the target: which compiler made it.

In: the installed files.  Out: a version, and a digest that changes with every edit of the compiler,
so that nobody who works on it is served yesterday's code.  The compiler itself is not imported.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

_ROOMS = ("braze.ir", "braze.passes", "braze.codegen", "braze.runtime")


def braze_version() -> str:
    """Braze's version."""
    # The parent package, which is loaded whenever this module is.
    return str(sys.modules["braze"].__version__)


@cache
def llvmlite_version() -> str:
    """Version of llvmlite, which stands for its LLVM's; "none" if it is not installed."""
    # `importlib.metadata` would know as well, and takes longer to import than all of this.
    spec = find_spec("llvmlite")
    if spec is None or not spec.submodule_search_locations:
        return "none"
    text = Path(spec.submodule_search_locations[0], "_version.py").read_text()
    found = re.search(r"""['"](\d+\.\d+[\w.+]*)['"]""", text)
    return found[1] if found else sha256(text.encode()).hexdigest()[:16]


@cache
def compiler_digest() -> str:
    """SHA-256 of the compiler's source files."""
    digest = sha256()
    for room in _ROOMS:
        spec = find_spec(room)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(folder)
            for file in sorted(root.rglob("*.py")):
                content = file.read_bytes()
                name = f"{room}/{file.relative_to(root).as_posix()}"
                digest.update(f"{name} {len(content)}\n".encode())
                digest.update(content)
    return digest.hexdigest()


@cache
def environment() -> dict[str, str]:
    """Everything that compiled code depends on, as the disk cache writes it down."""
    return {
        "braze": braze_version(),
        "llvmlite": llvmlite_version(),
        "compiler": compiler_digest(),
    }
