"""Reads Torch7's files (`torch.save` of Lua, binary format) into tensors, tables and `legacy.nn`.

A file is one value. A value is a 4-byte kind, then: a number, 8 bytes of float; a string, 4 bytes
of length and its bytes; a boolean, 4 bytes; a table, its number (by which later values refer to
it), its length, and keys and values in turn; an object, its number, "V" and a version, the name of
its class, and what the class writes (Torch7, File.lua, generic/Tensor.c and Storage.c).
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import braze
from braze.ir.ops.strided import last_place
from braze.legacy import nn
from braze.sizes import Size
from braze.tensors import Tensor

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN = range(6)
FUNCTIONS = (6, 7, 8)
_ELEMENTS = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
}


class T7ReaderException(Exception):
    """A file is damaged, or has a class that is not known."""


@dataclass
class LuaFunction:
    """A function: its byte code, which cannot be run here, and the values it refers to."""

    size: int
    dumped: bytes
    upvalues: Any


class Table(dict[Any, Any]):
    """A table of Lua that is no list; its values are attributes too. Equal is what is the same."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class TorchObject:
    """An object of a class that is not known, with what it consists of."""

    def __init__(self, typename: str, obj: Any) -> None:
        self._typename, self._obj = typename, obj

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._obj.get(name)

    def __getitem__(self, name: Any) -> Any:
        return self._obj.get(name)

    def torch_typename(self) -> str:
        """The class in Lua."""
        return self._typename

    def __repr__(self) -> str:
        return f"TorchObject({self._typename}, {self._obj!r})"


def load_lua(
    filename: Any,
    *,
    unknown_classes: bool = False,
    long_size: int | None = None,
    list_heuristic: bool = True,
    int_heuristic: bool = True,
) -> Any:
    """The value in a file of Torch7.

    Tensors come as tensors of the same type (those of GPUs as their CPU twins), tables with the
    keys 1 to n as lists, others as dicts, modules and criterions as those of `legacy.nn`, with
    dimensions and indices counted from 0.

    Args:
        filename: its path, or a binary file object.
        unknown_classes: read objects of other classes as `TorchObject`.
        long_size: bytes of a C `long` where the file was written: 8, or 4.
        list_heuristic, int_heuristic: make lists, and whole numbers, of what can be one.

    Raises:
        T7ReaderException: the file is damaged, or has a class that is not known.
        OSError: it cannot be read.
    """
    if long_size not in (None, 4, 8):
        raise ValueError(f"long_size must be 4 or 8, given {long_size}")
    if hasattr(filename, "read"):
        data = filename.read()
    else:
        data = Path(filename).read_bytes()
    reader = T7Reader(data, unknown_classes, long_size or 8, list_heuristic, int_heuristic)
    return reader.read()


