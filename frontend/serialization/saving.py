"""`braze.save`: objects into PyTorch's files.

In: any object that can be pickled.  Out: a zip archive (or the format before it) in which tensors
are names of PyTorch's functions and numbers of storages, so that PyTorch reads it as its own.

A file is there whole or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from braze.capture import flush, materialise
from braze.devices import device
from braze.engine import Storage, replacing
from braze.handle import NUMBER
from braze.ir.dtypes import DType
from braze.layouts import layout, sparse_coo
from braze.nn.modules.state import StateDict
from braze.nn.parameter import Parameter
from braze.serialization import names
from braze.serialization.archive import ArchiveWriter
from braze.serialization.names import TorchName
from braze.serialization.sources import is_path, real_path
from braze.sizes import Size
from braze.tensors import Tensor
from braze.typed_storage import TypedStorage
from braze.views import layout_of, root_of

# What the format before the zip archive begins with.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

_MIXED = "Cannot save multiple tensors or storages that view the same data as different types"


class _StorageNumber:
    """A storage where the pickler meets it; its description goes into the file."""

    __slots__ = ("description",)

    def __init__(self, description: tuple[Any, ...]) -> None:
        self.description = description


class _Storages:
    """The memory of the tensors met so far, by its number in the file."""

    def __init__(self, legacy: bool) -> None:
        self._legacy = legacy
        self._known: dict[int, tuple[_StorageNumber, DType | None]] = {}
        self.memory: list[tuple[Storage, int]] = []
        self._held: list[Storage] = []  # of GPUs

    def number(self, root: Tensor, dtype: DType | None) -> _StorageNumber:
        """The storage that a root tensor is, as numbers of a dtype (None: as bytes).

        Raises:
            RuntimeError: it was met as another dtype.
        """
        storage = materialise(root._current())
        known = self._known.get(id(storage))
        if known is None:
            itemsize = 1 if dtype is None else dtype.itemsize
            kind = names.UNTYPED if dtype is None else names.STORAGE_NAMES[dtype]
            numel = storage.nbytes // itemsize
            place = root._handle.type.device
            if place != "cpu":
                held = storage.to_host()  # type: ignore[attr-defined]
                self._held.append(storage)  # an id is only good while what it is of lives
                self.memory.append((held, numel))
            else:
                self.memory.append((storage, numel))
            description = ("storage", kind, str(len(self.memory) - 1), place, numel)
            number = _StorageNumber((*description, None) if self._legacy else description)
            known = self._known[id(storage)] = (number, dtype)
        if known[1] is not dtype:
            raise RuntimeError(_MIXED)
        return known[0]


def _reduce_tensor(tensor: Tensor, storages: _Storages) -> tuple[Any, ...]:
    """What the file says of a tensor, but for its class and attributes."""
    if tensor.is_sparse:
        made: Any = tensor
        parts = (made._indices(), made._values(), tensor.shape, made.is_coalesced())
        return names.REBUILD_SPARSE, (sparse_coo, parts)
    root = root_of(tensor)
    if root._handle.flags & NUMBER:
        root = tensor.detach().clone()  # an expanded number has no memory
        strides, offset = layout_of(root)
    else:
        strides, offset = layout_of(tensor)
    dtype = tensor.dtype
    typed = dtype if dtype in names.STORAGE_NAMES else None
    storage = storages.number(root, typed)
    place: tuple[Any, ...] = (
        storage,
        offset,
        tuple(tensor.shape),
        strides,
        tensor.requires_grad,
        OrderedDict(),
    )
    if typed is None:
        return names.REBUILD_TENSOR_OF_BYTES, (*place, dtype)
    return names.REBUILD_TENSOR, place


def _reduce(obj: Any, storages: _Storages) -> Any:
    """How an object of Braze's is written: a PyTorch name, or a call of one; NotImplemented for any
    other."""
    if isinstance(obj, Tensor):
        return _reduce_whole(obj, storages)
    if isinstance(obj, TorchName):
        return obj.text
    if isinstance(obj, DType):
        return names.DTYPE_NAMES[obj]
    if type(obj) is Size:
        return names.SIZE, (tuple(obj),)
    if type(obj) is device:
        return names.DEVICE, ((obj.type,) if obj.index is None else (obj.type, obj.index))
    if isinstance(obj, layout):
        return names.GET_LAYOUT, (repr(obj).replace("braze.", "torch.", 1),)
    if type(obj) is StateDict:
        return OrderedDict, (), dict(obj.__dict__), None, iter(obj.items())
    return NotImplemented


def _reduce_whole(tensor: Tensor, storages: _Storages) -> tuple[Any, ...]:
    state = dict(tensor.__dict__)
    if type(tensor) is Parameter:
        data = _Plain(tensor)
        if state:
            wanted: tuple[Any, ...] = (data, tensor.requires_grad, OrderedDict(), state)
            return names.REBUILD_PARAMETER_WITH_STATE, wanted
        return names.REBUILD_PARAMETER, (data, tensor.requires_grad, OrderedDict())
    made = _reduce_tensor(tensor, storages)
    if type(tensor) is Tensor or tensor.is_sparse:
        return (names.REBUILD_FROM_TYPE, (made[0], names.TENSOR, made[1], state)) if state else made
    return names.REBUILD_FROM_TYPE, (made[0], type(tensor), made[1], state)


class _Plain:
    """A parameter's elements as a tensor."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter


