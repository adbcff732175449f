"""Tensor methods for conversation with Python, NumPy and questions about types."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from braze import copying, dlpack, typed_storage
from braze.autograd.modes import no_grad
from braze.devices import place_of
from braze.functions import tensor_types
from braze.functions.arguments import explained, require_tensors
from braze.functions.creation import from_numpy, tensor
from braze.functions.pinning import is_in_pinned_memory, pinned_copy
from braze.ir.dtypes import bf16
from braze.layouts import layout, strided
from braze.placing import moved
from braze.sharing import block_of
from braze.tensors import Tensor

# Python ------------------------------------------------------------------------------------------


def _single(self: Tensor) -> Any:
    if self._handle.type.numel != 1:
        raise ValueError("only one element tensors can be converted to Python scalars")
    return self.item()


def _real(self: Tensor, kind: str) -> Any:
    value = _single(self)
    if isinstance(value, complex):
        if value.imag:
            raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
        return value.real
    return value


def _index(self: Tensor) -> int:
    if self.dtype.is_differentiable or self._handle.type.numel != 1:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(self.item())


def _format(self: Tensor, spec: str) -> str:
    if self.ndim == 0:
        return format(self.item(), spec)
    return object.__format__(self, spec)


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (Tensor, int, float, complex, np.generic)):
        return bool((self == element).any().item())
    raise RuntimeError(
        f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."
    )


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. A sync point.

    Raises:
        RuntimeError: there is not exactly one element.
    """
    require_tensors("is_nonzero", input=input)
    return bool(input)


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replace each element by a Python function of it, one after the other. A sync point."""
    new = [callable(value) for value in self._numpy().reshape(-1).tolist()]
    return _set(self, new)


def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Replace each element by a Python function of it and the other tensor's, broadcast. A sync
    point.

    Raises:
        RuntimeError: the other tensor does not broadcast, or a gradient is asked of this one.
    """
    tensor = tensor.expand(self.shape)
    other = np.broadcast_to(tensor._numpy(), tuple(self.shape)).reshape(-1).tolist()
    mine = self._numpy().reshape(-1).tolist()
    return _set(self, [callable(a, b) for a, b in zip(mine, other, strict=True)])


def _set(self: Tensor, values: list[Any]) -> Tensor:
    if self._requires_grad:
        raise RuntimeError(
            "Can't call apply_() or map_() on a tensor that requires grad. Use detach() first."
        )
    array = np.array(values, dtype=self.dtype.numpy).reshape(tuple(self.shape))
    with no_grad():
        return self.copy_(tensor(array))  # type: ignore[no-any-return]


# NumPy -------------------------------------------------------------------------------------------


def _array_wrap(
    self: Tensor, array: Any, context: Any = None, return_scalar: bool = False
) -> Tensor:
    """What a NumPy function gives for a tensor: a tensor on the result's memory."""
    return from_numpy(np.asarray(array))


def _buffer(self: Tensor, flags: int) -> memoryview:
    """The buffer protocol (for Python code, from Python 3.12 on).

    Raises:
        BufferError: the dtype has no letter in that protocol.
    """
    if self.dtype is bf16:
        raise BufferError("bfloat16 has no format in the buffer protocol; view as uint16")
    return memoryview(self.numpy())  # type: ignore[arg-type]


def _array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """The array API standard's functions for tensors; see `braze.array_api`.

    Raises:
        ValueError: an unknown version of the standard.
    """
    array_api: Any = importlib.import_module("braze.array_api")

    known: tuple[str, ...] = array_api.VERSIONS
    if api_version is not None and api_version not in known:
        raise ValueError(f"array API version {api_version!r} is not one of {', '.join(known)}")
    return array_api


# Types and places --------------------------------------------------------------------------------


def is_complex(input: Tensor) -> bool:
    """Whether the elements are complex numbers."""
    return input.dtype.is_complex


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return input.dtype.is_floating_point


