"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, prefix: str | None = None) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end, on the disk by then.

    After an error nothing has changed. What a process has left that was killed before the end goes
    when `path` is written again.

    Args:
        prefix: of the temporary file's name, beside `path`, for who removes what is left himself.
    """
    if prefix is None:
        prefix = f".{path.name}."
        _remove_left_over(path.parent, prefix)
    temporary, file = _created(path, prefix)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # While it is locked, or another might take it for left over.
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _created(path: Path, prefix: str) -> tuple[Path, BinaryIO]:
    """A new temporary file, locked as long as it is open: the system takes the lock back from
    whoever is killed."""
    while True:
        unique = f"{os.getpid()}-{threading.get_ident()}-{time.time_ns()}"
        temporary = path.with_name(prefix + unique)
        file = open(temporary, "xb")
        try:
            with suppress(OSError):  # some systems of files know no locks: nothing is removed there
                fcntl.flock(file, fcntl.LOCK_EX)
            # Before it was locked, another may have taken it for left over.
            if os.fstat(file.fileno()).st_nlink:
                return temporary, file
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        file.close()


def _remove_left_over(folder: Path, prefix: str) -> None:
    """Remove temporary files of this prefix that nobody writes any more."""
    name = re.compile(re.escape(prefix) + r"\d+-\d+-\d+")
    with suppress(OSError):
        for found in [e.path for e in os.scandir(folder) if name.fullmatch(e.name)]:
            with suppress(OSError), open(found, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(found)