class T7Reader:
    """Reads values one after another; see `load_lua` for the arguments."""

    def __init__(
        self,
        data: bytes | BinaryIO,
        unknown_classes: bool = False,
        long_size: int = 8,
        list_heuristic: bool = True,
        int_heuristic: bool = True,
    ) -> None:
        self.data = data if isinstance(data, bytes) else data.read()
        self.at = 0
        self.seen: dict[int, Any] = {}
        self.unknown_classes = unknown_classes
        self.long = "<q" if long_size == 8 else "<i"
        self.list_heuristic, self.int_heuristic = list_heuristic, int_heuristic

    def read(self) -> Any:
        """The next value."""
        try:
            return self._value()
        except RecursionError:
            raise T7ReaderException("values are nested too deeply") from None

    def _value(self) -> Any:
        kind = self.read_int()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return self._number()
        if kind == STRING:
            return self.read_string()
        if kind == BOOLEAN:
            return self.read_int() == 1
        if kind not in (TABLE, OBJECT, *FUNCTIONS):
            raise T7ReaderException(f"unknown type id {kind}. The file may be corrupted.")
        number = self.read_int()
        if number not in self.seen:
            read = {TABLE: self._table, OBJECT: self._object}.get(kind, self._function)
            read(number)
        return self.seen[number]

    # Plain data -----------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            T7ReaderException: there are not so many.
        """
        if count < 0 or count > len(self.data) - self.at:
            raise T7ReaderException(
                f"the file ends too early: {count} bytes are needed at {self.at}, "
                f"{len(self.data) - self.at} are left"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def _unpack(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def read_int(self) -> int:
        return int(self._unpack("<i"))

    def read_long(self) -> int:
        return int(self._unpack(self.long))

    def read_string(self) -> str:
        return self.take(self.read_int()).decode("utf-8", "surrogateescape")

    def _number(self) -> float:
        x = float(self._unpack("<d"))
        return int(x) if self.int_heuristic and x.is_integer() else x

    # Tables, functions and objects ----------------------------------------------------------------

    def _table(self, number: int) -> None:
        size = self.read_int()
        table = self.seen[number] = Table()  # before its values: they may refer to it
        for _ in range(size):
            key = self._value()
            table[key] = self._value()
        if self.list_heuristic and set(table) == set(range(1, len(table) + 1)):
            self.seen[number] = [table[i] for i in range(1, len(table) + 1)]

    def _function(self, number: int) -> None:
        size = self.read_int()
        made = self.seen[number] = LuaFunction(size, self.take(size), None)
        made.upvalues = self._value()

    def _object(self, number: int) -> None:
        version, name = self.read_string(), ""
        if version.startswith("V "):
            name = self.read_string()
        else:  # from before objects had versions
            version, name = "V 0", version
        prefix, _, kind = name.partition(".")
        if prefix == "torch" and kind.endswith(("Tensor", "Storage")):
            self.seen[number] = self._tensor_or_storage(name, kind)
        elif prefix in ("nn", "cudnn"):
            self._module(number, name, int(version[2:]))
        elif name == "tds.Vec":
            self.seen[number] = [self._value() for _ in range(self.read_long())]
        elif name == "tds.Hash":
            pairs = range(self.read_long())
            self.seen[number] = {key: self._value() for key in (self._value() for _ in pairs)}
        else:
            self.seen[number] = self._unknown(name)

    def _unknown(self, name: str) -> TorchObject:
        if not self.unknown_classes:
            raise T7ReaderException(
                f"don't know how to deserialize Lua class {name}. Objects of such classes are read "
                "as tables if unknown_classes=True is given"
            )
        return TorchObject(name, self._value())

    def _tensor_or_storage(self, name: str, kind: str) -> Any:
        word = kind.removesuffix("Tensor").removesuffix("Storage").removeprefix("Cuda") or "Float"
        if word not in _ELEMENTS:
            raise T7ReaderException(f"don't know how to deserialize Lua class {name}")
        if kind.endswith("Storage"):
            dtype = np.dtype("<" + _ELEMENTS[word])
            data = self.take(self.read_long() * dtype.itemsize)
            return braze.from_numpy(np.frombuffer(data, dtype).copy())
        rank = self.read_int()
        if rank < 0:
            raise T7ReaderException(f"a tensor of {rank} dimensions at {self.at}")
        size = [self.read_long() for _ in range(rank)]
        stride = [self.read_long() for _ in range(rank)]
        offset = self.read_long() - 1
        storage = self._value()
        if storage is None or rank == 0:
            return braze.from_numpy(np.zeros(0, "<" + _ELEMENTS[word]))
        return _strided(storage, size, stride, offset)

    def _module(self, number: int, name: str, version: int) -> None:
        kind = name.partition(".")[2].removesuffix("MM")
        cls = getattr(nn, kind, None)
        if cls is None:
            self.seen[number] = self._unknown(name)
            return
        made = self.seen[number] = cls.__new__(cls)
        base = nn.Module if issubclass(cls, nn.Module) else nn.Criterion
        base.__init__(made)
        own = self._value()
        if not isinstance(own, dict):
            raise T7ReaderException(f"an object of {name} has no table of attributes")
        made.__dict__.update({key: value for key, value in own.items() if isinstance(key, str)})
        _adapt(made, kind, version)


def _strided(storage: Any, size: list[int], stride: list[int], offset: int) -> Tensor:
    """A view of a storage, which must lie in it."""
    last = last_place(tuple(size), tuple(stride), offset)
    inside = isinstance(storage, Tensor) and 0 <= offset and last < storage.numel()
    if not inside or any(n < 1 for n in size) or any(step < 0 for step in stride):
        raise T7ReaderException(
            f"a tensor of sizes {size} and strides {stride} from {offset} on is not in its storage"
        )
    return storage.as_strided(size, stride, offset)  # type: ignore[no-any-return]


# From Lua's modules to legacy.nn ------------------------------------------------------------------

_FROM_ZERO = {  # class -> attributes that Lua counts from 1
    "Concat": ("dimension",),
    "DepthConcat": ("dimension",),
    "Index": ("dimension",),
    "LookupTable": ("paddingValue",),
    "MixtureTable": ("dim",),
    "Narrow": ("dimension", "index"),
    "NarrowTable": ("offset",),
    "Padding": ("dim", "index"),
    "Parallel": ("inputDimension", "outputDimension"),
    "PartialLinear": ("partition", "allcolumns"),
    "Replicate": ("dim",),
    "Select": ("dimension", "index"),
    "SelectTable": ("index",),
    "SpatialConvolutionMap": ("connTable",),
    "SpatialFullConvolutionMap": ("connTable",),
    "SplitTable": ("dimension",),
    "Squeeze": ("dim",),
    "Unsqueeze": ("dim",),
}
_FROM_ZERO_IF_POSITIVE = dict.fromkeys(("JoinTable", "Max", "Mean", "Min", "Sum"), ("dimension",))
_RENAMED = {
    "GradientReversal": {"lambda": "lambd"},
    "HardShrink": {"lambda": "lambd"},
    "SoftShrink": {"lambda": "lambd"},
    "SpatialAdaptiveMaxPooling": {"W": "w", "H": "h"},
    "Unsqueeze": {"pos": "dim"},
}
_DEFAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "Dropout": lambda: {"noise": braze.empty(0)},
    "GradientReversal": lambda: {"lambd": 1},
    "LookupTable": lambda: {"maxNorm": None, "normType": None, "shouldScaleGradByFreq": False},
    "Parallel": lambda: {"_slices": [], "_sliced": None},
    "ParallelCriterion": lambda: {"repeatTarget": False},
    "SoftPlus": lambda: {"threshold": 20},
    "SpatialFractionalMaxPooling": lambda: {
        **dict.fromkeys(("outW", "outH", "ratioW", "ratioH", "randomSamples")),
        "fixed": False,
    },
}


def _adapt(module: Any, kind: str, version: int) -> None:
    """Let a module of Lua have the attributes that its class has here."""
    own = module.__dict__
    for old, new in _RENAMED.get(kind, {}).items():
        if old in own:
            own[new] = own.pop(old)
    for name in _FROM_ZERO.get(kind, ()):
        if own.get(name) is not None:
            own[name] = own[name] - 1
    for name in _FROM_ZERO_IF_POSITIVE.get(kind, ()):
        own[name] -= own[name] > 0
    usual = inspect.signature(type(module).__init__).parameters.values()
    settings = {p.name: p.default for p in usual if p.default is not p.empty}
    for name, value in (_DEFAULTS.get(kind, dict)() | settings).items():
        own.setdefault(name, value)
    for name in ("bias", "weight", "gradWeight", "gradBias"):
        if isinstance(module, nn.Module):
            own.setdefault(name, None)
    if isinstance(own.get("size"), Tensor):  # of a View or Reshape: a LongStorage
        own["size"] = Size(own["size"].tolist())
    if kind == "Transpose":
        own["permutations"] = [(a - 1, b - 1) for a, b in own["permutations"]]
    if kind.endswith("BatchNormalization") and version < 2 and "running_std" in own:
        own["running_var"] = own.pop("running_std").pow(-2) - own["eps"]
    if kind in ("CrossEntropyCriterion", "MultiLabelSoftMarginCriterion"):
        own["weights"] = getattr(own.pop("nll", None), "weights", None)
    if kind == "SpatialConvolution" and own["weight"] is not None and own["weight"].dim() == 2:
        shape = (module.nOutputPlane, module.nInputPlane, module.kH, module.kW)
        for name in ("weight", "gradWeight"):
            if own[name] is not None and own[name].numel():
                own[name] = own[name].view(shape)