def is_signed(input: Tensor) -> bool:
    """Whether the elements can be negative."""
    return input.dtype.is_signed


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape."""
    return input._handle.type.shape == other._handle.type.shape


def get_device(input: Tensor) -> int:
    """The number of the tensor's GPU; -1 on the CPU."""
    place = input._handle.type.device
    return -1 if place == "cpu" else int(place.partition(":")[2])


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """The tensor on a GPU, itself if it is there.

    Args:
        device: which; by default the one that is used where none is named.

    Raises:
        RuntimeError: it is not one that tensors can be on.
    """
    place = place_of("cuda" if device is None else device)
    if place == "cpu":
        raise RuntimeError("Invalid device, must be cuda device")
    return moved(self, place)


def share_memory_(self: Tensor) -> Tensor:
    """Move the elements (of a view: its base's) to memory that processes share. A sync point.

    In-place operations of one process are seen by the others at once: by forked ones, and by those
    that it is sent to, as by a queue; see `braze.multiprocessing`. A tensor of a GPU is on such
    memory already.
    """
    if self.is_cuda:
        return self
    from braze.multiprocessing.reductions import share

    share(typed_storage.root_of(self))
    return self


def is_shared(self: Tensor) -> bool:
    """Whether `share_memory_` was called for this memory, or it is a GPU's."""
    if self.is_cuda:
        return True
    root = typed_storage.root_of(self)
    return block_of(root._current()) is not None


def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor on a device, in the array API standard's words.

    Raises:
        RuntimeError: there is no such device.
    """
    return moved(self, place_of(device))


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in memory that a GPU can read directly, itself if it is there already.

    Raises:
        RuntimeError: this machine has no GPU, or the tensor is on one.
    """
    if self.is_cuda:
        raise RuntimeError(
            f"cannot pin '{self.type()}' on {self.device}: only dense CPU "
            "tensors can be pinned"
        )
    return pinned_copy(self)


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether a GPU can read the memory directly."""
    return not self.is_cuda and is_in_pinned_memory(self)


def as_subclass(self: Tensor, cls: type[Tensor]) -> Tensor:
    """The same elements (and history) as an instance of a subclass of `Tensor`."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise RuntimeError(f"as_subclass() needs a subclass of Tensor, given {cls!r}")
    view = self.detach()
    view._requires_grad, view._node, view._index = self._requires_grad, self._node, self._index
    return copying.retype(view, cls)


def _layout(self: Tensor) -> layout:
    """How the elements lie in memory: `braze.strided`."""
    return strided


def _nbytes(self: Tensor) -> int:
    """Bytes of all elements."""
    return self._handle.type.nbytes


def _itemsize(self: Tensor) -> int:
    """Bytes of one element."""
    return self.dtype.itemsize


_NAMED = (
    is_nonzero, apply_, map_, is_complex, is_floating_point, is_signed, is_same_size, get_device,
    cuda, to_device, share_memory_, is_shared, pin_memory, is_pinned, as_subclass,
)  # fmt: skip

METHODS: dict[str, Any] = {
    **{function.__name__: function for function in _NAMED},
    **copying.METHODS,
    **dlpack.METHODS,
    **tensor_types.METHODS,
    **typed_storage.METHODS,
    "__int__": lambda self: int(_real(self, "int64_t")),
    "__float__": lambda self: float(_real(self, "double")),
    "__complex__": lambda self: complex(_single(self)),
    "__index__": _index,
    "__format__": _format,
    "__contains__": _contains,
    "__array_wrap__": _array_wrap,
    "__array_namespace__": _array_namespace,
    "__buffer__": _buffer,
    "ndimension": lambda self: self.ndim,
    "layout": property(_layout),
    "nbytes": property(_nbytes),
    "itemsize": property(_itemsize),
    "is_cpu": property(lambda self: True),
    "is_sparse": property(lambda self: False),
    "is_quantized": property(lambda self: False),
    "is_meta": property(lambda self: False),
}

# The functions among them that the package offers at its top level.
FUNCTIONS: dict[str, Any] = {
    function.__name__: explained(function, function.__name__)
    for function in (
        is_complex, is_floating_point, is_nonzero, is_same_size, is_signed, get_device,
    )
}  # fmt: skip
