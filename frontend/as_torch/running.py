"""`braze run`: a PyTorch program, as it is, with Braze in PyTorch's place.

Processes that the program starts get the same: `torch` in them comes from a folder that is put
first on their search path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from braze.as_torch import alias
from braze.as_torch.names_used import missing_names
from braze.as_torch.nearest import explain_missing, nearest

SHIM = str(Path(__file__).with_name("shim"))


def run(script: str, arguments: Sequence[str] = (), module: bool = False) -> int:
    """Run a program.

    Args:
        script: its file, or with `module` the name of a module.
        arguments: what it finds in `sys.argv` behind its name.

    Returns:
        Its exit status: 1 if an exception ended it, which is printed as Python prints it, with
        what is nearest to a missing name.

    Raises:
        FileNotFoundError: there is no such program.
    """
    alias.install()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        part for part in (SHIM, os.environ.get("PYTHONPATH", "")) if part
    )
    file, package = _find_module(script) if module else (script, None)
    source = Path(file).read_bytes()
    sys.argv = [file, *arguments]
    sys.path[0:1] = [os.getcwd() if module else str(Path(file).resolve().parent), SHIM]
    main = ModuleType("__main__")
    main.__file__ = file
    if package is not None:
        main.__package__ = package
    sys.modules["__main__"] = main
    try:
        code = compile(source, file, "exec")
        _warn_of_missing(source, file)
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _report(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def check(script: str, module: bool = False) -> int:
    """Print the names that a program uses and Braze lacks.

    Args:
        script: its file, or with `module` the name of a module.

    Returns:
        1 if there are any, else 0.

    Raises:
        FileNotFoundError: there is no such program. SyntaxError: it is no Python.
    """
    file = _find_module(script)[0] if module else script
    found = missing_names(Path(file).read_bytes(), file)
    for missing in found:
        print(f"{file}:{missing.line}: {missing.text}")
    return 1 if found else 0


def _warn_of_missing(source: bytes, file: str) -> None:
    """Say on standard error which names are missing, before hours were spent to get there."""
    for missing in missing_names(source, file):
        print(f"braze: {file}:{missing.line}: {missing.text}", file=sys.stderr)


def _find_module(name: str) -> tuple[str, str]:
    """The file to run for `-m name`, and its package."""
    from importlib.util import find_spec

    sys.path[0:0] = [os.getcwd()]
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    finally:
        del sys.path[0]
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"there is no module {name!r} to run")
    return spec.origin, spec.name.rpartition(".")[0]


# What ends a program ------------------------------------------------------------------------------


def _report(error: BaseException) -> None:
    """Print a traceback of the program's frames alone, with a hint at a missing name."""
    hint = _hint(error)
    if hint and hint not in str(error):
        error.add_note(hint)
    error = error.with_traceback(_of_program(error.__traceback__))
    sys.excepthook(type(error), error, error.__traceback__)


def _of_program(traceback: TracebackType | None) -> TracebackType | None:
    """Without what ran the program, and without what an alias did to find a name."""
    while traceback is not None and _file_of(traceback) == __file__:
        traceback = traceback.tb_next
    at = traceback
    while at is not None and at.tb_next is not None:
        if _file_of(at.tb_next) == alias.__file__:
            at.tb_next = None
            break
        at = at.tb_next
    return traceback


def _file_of(traceback: TracebackType) -> str:
    return traceback.tb_frame.f_code.co_filename


_CANNOT_IMPORT = re.compile(r"cannot import name '(\w+)' from 'torch")


def _hint(error: BaseException) -> str | None:
    """What comes nearest to a name that an exception is about."""
    if isinstance(error, ModuleNotFoundError):
        if error.name and error.name.startswith("torch."):
            owner, _, name = error.name.rpartition(".")
            return explain_missing(owner, name)
        return None
    if isinstance(error, ImportError):
        match = _CANNOT_IMPORT.match(str(error))
        if match and error.name:
            return explain_missing(error.name, match[1])
        return None
    if isinstance(error, AttributeError) and error.name:
        return _hint_at_attribute(error.obj, error.name)
    return None


def _hint_at_attribute(owner: Any, name: str) -> str | None:
    import braze

    kind = owner if isinstance(owner, type) else type(owner)
    if issubclass(kind, braze.Tensor):
        return explain_missing("torch.Tensor", name)
    if isinstance(owner, ModuleType) and owner.__name__.startswith("braze"):
        found = nearest("torch" + owner.__name__.removeprefix("braze"), name)
        return f"the nearest is {found}" if found else None
    return None
