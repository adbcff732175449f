"""Leave a processor to the compiler's process while graphs are interpreted.

In: NumPy's OpenBLAS, if it has one that can be told.  Out: fewer of its threads for a while.

Its threads wait for each other in loops that keep their processors busy. Where another process
needs one of these, each product of matrices waits until that process is interrupted, some
milliseconds later: an interpreted step of 150 ms takes more than a second so.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

# Where NumPy's wheels keep what they bring along, and how its functions may be called there.
_FOLDERS = ("../numpy.libs", ".dylibs")
_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


class _Users:
    """How many runs leave a processor now, and the number of threads before the first."""

    def __init__(self) -> None:
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.threads = 0


_users = _Users()


@contextmanager
def one_left_free() -> Iterator[None]:
    """Have NumPy use one thread less, if it has several."""
    functions = _functions()
    if functions is None:
        yield
        return
    number, set_number = functions
    with _users.lock:
        _users.count += 1
        if _users.count == 1:
            _users.threads = number()
            set_number(max(1, _users.threads - 1))
    try:
        yield
    finally:
        with _users.lock:
            _users.count -= 1
            if _users.count == 0:
                set_number(_users.threads)


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """What tells and sets OpenBLAS's number of threads."""
    package = Path(np.__file__).parent
    for folder in _FOLDERS:
        for path in sorted((package / folder).glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))  # which NumPy has loaded
            except OSError:
                continue
            for name in _NAMES:
                found = [getattr(library, name.format(verb), None) for verb in ("get", "set")]
                if all(found):
                    return found[0], found[1]  # type: ignore[return-value]
    return None
