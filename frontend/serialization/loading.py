"""`braze.load`: what `braze.save` and PyTorch have saved.

In: a file of either format.  Out: the object. By default nothing in the file is trusted: names are
looked up in a table (`allowed`), sizes are compared with the file before memory is taken, and each
record is checked against its checksum.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from braze.engine import Storage
from braze.ir.dtypes import bf16
from braze.serialization import allowed, legacy
from braze.serialization.archive import ArchiveReader, is_archive
from braze.serialization.locations import MapLocation, restorer
from braze.serialization.names import STORAGE_KINDS, StorageKind, described
from braze.serialization.rebuild import LoadedStorage, Rebuilder
from braze.serialization.sources import Bounded, Source, check_readable, is_path
from braze.serialization.unpickling import Outline, SafeUnpickler, full_name

_MMAP = (
    "mmap can only be used with files saved with `save(_use_new_zipfile_serialization=True)`; "
    "please save your checkpoint with this option in order to use mmap."
)


def load(
    f: Any,
    map_location: MapLocation = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Load what `braze.save` or `torch.save` wrote, in any of PyTorch's formats.

    Args:
        f: a path, or a file that can be read and can seek.
        map_location: where tensors go: a device, a function of a storage and its location that
            returns a storage or None, or a dict of locations.
        pickle_module: unpickles with `weights_only=False`; `pickle` by default.
        weights_only: True (the default) builds only tensors, containers, numbers and strings, and
            what `braze.serialization.add_safe_globals` allows. False runs whatever code the file
            names: only for files that you trust.
        mmap: map the file (given by its path) instead of reading it; what is written to the tensors
            does not reach it. Checksums are then not looked at.
        encoding: of strings that Python 2 pickled.

    Raises:
        UnpicklingError: the file wants what is not allowed, or is damaged. RuntimeError: it is
            damaged or cut off, or its device does not exist here. EOFError: it ends too early.
        AttributeError: `f` is no file. ValueError: arguments that exclude each other.
    """
    safe = weights_only is None or bool(weights_only)
    if safe and pickle_module is not None:
        raise RuntimeError(
            "Can not safely load weights when explicit pickle_module is specified; give "
            "weights_only=False if you trust the file"
        )
    if mmap and not is_path(f):
        raise ValueError("f must be a file's path in order to use the mmap argument")
    request = _Request(map_location, pickle_module or pickle, safe, bool(mmap), pickle_load_args)
    if is_path(f):
        with open(os.fspath(f), "rb") as file:
            return request.load(file)
    check_readable(f)
    return request.load(f)


