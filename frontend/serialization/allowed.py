"""What a file may name: PyTorch's functions that rebuild tensors, containers, and the user's own.

In: a file's `Rebuilder`.  Out: a table from "module.name" to what is called in its place.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from braze.devices import device
from braze.nn.parameter import Parameter
from braze.serialization.names import STORAGE_KINDS, TENSOR_KINDS, TORCH_DTYPES
from braze.serialization.rebuild import Rebuilder, get_layout
from braze.serialization.unpickling import check_key, checked_items
from braze.sizes import Size
from braze.tensors import Tensor

SafeGlobal = Callable[..., Any] | tuple[Callable[..., Any], str]

_added: dict[str, Any] = {}


def _named(entry: SafeGlobal) -> tuple[str, Any]:
    if not isinstance(entry, tuple):
        return f"{entry.__module__}.{entry.__qualname__}", entry
    if len(entry) != 2:
        raise ValueError(
            f"expected a tuple of two (what is allowed, its full name in the file), got "
            f"{len(entry)} items"
        )
    if type(entry[1]) is not str:
        raise TypeError(f"the second item must be a full name, but got {type(entry[1])}")
    return entry[1], entry[0]


def add_safe_globals(safe_globals: list[SafeGlobal]) -> None:
    """Allow classes and functions in files that `braze.load` reads with `weights_only=True`.

    Args:
        safe_globals: each by itself, or as (what, "the.name.in.the.file") where these differ.

    Raises:
        ValueError, TypeError: a tuple is not of that form.
    """
    _added.update(map(_named, safe_globals))


def get_safe_globals() -> list[SafeGlobal]:
    """What was allowed, in the form in which it can be allowed again."""
    return [value if _is_own_name(name, value) else (value, name) for name, value in _added.items()]


def _is_own_name(name: str, value: Any) -> bool:
    return name == f"{value.__module__}.{value.__qualname__}"


def clear_safe_globals() -> None:
    """Allow only what is allowed by default."""
    _added.clear()


@contextmanager
def safe_globals(safe_globals: list[SafeGlobal]) -> Iterator[None]:
    """Allow classes and functions inside a `with` block."""
    before = dict(_added)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _added.clear()
        _added.update(before)


def added_names() -> dict[str, Any]:
    """What the user allowed, by the names in files."""
    return dict(_added)


def _ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    made: OrderedDict[Any, Any] = OrderedDict()
    for key, value in pairs:
        check_key(key)
        made[key] = value
    return made


def _counter(counts: Any = ()) -> Counter[Any]:
    return Counter(_ordered(counts))


def _set(items: Any = ()) -> set[Any]:
    return set(checked_items(items))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(checked_items(items))


def _encoded(text: str, encoding: str = "utf-8") -> bytes:
    """How pickles before protocol 3 hold bytes."""
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    """How pickles before protocol 3 hold no bytes."""
    return b""


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    # (Given a number, the class would allocate as many bytes.)
    if not isinstance(data, (bytes, str)):
        raise UnpicklingError(f"a bytearray of a {type(data).__name__}")
    return bytearray(_encoded(data, encoding) if isinstance(data, str) else data)


def _size(sizes: Any = ()) -> Size:
    return Size(sizes)


def names(rebuild: Rebuilder) -> dict[str, Any]:
    """What is allowed by default."""
    table: dict[str, Any] = {
        "builtins.bytearray": _bytearray,
        "builtins.bytes": _no_bytes,
        "builtins.complex": complex,
        "builtins.frozenset": _frozenset,
        "builtins.set": _set,
        "collections.Counter": _counter,
        "collections.OrderedDict": _ordered,
        "_codecs.encode": _encoded,
        "torch.Size": _size,
        "torch.Tensor": Tensor,
        "torch.device": device,
        "torch.nn.parameter.Parameter": Parameter,
        "torch.serialization._get_layout": get_layout,
        "torch._tensor._rebuild_from_type_v2": rebuild.from_type,
        "torch._utils._rebuild_parameter": rebuild.parameter,
        "torch._utils._rebuild_parameter_with_state": rebuild.parameter_with_state,
        "torch._utils._rebuild_sparse_tensor": rebuild.sparse,
        "torch._utils._rebuild_tensor": rebuild.tensor,
        "torch._utils._rebuild_tensor_v2": rebuild.tensor,
        "torch._utils._rebuild_tensor_v3": rebuild.tensor_of_bytes,
    }
    return {**table, **STORAGE_KINDS, **TENSOR_KINDS, **TORCH_DTYPES}
