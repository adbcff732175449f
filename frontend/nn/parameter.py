"""Parameters: leaf tensors that a module owns and an optimizer updates. Comes in a tensor, goes out
a tensor on its memory, with a role.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from braze.autograd.modes import no_grad
from braze.copying import retype
from braze.functions.creation import empty
from braze.functions.movement import clone
from braze.handle import BUFFER, PARAM
from braze.tensors import Tensor


class Parameter(Tensor):
    """A tensor that is registered when it is assigned to a module's attribute.

    Args:
        data: the first value, whose memory is the parameter's; an empty tensor by default.
        requires_grad: whether gradients are recorded for it.

    Raises:
        TypeError: `data` is not a tensor.
        RuntimeError: gradients are wanted for a dtype that is not floating point.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        source = empty(0) if data is None else data
        if not isinstance(source, Tensor):
            raise TypeError(f"Parameter data must be a Tensor, given {type(source).__name__}")
        if source.is_sparse:
            raise NotImplementedError(
                "a Parameter cannot be sparse; make its values one, and the sparse tensor of them"
            )
        # Only a tensor that nobody else can look at may be left behind, and its memory with it: a
        # view is a little more work whenever it is written to.
        unseen = data is None or source._base is None and sys.getrefcount(data) <= _TEMPORARY
        if unseen:
            with no_grad():
                plain = clone(source)
        else:
            plain = source.detach()
        parameter: Any = retype(plain, cls)
        parameter._handle.flags |= PARAM
        parameter.requires_grad = requires_grad
        return parameter  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class _Probe:
    """Counts the references to an argument as `Parameter` sees them."""

    count: int

    def __new__(cls, data: object) -> _Probe:
        source = data
        probe = object.__new__(cls)
        probe.count = sys.getrefcount(source)
        return probe


_TEMPORARY = _Probe(object()).count


class _BufferType(type(Tensor)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Buffer:
            return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)
        return super().__instancecheck__(instance)  # type: ignore[no-any-return]


class Buffer(Tensor, metaclass=_BufferType):
    """A tensor that is registered as a buffer when it is assigned to a module's attribute.

    What it gives is a plain tensor with a mark, on the memory of `data`.

    Args:
        data: the tensor; an empty one by default.
        persistent: whether it is part of the module's `state_dict()`.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        source = empty(0) if data is None else data
        tensor = source.detach().requires_grad_(source.requires_grad)
        tensor.persistent = persistent  # type: ignore[attr-defined]
        tensor._is_buffer = True  # type: ignore[attr-defined]
        return tensor


def set_value(tensor: Tensor, new: Tensor) -> None:
    """Give a parameter or buffer a value that may differ in dtype and shape; its role stays."""
    role = tensor._handle.flags & (PARAM | BUFFER)
    tensor.data = new
    tensor._handle.flags |= role


def mark_buffer(tensor: Tensor) -> None:
    """Let graphs show that a tensor is a module's (or an optimizer's) state."""
    handle = tensor._current()
    if not handle.flags & PARAM:
        handle.flags |= BUFFER


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Where PyTorch has them: parameters and buffers without a shape."""
        from braze.nn import uninitialized

        if name == "is_lazy" or name.startswith("Uninitialized"):
            return getattr(uninitialized, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
