"""Tensors from a file's storages: what the functions named in a saved object do.

In: storages, and where in them a tensor's elements lie.  Out: tensors that share memory as those
that were saved did.

Nothing is copied. The first tensor that shows all of a storage in order becomes the owner of its
memory; any other is a view, derived when it is first used. Whatever a file says is checked against
the size of the storage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from braze import engine
from braze.capture import Call, call_of
from braze.copying import retype
from braze.devices import device, place_of
from braze.engine import Storage
from braze.handle import INFERENCE, PARAM, Handle, concrete
from braze.ir.dtypes import DType, u8
from braze.ir.op import op_named
from braze.ir.ops.strided import last_place
from braze.ir.types import tensor_type
from braze.layouts import sparse_coo, strided
from braze.nn.parameter import Parameter
from braze.placing import array_on
from braze.serialization.names import StorageKind
from braze.strides import is_row_major
from braze.tensors import Tensor, wrap
from braze.typed_storage import TypedStorage

_RESHAPE, _STRIDED = op_named("reshape"), op_named("as_strided")
_MAX_RANK = 64


class LoadedStorage(TypedStorage):
    """A storage of a file: memory that becomes a tensor's when one is made of it.

    Attributes:
        memory: the bytes.
        kind: what the file calls it.
        root: the tensor that owns the memory, once there is one. shown: all tensors made of it.
    """

    def __init__(self, memory: Storage, kind: StorageKind) -> None:
        self.memory = memory
        self.kind = kind
        self.dtype = u8 if kind.dtype is None else kind.dtype
        self.place = "cpu"
        self.root: Tensor | None = None
        self.shown: list[Tensor] = []

    def nbytes(self) -> int:
        return self.memory.nbytes

    def to_place(self, place: str) -> LoadedStorage:
        """Let the tensors that are made of it be on a device."""
        self.place = place
        return self

    def cuda(self, device: Any = None) -> LoadedStorage:
        """Let them be on a GPU, by default on the current one.  Raises: RuntimeError."""
        return self.to_place(place_of("cuda" if device is None else device))

    def cpu(self) -> LoadedStorage:
        """Let them be on the CPU."""
        return self.to_place("cpu")

    @property
    def device(self) -> device:
        return device(self.place)

    @property
    def _owner(self) -> Tensor:  # type: ignore[override]
        return self.flat(self.dtype)

    def own(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """The tensor that owns the memory, made now."""
        memory = self.memory
        if self.place != "cpu":
            memory = engine.cuda().new_storage(self.place, memory.nbytes, "loaded")
            engine.cuda().copy_storage(self.memory, memory)
        self.root = wrap(concrete(tensor_type(dtype, shape, self.place), memory), None, 0)
        return self.root

    def flat(self, dtype: DType) -> Tensor:
        """All numbers as a tensor of one dimension, on the owner's memory."""
        size = self.nbytes() // dtype.itemsize
        root = self.own(dtype, (size,)) if self.root is None else self.root
        own = root._handle.type
        base = root.detach()
        if own.shape != (own.numel,):
            shape = (own.numel,)
            base = _view(call_of(_RESHAPE, shape=shape), base, own.dtype, shape)
        return base if own.dtype is dtype else base.view(dtype)  # type: ignore[no-any-return]


