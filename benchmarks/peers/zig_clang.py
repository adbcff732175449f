"""`clang` by way of the package `ziglang`, for machines without one: ``python zig_clang.py ...``.

tinygrad calls its compiler with an object file on standard output and a bare target.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Zig adds checks and debug information, whose relocations tinygrad's loader does not know.
PLAIN = [
    "-fno-sanitize=undefined", "-g0", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-Wl,--strip-debug",
]  # fmt: skip


def provide() -> None:
    """Let tinygrad, imported after this, find a compiler: where there is no clang, this one."""
    if "CC" in os.environ or shutil.which("clang"):
        return
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    script = Path(folder.name) / "clang"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    script.chmod(0o755)
    os.environ["CC"] = str(script)


def main() -> int:
    """Translate the arguments and pass the object on."""
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None and spec.origin is not None
    zig = Path(spec.origin).parent / "zig"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.o"
        arguments = []
        for argument in sys.argv[1:]:
            if argument.startswith("--target="):
                machine = argument.removeprefix("--target=").split("-")[0]
                arguments += ["-target", f"{machine}-freestanding-none"]
            else:
                arguments.append(argument)
        to_output = arguments[-2:] == ["-o", "-"]
        if to_output:
            arguments[-1] = str(made)
        done = subprocess.run([zig, "cc", *arguments, *PLAIN])
        if to_output and done.returncode == 0:
            sys.stdout.buffer.write(made.read_bytes())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
