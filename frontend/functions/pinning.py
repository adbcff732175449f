"""Memory of the host that does not move, which a GPU copies from and to by itself."""

from __future__ import annotations

import numpy as np

from braze import engine
from braze.tensors import Tensor, from_array


def pinned_copy(tensor: Tensor) -> Tensor:
    """A tensor on the CPU in pinned memory, itself if it is there already.

    Raises:
        RuntimeError: there is no GPU that could read it.
    """
    if is_in_pinned_memory(tensor):
        return tensor
    own = tensor._handle.type
    array = engine.cuda().pinned_array(own.nbytes).view(own.dtype.numpy).reshape(own.shape)
    np.copyto(array, tensor._numpy())
    return from_array(array)


def is_in_pinned_memory(tensor: Tensor) -> bool:
    """Whether the memory is pinned."""
    storage = tensor._current().storage
    return isinstance(storage, engine.Storage) and engine.cuda().is_pinned(storage.owner)
