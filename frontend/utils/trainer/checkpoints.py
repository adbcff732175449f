"""Checkpoints of a training run: written whole, kept a few at a time, checked when they are read.

In: a state of tensors, numbers and containers.  Out: files `checkpoint-00000120.pt`, of which the
newest that is sound is read. A kill at any moment leaves the files before it as they are.
"""

from __future__ import annotations

import os
import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from braze.random import default_generator
from braze.serialization import load, save

FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d{8,})\.pt")
_UNFINISHED = ".checkpoint-*.pt.*"
_DAMAGE = (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, OSError)


class Checkpoints:
    """A folder of checkpoints, for one run at a time.

    Args:
        folder: made if it is not there.
        every: write one after so many iterations; None: after each epoch only.
        keep: how many are kept, the newest ones. One more than needed is a help when a disk damages
            the last.

    Raises:
        ValueError: a number that is not positive.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int | None = None, keep: int = 3):
        for name, value in (("every", 1 if every is None else every), ("keep", keep)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, given {value}")
        self.folder = Path(folder)
        self.every = every
        self.keep = keep
        self._read_back = False
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(_UNFINISHED):
            left.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """The checkpoints, the newest first."""
        numbers = {
            int(found[1]): path
            for path in self.folder.iterdir()
            if (found := _NAME.fullmatch(path.name)) is not None
        }
        return [numbers[number] for number in sorted(numbers, reverse=True)]

    def write(self, state: dict[str, Any], iteration: int) -> Path:
        """Write a checkpoint, on the disk when this returns, and drop what is too old.

        Raises:
            RuntimeError: the state holds what is not read back, an object of another class for
                instance. Also what `braze.save` raises.
        """
        path = self.folder / f"checkpoint-{iteration:08d}.pt"
        save({"format": FORMAT, **state}, path)
        if not self._read_back:
            self._check(path)
        _sync_folder(self.folder)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def _check(self, path: Path) -> None:
        """Read a run's first checkpoint: better to fail now than when it is needed."""
        try:
            load(path)
        except _DAMAGE as error:
            path.unlink()
            raise RuntimeError(f"the run's state can be saved, but not loaded: {error}") from error
        self._read_back = True

    def sound(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The checkpoints that can be read, the newest first; warns of those that cannot."""
        for path in self.paths():
            try:
                state = load(path)
                if state["format"] != FORMAT:
                    raise ValueError(f"it has format {state['format']}, not {FORMAT}")
            except (*_DAMAGE, TypeError) as error:
                warnings.warn(
                    f"checkpoint {path} cannot be used ({error}); falling back to the one before",
                    stacklevel=2,
                )
                continue
            yield path, state

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest that can be read, or None if there are none at all.

        Raises:
            RuntimeError: there are some, and none can be read.
        """
        for path, state in self.sound():
            return path, state
        if self.paths():
            raise RuntimeError(f"none of the checkpoints in {self.folder} can be read")
        return None


def _sync_folder(folder: Path) -> None:
    """Have the folder's entries on the disk, so that a renamed file survives a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def random_state() -> dict[str, Any]:
    """The states of Braze's, Python's and NumPy's generators."""
    name, keys, *rest = np.random.get_state(legacy=True)  # type: ignore[misc]
    return {
        "braze": default_generator.position,
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys, dtype="<u4").tobytes(), *rest),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on with the random numbers of `random_state`."""
    default_generator.position = state["braze"]
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.frombuffer(keys, dtype="<u4"), *rest))