def _view(call: Call, base: Tensor, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A view that is derived when it is first used: loading runs nothing."""
    kind = tensor_type(dtype, shape, base._handle.type.device)
    view = wrap(Handle(kind, None, -1), None, 0)
    view._handle.flags = base._handle.flags & INFERENCE
    view._base, view._view = base, call
    view._seen = view._handle  # not the base's value, whatever that is
    return view


def check_place(
    size: Any, stride: Any, offset: Any, room: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides as tuples.

    Raises:
        RuntimeError: they are no numbers, negative, or some element lies outside the storage.
    """
    sizes, strides = tuple(size), tuple(stride)
    if len(sizes) > _MAX_RANK:
        raise RuntimeError(f"a tensor of {len(sizes)} dimensions; there can be {_MAX_RANK}")
    numbers = (*sizes, *strides, offset)
    if not all(type(n) is int for n in numbers) or len(sizes) != len(strides):
        raise RuntimeError(f"a tensor of sizes {sizes}, strides {strides}, offset {offset!r}")
    if min(numbers) < 0 or max(numbers) >= 1 << 63:
        raise RuntimeError(
            f"sizes {sizes}, strides {strides} and offset {offset} must not be negative, and must "
            "fit in 64 bits"
        )
    last = last_place(sizes, strides, offset)
    if last >= room:
        raise RuntimeError(
            f"setStorage: sizes {list(sizes)}, strides {list(strides)}, storage offset {offset}: "
            f"element {last} is out of bounds for storage of {room} elements"
        )
    return sizes, strides


class Rebuilder:
    """The functions that a saved object calls, for one file."""

    def __init__(self) -> None:
        self._storage_of: dict[int, LoadedStorage] = {}

    def _tensor(self, storage: Any, dtype: DType, offset: int, size: Any, stride: Any) -> Tensor:
        if not isinstance(storage, LoadedStorage):
            raise RuntimeError(f"a tensor needs a storage, given {type(storage).__name__}")
        room = storage.nbytes() // dtype.itemsize
        sizes, strides = check_place(size, stride, offset, room)
        whole = offset == 0 and math.prod(sizes) == room and is_row_major(sizes, strides)
        if storage.root is None and whole and storage.nbytes() % dtype.itemsize == 0:
            made = storage.own(dtype, sizes)
        elif 0 in sizes:
            made = array_on(storage.place, np.empty(sizes, dtype.numpy))
        else:
            flat = storage.flat(dtype)
            call = call_of(_STRIDED, sizes=sizes, strides=strides, offset=offset)
            made = _view(call, flat, dtype, sizes)
        storage.shown.append(made)
        self._storage_of[id(made)] = storage
        return made

    def tensor(
        self,
        storage: Any,
        storage_offset: int,
        size: Any,
        stride: Any,
        requires_grad: bool = False,
        backward_hooks: Any = None,
        metadata: Any = None,
    ) -> Tensor:
        """`_rebuild_tensor_v2` (and `_rebuild_tensor`, which ends at the strides)."""
        dtype = getattr(storage, "dtype", u8)
        made = self._tensor(storage, dtype, storage_offset, size, stride)
        return _finished(made, requires_grad, metadata)

    def tensor_of_bytes(
        self,
        storage: Any,
        storage_offset: int,
        size: Any,
        stride: Any,
        requires_grad: bool,
        backward_hooks: Any,
        dtype: Any,
        metadata: Any = None,
    ) -> Tensor:
        """`_rebuild_tensor_v3`: dtypes that have no storage class of their own."""
        if not isinstance(dtype, DType):
            raise RuntimeError(f"a tensor needs a dtype, given {dtype!r}")
        made = self._tensor(storage, dtype, storage_offset, size, stride)
        return _finished(made, requires_grad, metadata)

    def parameter(self, data: Any, requires_grad: bool, backward_hooks: Any = None) -> Parameter:
        """`_rebuild_parameter`."""
        made = self._as_kind(data, Parameter)
        made.requires_grad = bool(requires_grad)
        made._handle.flags |= PARAM
        return made

    def parameter_with_state(
        self, data: Any, requires_grad: bool, backward_hooks: Any, state: Any
    ) -> Parameter:
        """`_rebuild_parameter_with_state`: one with attributes."""
        made = self.parameter(data, requires_grad)
        set_attributes(made, state)
        return made

    def from_type(self, function: Callable[..., Any], kind: Any, args: Any, state: Any) -> Tensor:
        """`_rebuild_from_type_v2`: a tensor with attributes, or of a subclass."""
        if not (isinstance(kind, type) and issubclass(kind, Tensor)):
            raise RuntimeError(f"expected a class of tensors, given {kind!r}")
        made = self._as_kind(function(*args), kind)
        set_attributes(made, state)
        return made

    def _as_kind(self, data: Any, kind: type[Any]) -> Any:
        if not isinstance(data, Tensor):
            raise RuntimeError(f"expected a tensor, given {type(data).__name__}")
        if type(data) is kind or (data.is_sparse and kind is Tensor):
            return data
        made = retype(data, kind)
        storage = self._storage_of.pop(id(data), None)
        if storage is not None:
            self._storage_of[id(made)] = storage
            storage.shown = [made if t is data else t for t in storage.shown]
            if storage.root is data:
                storage.root = made
        return made

    def sparse(self, layout: Any, data: Any) -> Tensor:
        """`_rebuild_sparse_tensor`.  Raises: as `sparse_coo_tensor`."""
        from braze.sparse.construction import sparse_coo_tensor

        if layout is not sparse_coo:
            raise NotImplementedError(f"rebuilding a sparse tensor of layout {layout}")
        indices, values, size, *coalesced = data
        made: Any = sparse_coo_tensor(indices, values, tuple(size))
        return made._coalesced_(True) if coalesced and coalesced[0] else made  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Give each parameter that alone uses a storage, but not in row-major order, memory of its
        own: an optimizer then updates it in place."""
        for storage in self._storage_of.values():
            made = storage.shown[0]
            alone = len(storage.shown) == 1 and made._base is not None
            if alone and isinstance(made, Parameter):
                array = np.array(made.detach()._numpy(), order="C")
                made._base, made._handle = None, array_on(storage.place, array, PARAM)._handle


def _finished(made: Tensor, requires_grad: Any, metadata: Any) -> Tensor:
    if metadata:
        if not isinstance(metadata, dict) or metadata.keys() - {"conj", "neg"}:
            raise RuntimeError(f"a tensor with unknown properties: {metadata!r}")
        if metadata.get("conj"):
            made = made.conj_physical()
        if metadata.get("neg"):
            made = -made
        made = made.detach().clone()
    if requires_grad:
        made.requires_grad = True
    return made


def set_attributes(tensor: Tensor, state: Any) -> None:
    """Give a tensor the Python attributes that were saved with it."""
    if not isinstance(state, dict) or not all(type(name) is str for name in state):
        raise RuntimeError(f"expected a tensor's attributes, given {type(state).__name__}")
    tensor.__dict__.update(state)


def get_layout(name: str) -> Any:
    """`_get_layout`.  Raises: NotImplementedError for those that Braze has not."""
    layouts = {"torch.strided": strided, "torch.sparse_coo": sparse_coo}
    if name not in layouts:
        raise NotImplementedError(f"tensors of layout {name} are not supported")
    return layouts[name]