class _Request:
    """One call of `load`."""

    def __init__(
        self,
        map_location: MapLocation,
        module: Any,
        safe: bool,
        mmap: bool,
        arguments: dict[str, Any],
    ) -> None:
        self.restore = restorer(map_location)
        self._module = module
        self._safe = safe
        self._mmap = mmap
        self._arguments = arguments
        self.rebuild = Rebuilder()

    def load(self, file: Any) -> Any:
        """The object in an open file."""
        source = Source(file)
        head = source.read(0, min(source.size, 4))
        if is_archive(head):
            return self._load_archive(ArchiveReader(source), source)
        if self._mmap:
            raise RuntimeError(_MMAP)
        if not head:
            raise EOFError("Ran out of input")
        if _is_tar(source):
            made = legacy.load_tar(io.BytesIO(source.read(0, source.size)), self)
        else:
            made = legacy.load_pickles(source, file, self)
        self.rebuild.finish()
        return made

    def unpickle(self, file: Bounded, persistent_load: Callable[[Any], Any]) -> Any:
        """Run the pickle that a file stands at."""
        table = allowed.names(self.rebuild)
        if not self._safe:
            return _trusting(self._module, table)(file, persistent_load, self._arguments).load()
        encoding = self._arguments.get("encoding", "utf-8")
        added = allowed.added_names()
        return SafeUnpickler(file, persistent_load, table, added, encoding).load()

    def _load_archive(self, archive: ArchiveReader, source: Source) -> Any:
        if "constants.pkl" in archive:
            raise RuntimeError(
                "the file is a TorchScript archive, a program and not a saved object; load it in "
                "PyTorch and save its state_dict()"
            )
        swap = _is_foreign(archive)
        known: dict[str, Any] = {}

        def persistent_load(description: Any) -> Any:
            kind, key, location, numel = described(description, 5)
            if key not in known:
                memory = self._storage(archive, source, f"data/{key}", kind, numel, swap)
                known[key] = self.restore(LoadedStorage(memory, kind), location)
            return known[key]

        pickled = archive.read("data.pkl")
        made = self.unpickle(Bounded(io.BytesIO(pickled), len(pickled)), persistent_load)
        self.rebuild.finish()
        return made

    def _storage(
        self,
        archive: ArchiveReader,
        source: Source,
        name: str,
        kind: StorageKind,
        numel: int,
        swap: bool,
    ) -> Storage:
        record = archive.record(name)
        if record.size != numel * kind.itemsize:
            raise RuntimeError(
                f"storage {name} should have {numel} items of {kind.itemsize} bytes, and the "
                f"file has {record.size} bytes of it"
            )
        if self._mmap and not swap and record.size:
            place = source.mapped(record.start, record.size)
            dtype = np.dtype(np.uint8) if kind.dtype is None else kind.dtype.numpy
            return Storage.from_numpy(place.view(dtype))
        memory = Storage(record.size)
        array = np.asarray(memory)
        archive.read_into(name, array.data)
        if swap and kind.dtype is not None:
            dtype = np.dtype(np.uint16) if kind.dtype is bf16 else kind.dtype.numpy
            array.view(dtype).byteswap(inplace=True)
        return memory


def _is_foreign(archive: ArchiveReader) -> bool:
    """Was the file written with the bytes of numbers the other way round?"""
    if "byteorder" not in archive:
        return False
    order = archive.read("byteorder")
    if order not in (b"little", b"big"):
        raise ValueError("Unknown endianness type: " + repr(order))
    return order.decode() != sys.byteorder


def _is_tar(source: Source) -> bool:
    """Is it the oldest format? (A tar file says so at byte 257.)"""
    return source.size > 512 and source.read(257, 5) == b"ustar"


def _trusting(module: Any, table: dict[str, Any]) -> Any:
    """Python's unpickler, for which PyTorch's names are ours."""

    class Unpickler(module.Unpickler):  # type: ignore[misc]
        def __init__(
            self, file: Any, persistent_load: Callable[[Any], Any], arguments: dict[str, Any]
        ) -> None:
            super().__init__(file, **arguments)
            self._persistent_load = persistent_load

        def persistent_load(self, description: Any) -> Any:
            return self._persistent_load(description)

        def find_class(self, module: str, name: str) -> Any:
            found = table.get(full_name(module, name)) if _is_ours(module) else None
            if found is None and module.startswith("torch.nn."):
                found = _layer(name)
            return super().find_class(module, name) if found is None else found

    return Unpickler


def _is_ours(module: str) -> bool:
    return module == "torch" or module.startswith("torch.")


def _layer(name: str) -> Any:
    """A layer of Braze's of that name, or None."""
    from braze import nn

    return getattr(nn, name, None)


def get_unsafe_globals_in_checkpoint(f: Any) -> list[str]:
    """What a file names that is not allowed by default; nothing in it is run.

    Args:
        f: a path, or a file that can be read and can seek.

    Raises:
        ValueError: it is not of the present format. Also as `load`.
    """
    if is_path(f):
        with open(os.fspath(f), "rb") as file:
            return get_unsafe_globals_in_checkpoint(file)
    check_readable(f)
    source = Source(f)
    if not is_archive(source.read(0, min(source.size, 4))):
        raise ValueError("Expected input to be a checkpoint in the zip format.")
    pickled = ArchiveReader(source).read("data.pkl")
    whole = Bounded(io.BytesIO(pickled), len(pickled))
    outline = Outline(whole, lambda _: None, STORAGE_KINDS)
    outline.load()
    return sorted(outline.names - allowed.names(Rebuilder()).keys() - allowed.added_names().keys())