class _Names:
    """What `_pickler` adds to a pickler: tensors, and names that cannot be imported here."""

    _storages: _Storages
    write: Callable[[bytes], Any]
    memoize: Callable[[Any], None]

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _StorageNumber):
            return obj.description
        if isinstance(obj, TypedStorage):
            as_bytes = obj.dtype.name == "u8" and obj._owner.dtype is not obj.dtype
            dtype = None if as_bytes or obj.dtype not in names.STORAGE_NAMES else obj.dtype
            return self._storages.number(root_of(obj._owner), dtype).description
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Plain):
            function, place = _reduce_tensor(obj.parameter, self._storages)
            return function, tuple(False if i == 4 else item for i, item in enumerate(place))
        return _reduce(obj, self._storages)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, (TorchName, DType)) and name is not None:
            module, _, attribute = name.partition(" ")
            self.write(pickle.GLOBAL + f"{module}\n{attribute}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)  # type: ignore[misc]


def _pickler(module: Any) -> type[Any]:
    """A class of picklers, made of a module's own one.

    Raises:
        ValueError: it is not written in Python, so that it writes no name but what it can import.
    """
    stock = pickle._Pickler  # type: ignore[attr-defined]
    base = stock if module.Pickler is pickle.Pickler else module.Pickler
    if not issubclass(base, stock):
        raise ValueError(
            f"pickle_module must have a Pickler that is a subclass of Python's pickle._Pickler, "
            f"given {module!r}: another cannot write the names of PyTorch's functions"
        )
    return type("_Pickler", (_Names, base), {})


def save(
    obj: object,
    f: Any,
    pickle_module: Any = pickle,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
) -> None:
    """Save an object to a file that `braze.load` and `torch.load` read. A sync point.

    Tensors that share memory do so again when they are loaded. A file given by its path is replaced
    once the new one is complete and on the disk; if saving fails, the old one stays.

    Args:
        obj: anything that can be pickled; modules are better saved by their `state_dict()`.
        f: a path, or an object with `write`.
        pickle_module: `pickle`, or one like `dill` whose pickler is built on Python's.
        pickle_protocol: PyTorch's safe loader reads protocol 2 only.
        _use_new_zipfile_serialization: False writes what PyTorch before 1.6 reads.

    Raises:
        AttributeError: `f` is neither.
        RuntimeError: the folder does not exist, or one memory is saved under two dtypes.
        TypeError: something in `obj` cannot be pickled.
        ValueError: a pickle module or protocol that cannot do it.
    """
    pickler = _pickler(pickle_module)
    if not is_path(f) and not hasattr(f, "write"):
        raise AttributeError(
            "expected 'f' to be string, path, or a file-like object with a 'write' attribute"
        )
    if pickle_protocol == 0:
        raise ValueError("pickle protocol 0 is text, which cannot refer to storages; use 2")
    flush()
    folder = Path(os.fspath(f)).stem if is_path(f) else "archive"
    storages = _Storages(legacy=not _use_new_zipfile_serialization)
    memory = io.BytesIO()
    writing = pickler(memory, pickle_protocol)
    writing._storages = storages
    writing.dump(obj)
    with _opened(f) as file:
        if _use_new_zipfile_serialization:
            order = None if _disable_byteorder_record else sys.byteorder.encode()
            _write_archive(memory.getvalue(), storages, file, folder or "archive", order)
        else:
            _write_legacy(memory.getvalue(), storages, file, pickle_protocol)
        if hasattr(file, "flush"):
            file.flush()


@contextmanager
def _opened(f: Any) -> Iterator[Any]:
    """Where to write to."""
    if not is_path(f):
        yield f
        return
    path = real_path(f)
    if not path.parent.is_dir():
        raise RuntimeError(f"Parent directory {path.parent} does not exist.")
    if path.exists() and not path.is_file():  # a pipe or a device is no file to replace
        with open(path, "wb") as file:
            yield file
        return
    with replacing(path) as file:
        yield file


def _write_archive(
    pickled: bytes, storages: _Storages, file: Any, folder: str, order: bytes | None
) -> None:
    writer = ArchiveWriter(file, folder)
    writer.record("data.pkl", pickled)
    if order is not None:
        writer.record("byteorder", order)
    for number, (storage, _) in enumerate(storages.memory):
        writer.record(f"data/{number}", np.asarray(storage))
    writer.record("version", b"3\n")
    writer.finish()


def _write_legacy(pickled: bytes, storages: _Storages, file: Any, protocol: int) -> None:
    system = {
        "protocol_version": PROTOCOL_VERSION,
        "little_endian": sys.byteorder == "little",
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    for part in (MAGIC_NUMBER, PROTOCOL_VERSION, system):
        file.write(pickle.dumps(part, protocol))
    file.write(pickled)
    file.write(pickle.dumps([str(number) for number in range(len(storages.memory))], protocol))
    for storage, numel in storages.memory:
        file.write(struct.pack("<q", numel))
        file.write(np.asarray(storage))
