"""An optimizer's state as it is saved, and as it is kept.

Numbers that a step needs on the host, such as how many steps there were, are kept as Python numbers
and saved as PyTorch saves them, as 0-d float32 tensors. Loading takes both, and tensors of other
libraries.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from braze.handle import BUFFER
from braze.placing import array_beside
from braze.tensors import Tensor, from_array


def saved(entry: Any, counted: Mapping[str, type]) -> Any:
    """A parameter's state as `state_dict` gives it, with tensors in place of counted numbers."""
    if not isinstance(entry, dict):  # an optimizer's own kind of state
        return entry
    return {
        name: from_array(np.array(value, np.float32))
        if name in counted and not isinstance(value, Tensor)
        else value
        for name, value in entry.items()
    }


def loaded(name: str, value: Any, parameter: Tensor, counted: Mapping[str, type]) -> Any:
    """A state entry as it is kept: in memory of its own, in the parameter's dtype.

    Args:
        counted: the names of the entries that are kept as numbers, and their types.
    """
    if name in counted:
        return counted[name](value)
    if isinstance(value, (list, tuple)):
        return type(value)(loaded("", item, parameter, counted) for item in value)
    if isinstance(value, dict):
        return {key: loaded(key, item, parameter, counted) for key, item in value.items()}
    array = _as_array(value)
    if array is None:
        return copy.deepcopy(value)
    own = parameter._handle.type.dtype
    cast = own.is_floating_point and name != "step"
    kept = np.array(array, dtype=own.numpy if cast else None, order="C")
    return array_beside(parameter, kept, BUFFER)


def _as_array(value: Any) -> np.ndarray | None:
    """The elements of an array or of a tensor of any library; None for anything else."""
    if not isinstance(value, (Tensor, np.ndarray)):
        if not hasattr(value, "__dlpack__"):
            return None
        from braze.dlpack import from_dlpack

        value = from_dlpack(value.detach() if hasattr(value, "detach") else value)
    return value._numpy() if isinstance(value, Tensor) else value
