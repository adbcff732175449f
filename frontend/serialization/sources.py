"""Where saved bytes come from: a file by its path, an open file or memory, read or mapped.

Every size that a file states is compared with what there is before anything is allocated.
"""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np


class Source:
    """Bytes at offsets of a file that can seek, from where it stands to its end.

    Attributes:
        begin, size: where in the file, and how many.

    Raises:
        AttributeError: the file cannot seek or be read.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.begin: int = file.tell()
        file.seek(0, io.SEEK_END)
        self.size: int = file.tell() - self.begin
        file.seek(self.begin)

    def read(self, start: int, size: int) -> bytes:
        """Bytes from `start` on.  Raises: EOFError if the file ends before."""
        if start + size > self.size:
            raise EOFError(f"the file ends before byte {start + size}")
        self._file.seek(self.begin + start)
        data: bytes = self._file.read(size)
        if len(data) != size:
            raise EOFError(f"the file ends before byte {start + size}")
        return data

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill memory with the bytes from `start` on.  Raises: EOFError."""
        self._file.seek(self.begin + start)
        fill(self._file, target)

    def mapped(self, start: int, size: int) -> np.ndarray:
        """Those bytes in place; what is written to them stays in this process."""
        if not hasattr(self, "_map"):
            self._map = np.frombuffer(
                mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8
            )
        return self._map[self.begin + start :][:size]


def fill(file: Any, target: memoryview) -> None:
    """Read as many bytes as there is room for.  Raises: EOFError."""
    read_into = getattr(file, "readinto", None)
    while len(target):
        if read_into is not None:
            done = read_into(target)
        else:
            data = file.read(len(target))
            done = len(data)
            target[:done] = data
        if not done:
            raise EOFError("Ran out of input: the file ends too early")
        target = target[done:]


class Bounded:
    """A file for unpickling that refuses, rather than allocates, more than it has left."""

    def __init__(self, file: Any, left: int) -> None:
        self._file = file
        self.left = left

    def read(self, size: int) -> bytes:
        """The next bytes.  Raises: EOFError if there are not as many."""
        if size > self.left:
            raise EOFError("Ran out of input")
        data: bytes = self._file.read(size)
        if len(data) != size:
            raise EOFError("Ran out of input")
        self.left -= size
        return data

    def readline(self) -> bytes:
        """What is left of this line."""
        line: bytes = self._file.readline()
        self.left -= len(line)
        return line

    def read_into(self, target: memoryview) -> None:
        """Fill memory.  Raises: EOFError."""
        if len(target) > self.left:
            raise EOFError("Ran out of input")
        fill(self._file, target)
        self.left -= len(target)


def is_path(f: Any) -> bool:
    """Is it the name of a file rather than a file?"""
    return isinstance(f, (str, os.PathLike))


def check_readable(f: Any) -> None:
    """Raises: AttributeError, as PyTorch does, for what cannot be read from anywhere."""
    for name in ("read", "readline", "seek", "tell"):
        if not hasattr(f, name):
            raise AttributeError(
                f"'{type(f).__name__}' object has no attribute '{name}'. You can only load from a "
                "file that is seekable. Please pre-load the data into a buffer like io.BytesIO and "
                "try to load from it instead."
            )


def real_path(f: Any) -> Path:
    """Where a path leads: what replaces a file must not replace a link to it."""
    return Path(os.path.realpath(os.fspath(f)))
