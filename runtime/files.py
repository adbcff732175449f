"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, prefix: str | None = None) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end, on the disk by then.

    After an error nothing has changed.

    Args:
        prefix: of the temporary file's name, beside `path`.
    """
    unique = f"{os.getpid()}-{threading.get_ident()}-{time.time_ns()}"
    temporary = path.with_name((f".{path.name}." if prefix is None else prefix) + unique)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
