"""The two formats before the zip archive.

    pickles   magic number, version, system, the object, the storages' keys, the storages
    tar       files "storages", "tensors" and "pickle"

In: a file and the `load` request.  Out: the object. The first format has its storages behind the
object that is made of them, and says their item sizes only there: so the object's pickle is gone
through once without building anything, then the storages are read, then it is built.

Source: PyTorch's `torch/serialization.py`, `_legacy_save`, and for tar its version 0.1.
"""

from __future__ import annotations

import io
from struct import unpack
from typing import Any, Protocol

import numpy as np

from braze.engine import Storage
from braze.serialization.names import STORAGE_KINDS, TENSOR_KINDS, StorageKind, described
from braze.serialization.rebuild import LoadedStorage, Rebuilder
from braze.serialization.saving import MAGIC_NUMBER, PROTOCOL_VERSION
from braze.serialization.sources import Bounded, Source
from braze.serialization.unpickling import Outline, SafeUnpickler


class Request(Protocol):
    """What this needs of a call of `load`."""

    rebuild: Rebuilder

    def restore(self, storage: Any, location: str) -> Any:
        """The storage where it belongs."""

    def unpickle(self, file: Bounded, persistent_load: Any) -> Any:
        """The object that a file stands at."""


def _plain(file: Bounded, names: dict[str, Any] | None = None) -> Any:
    """An object of numbers, strings and containers (and named things)."""
    return SafeUnpickler(file, lambda _: None, names or {}, {}).load()


def load_pickles(source: Source, file: Any, request: Request) -> Any:
    """The object of a file of pickles.

    Raises:
        RuntimeError: it is no such file. Also as `braze.load`.
    """
    whole = Bounded(file, source.size)
    file.seek(source.begin)
    if _plain(whole) != MAGIC_NUMBER:
        raise RuntimeError("Invalid magic number; corrupt file?")
    version = _plain(whole)
    if version != PROTOCOL_VERSION:
        raise RuntimeError(f"Invalid protocol version: {version!r}")
    _plain(whole)
    begin, left = file.tell(), whole.left

    kinds: dict[str, tuple[StorageKind, int]] = {}

    def note(description: Any) -> Any:
        if description[:1] == ("module",):
            return None
        kind, key, _, numel = described(description, 5)
        if kinds.setdefault(key, (kind, numel)) != (kind, numel):
            raise RuntimeError(f"storage {key} is described in two ways")
        return None

    Outline(whole, note, STORAGE_KINDS).load()
    memory = _read_storages(whole, kinds)
    end = file.tell()

    known: dict[Any, Any] = {}

    def persistent_load(description: Any) -> Any:
        if type(description) is tuple and description[:1] == ("module",):
            return description[1]  # a class, with its source
        kind, key, location, _ = described(description, 5)
        if key not in known:
            known[key] = request.restore(LoadedStorage(memory[key], kind), location)
        view = description[5] if len(description) > 5 else None
        if view is None:
            return known[key]
        name, offset, size = view
        if name not in known:
            known[name] = _part(memory[key], kind, offset, size)
        return known[name]

    file.seek(begin)
    made = request.unpickle(Bounded(file, left), persistent_load)
    file.seek(end)  # where another object may begin
    return made


def _read_storages(file: Bounded, kinds: dict[str, tuple[StorageKind, int]]) -> dict[str, Storage]:
    keys = _plain(file)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(kinds):
        raise RuntimeError("the file does not hold the storages that it refers to")
    memory = {}
    for key in map(str, keys):
        kind, numel = kinds[key]
        memory[key] = _read_storage(file, kind, numel)
    return memory


def _read_storage(file: Bounded, kind: StorageKind, numel: int | None = None) -> Storage:
    (count,) = unpack("<q", file.read(8))
    if numel is not None and count != numel:
        raise RuntimeError(f"a storage has {count} elements where {numel} were expected")
    size = count * kind.itemsize
    if not 0 <= size <= file.left:
        raise EOFError(f"Ran out of input: a storage of {size} bytes, and {file.left} are left")
    storage = Storage(size)
    file.read_into(np.asarray(storage).data)
    return storage


def _part(memory: Storage, kind: StorageKind, offset: Any, size: Any) -> LoadedStorage:
    """A storage that is a part of another."""
    if type(offset) is not int or type(size) is not int or offset < 0 or size < 0:
        raise RuntimeError(f"a part of a storage: {size!r} items at {offset!r}")
    start, stop = offset * kind.itemsize, (offset + size) * kind.itemsize
    if stop > memory.nbytes:
        raise RuntimeError(f"a part of a storage ends at byte {stop} of {memory.nbytes}")
    return LoadedStorage(Storage.from_numpy(np.asarray(memory)[start:stop]), kind)


def load_tar(file: io.BytesIO, request: Request) -> Any:
    """The object of a tar file.

    Raises:
        RuntimeError: a member is missing. Also as `braze.load`.
    """
    import tarfile

    try:
        with tarfile.open(fileobj=file, mode="r:", format=tarfile.PAX_FORMAT) as tar:
            members = {
                name: tar.extractfile(name).read()  # type: ignore[union-attr]
                for name in ("storages", "tensors", "pickle")
            }
    except (tarfile.TarError, KeyError, AttributeError) as error:
        raise RuntimeError(f"the tar file is damaged, or no saved object: {error}") from None
    storages = _tar_storages(_member(members, "storages"), request)
    tensors = _tar_tensors(_member(members, "tensors"), storages, request)

    def persistent_load(description: Any) -> Any:
        if isinstance(description, tuple):
            return description[0]  # a class, with its source
        return tensors[int(description)]

    return request.unpickle(_member(members, "pickle"), persistent_load)


def _member(members: dict[str, bytes], name: str) -> Bounded:
    return Bounded(io.BytesIO(members[name]), len(members[name]))


def _tar_storages(file: Bounded, request: Request) -> dict[int, Any]:
    storages: dict[int, Any] = {}
    for _ in range(_count(_plain(file))):
        key, location, kind = _plain(file, STORAGE_KINDS)
        if type(kind) is not StorageKind or type(location) is not str:
            raise RuntimeError("the tar file describes a storage that is none")
        made = LoadedStorage(_read_storage(file, kind), kind)
        storages[_count(key)] = request.restore(made, location)
    for target, root, offset, size in _plain(file):
        made = storages[root]
        storages[target] = _part(made.memory, made.kind, offset, size)
    return storages


def _tar_tensors(file: Bounded, storages: dict[int, Any], request: Request) -> dict[int, Any]:
    tensors: dict[int, Any] = {}
    for _ in range(_count(_plain(file))):
        key, storage, _ = _plain(file, TENSOR_KINDS)
        (rank,) = unpack("<i", file.read(4))
        file.read(4)
        if not 0 <= rank <= 64:
            raise RuntimeError(f"a tensor of {rank} dimensions")
        size = unpack(f"<{rank}q", file.read(8 * rank))
        stride = unpack(f"<{rank}q", file.read(8 * rank))
        (offset,) = unpack("<q", file.read(8))
        tensors[_count(key)] = request.rebuild.tensor(storages[storage], offset, size, stride)
    return tensors


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise RuntimeError(f"the tar file has {value!r} where a number was expected")
    return value
