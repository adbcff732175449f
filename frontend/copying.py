"""Copies and pickles of tensors: what is kept, and which copies go on sharing memory.

Tensors that are views of one tensor are so again in one `copy.deepcopy` or one pickle, whichever
comes first. A copy has the history of a leaf; gradients are copied by `deepcopy`, but not those of
parameters, and left out of pickles, both as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.autograd.modes import no_grad
from braze.capture import call_of
from braze.devices import place_of
from braze.handle import BUFFER, PARAM
from braze.ir.op import op_named
from braze.placing import array_beside, array_on
from braze.tensors import Tensor, view_of

_SLOTS = tuple(name for name in Tensor.__slots__ if not name.startswith("__"))


def retype(plain: Tensor, kind: type[Tensor]) -> Tensor:
    """The same tensor as an instance of a subclass; `plain` is not to be used any more."""
    if type(plain) is kind:
        return plain
    tensor: Tensor = object.__new__(kind)
    for name in _SLOTS:
        if hasattr(plain, name):
            setattr(tensor, name, getattr(plain, name))
    return tensor


def shallow_copy(self: Tensor) -> Tensor:
    """`copy.copy`: another leaf on the same memory."""
    new = retype(self.detach(), type(self))
    new._requires_grad = self._requires_grad
    new.__dict__.update(self.__dict__)
    return new


def deep_copy(self: Tensor, memo: dict[Any, Any]) -> Tensor:
    """`copy.deepcopy`: a leaf with its own memory, which copies of views of it share.

    Raises:
        RuntimeError: an operation that is on the tape made the tensor.
    """
    if id(self) in memo:
        copied: Tensor = memo[id(self)]
        return copied
    if self._node is not None:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol"
        )
    if self._base is None:
        flags = self._handle.flags & (PARAM | BUFFER)
        new = retype(array_beside(self, _own(self), flags), type(self))
    else:
        new = retype(_view_again(self, _copy_of_base(self._base, memo)), type(self))
    new._requires_grad = self._requires_grad
    memo[id(self)] = new
    if self._grad is not None and not new._handle.flags & PARAM:
        new._grad = deep_copy(self._grad, memo)
    new.__dict__.update(self.__dict__)
    return new


def _own(tensor: Tensor) -> np.ndarray:
    return np.array(tensor._numpy(), order="C")


def _copy_of_base(base: Tensor, memo: dict[Any, Any]) -> Tensor:
    """The copy of a tensor that something being copied is a view of."""
    if base._node is None:
        return deep_copy(base, memo)
    # Part of the tape, and only there as memory.
    key = ("memory of", id(base))
    if key not in memo:
        memo[key] = array_beside(base, _own(base))
    copied: Tensor = memo[key]
    return copied


def _view_again(view: Tensor, base: Tensor) -> Tensor:
    with no_grad():
        call = view._view
        return base.detach() if call is None else view_of(call, base)


def reduce(self: Tensor, protocol: Any) -> tuple[Any, ...]:
    """What `pickle` keeps: elements, dtype, `requires_grad`, class and attributes; for a view its
    base, whose pickle it shares."""
    if self._base is None:
        flags = self._handle.flags & (PARAM | BUFFER)
        arguments: tuple[Any, ...] = (type(self), _own(self), self._requires_grad, flags)
        place = self._handle.type.device
        if place != "cpu":
            arguments = (*arguments, place)
        made: tuple[Any, ...] = (rebuild, arguments)
    else:
        call = self._view
        view = None if call is None else (call.op.name, dict(call.attributes))
        made = (rebuild_view, (type(self), self._base, view, self._requires_grad))
    return (*made, dict(self.__dict__)) if self.__dict__ else made


def rebuild(
    kind: type[Tensor], array: np.ndarray, requires_grad: bool, flags: int, device: str = "cpu"
) -> Tensor:
    """Unpickle a tensor that is nobody's view.

    Raises:
        RuntimeError: it was on a device that this machine has not.
    """
    if not array.flags.writeable:
        array = array.copy()
    tensor = retype(array_on(place_of(device), array, flags), kind)
    tensor._requires_grad = requires_grad
    return tensor


def rebuild_view(
    kind: type[Tensor],
    base: Tensor,
    view: tuple[str, dict[str, Any]] | None,
    requires_grad: bool,
) -> Tensor:
    """Unpickle a view."""
    with no_grad():
        if view is None:
            plain = base.detach()
        else:
            plain = view_of(call_of(op_named(view[0]), **view[1]), base)
    tensor = retype(plain, kind)
    tensor._requires_grad = requires_grad
    return tensor


METHODS = {"__copy__": shallow_copy, "__deepcopy__": deep_copy, "__reduce_ex__": reduce}
