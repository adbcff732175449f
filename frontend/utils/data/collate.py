"""Make one batch of examples: stack tensors and arrays, gather numbers, go into containers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from braze.functions.creation import as_tensor, tensor
from braze.functions.movement import stack
from braze.ir.dtypes import f64
from braze.tensors import Tensor, from_array

Kinds = type | tuple[type, ...]
Collate = Callable[..., Any]

_REFUSED = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
)


def _is_text(dtype: np.dtype) -> bool:
    return dtype.kind in "SUO" or dtype.kind == "V" and dtype.names is not None


def _stacked(arrays: list[np.ndarray]) -> Tensor:
    shape = arrays[0].shape
    for position, array in enumerate(arrays):
        if array.shape != shape:
            raise RuntimeError(
                "stack expects each tensor to be equal size, but got "
                f"{list(shape)} at entry 0 and {list(array.shape)} at entry {position}"
            )
    return from_array(np.stack(arrays))


def collate(batch: Any, *, collate_fn_map: dict[Kinds, Collate] | None = None) -> Any:
    """Examples to a batch.

    Args:
        collate_fn_map: a type (or types) -> `f(batch, collate_fn_map=...)` for examples of it and,
            in order, of its subclasses. Containers of what is not in it are collated member by
            member.

    Raises:
        RuntimeError: members differ in number. TypeError: something cannot be collated.
    """
    first = batch[0]
    kind = type(first)
    if collate_fn_map is not None:
        chosen = collate_fn_map.get(kind)
        if chosen is None:
            known = (f for kinds, f in collate_fn_map.items() if isinstance(first, kinds))
            chosen = next(known, None)
        if chosen is not None:
            return chosen(batch, collate_fn_map=collate_fn_map)

    def each(items: Any) -> Any:
        return collate(items, collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return _like_mapping(first, {key: each([item[key] for item in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(*(each(items) for items in zip(*batch, strict=False)))
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        members = [each(items) for items in zip(*batch, strict=True)]
        return members if isinstance(first, tuple) else _like_sequence(first, members)
    raise TypeError(_REFUSED.format(kind))


def _like_mapping(model: Any, items: dict[Any, Any]) -> Any:
    """The items in a mapping of the model's type, with what else it has, where that can be."""
    try:
        if isinstance(model, MutableMapping):
            made = copy.copy(model)
            made.update(items)
            return made
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _like_sequence(model: Any, items: list[Any]) -> Any:
    """The items in a sequence of the model's type, with what else it has, where that can be."""
    try:
        if isinstance(model, MutableSequence):
            made = copy.copy(model)
            for position, item in enumerate(items):
                made[position] = item
            return made
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def collate_tensor_fn(batch: Any, *, collate_fn_map: Any = None) -> Tensor:
    """Stack tensors; on the tape if one needs a gradient.

    Raises:
        RuntimeError: their shapes differ, or they are sparse.
    """
    if batch[0].is_sparse:
        raise RuntimeError(
            "Batches of sparse tensors are not currently supported by the default collate_fn; "
            "please provide a custom collate_fn to handle them appropriately."
        )
    if any(item.requires_grad for item in batch):
        return stack(list(batch))
    return _stacked([item._numpy() for item in batch])


def collate_numpy_array_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Stack arrays. Raises: TypeError for arrays of texts or objects."""
    if _is_text(batch[0].dtype):
        raise TypeError(_REFUSED.format(batch[0].dtype))
    return _stacked([np.asarray(item) for item in batch])


def collate_numpy_scalar_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """NumPy numbers, as a tensor of their dtype."""
    return from_array(np.asarray(batch))


def collate_float_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Floats, as a float64 tensor."""
    return tensor(list(batch), dtype=f64)


def collate_int_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Integers or bools, as a tensor."""
    return tensor(list(batch))


def collate_str_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Texts stay as they are."""
    return batch


default_collate_fn_map: dict[Kinds, Collate] = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch: Any) -> Any:
    """Examples to a batch.

    Tensors, arrays and numbers become tensors with a new first dimension (Python floats float64,
    ints int64); strings stay as they are; dicts, named tuples and lists are collated member by
    member and keep their types, tuples become lists. Other types can be added to
    `default_collate_fn_map`.

    Raises:
        RuntimeError: members differ in shape or number. TypeError: something cannot be collated.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def default_convert(data: Any) -> Any:
    """What a loader without batching does: arrays and NumPy numbers become tensors, which share an
    array's memory; containers are converted member by member, the rest stays."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        if _is_text(data.dtype):
            return data
        return as_tensor(data)
    return _members(data, default_convert)


def pinned(data: Any) -> Any:
    """A batch whose tensors lie in memory that a GPU reads directly: tensors, what has a method
    `pin_memory`, and the members of containers; the rest stays.

    Raises: RuntimeError, a tensor is on a GPU.
    """
    if isinstance(data, Tensor) or hasattr(data, "pin_memory"):
        return data.pin_memory()
    return _members(data, pinned)


def _members(data: Any, convert: Callable[[Any], Any]) -> Any:
    """A container with its members converted; anything else itself."""
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: convert(item) for key, item in data.items()})
    if isinstance(data, tuple):
        items = [convert(item) for item in data]
        return type(data)(*items) if hasattr(data, "_fields") else items
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [convert(item) for item in data])
    return data
