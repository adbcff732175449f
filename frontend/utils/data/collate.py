"""Make one batch of examples: stack tensors and arrays, gather numbers, go into containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braze.functions.creation import tensor
from braze.functions.movement import stack
from braze.ir.dtypes import f64
from braze.tensors import Tensor, from_array


def _stacked(arrays: list[np.ndarray]) -> Tensor:
    shape = arrays[0].shape
    for array in arrays:
        if array.shape != shape:
            raise RuntimeError(
                "stack expects each tensor to be equal size, but got "
                f"{list(shape)} at entry 0 and {list(array.shape)} at another"
            )
    return from_array(np.stack(arrays))


def default_collate(batch: Sequence[Any]) -> Any:
    """Examples to a batch.

    Tensors, arrays and numbers become tensors with a new first dimension (Python floats float64,
    ints int64); strings a list; dicts, tuples and lists are collated member by member.

    Raises:
        RuntimeError: members differ in shape or number. TypeError: something cannot be collated.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        if any(item.requires_grad for item in batch):
            return stack(list(batch))
        return _stacked([item._numpy() for item in batch])
    if isinstance(first, (np.ndarray, np.generic)):
        arrays = [np.asarray(item) for item in batch]
        if arrays[0].dtype.kind not in "biuf":
            raise TypeError(f"default_collate: array of dtype {arrays[0].dtype} cannot be collated")
        return _stacked(arrays)
    if isinstance(first, bool) or isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype=f64)
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        collated = {key: default_collate([item[key] for item in batch]) for key in first}
        return collated if type(first) is dict else type(first)(collated)  # type: ignore[call-arg]
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        members = [default_collate(list(member)) for member in zip(*batch, strict=True)]
        return type(first)(*members) if hasattr(first, "_fields") else members
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first)}"
    )


def default_convert(data: Any) -> Any:
    """What a loader without batching does: arrays become tensors, the rest stays."""
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        return from_array(np.ascontiguousarray(array)) if array.dtype.kind in "biuf" else data
    if isinstance(data, Mapping):
        return type(data)((key, default_convert(item)) for key, item in data.items())  # type: ignore[call-arg]
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(item) for item in data))
    if isinstance(data, (tuple, list)):
        return type(data)(default_convert(item) for item in data)
    return data
