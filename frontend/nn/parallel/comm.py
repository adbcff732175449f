"""Moving tensors between devices. On the CPU these are copies in the same memory.

Moves are captured as any operation, so gradients find their way back.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from braze.devices import place_of
from braze.functions.movement import cat, clone, split, stack
from braze.functions.pointwise import add
from braze.nn.parallel.places import devices_of
from braze.placing import moved
from braze.sites import user_stacklevel
from braze.tensors import Tensor


def broadcast(
    tensor: Tensor, devices: Sequence[Any] | None = None, *, out: Any = None
) -> tuple[Tensor, ...]:
    """The tensor on each device: itself on the first, copies on the others.

    Args:
        out: tensors to copy it to, in place of `devices`.

    Raises:
        RuntimeError: neither or both of `devices` and `out` are given, or there is no such device.
    """
    if (devices is None) == (out is None):
        raise RuntimeError(
            "Exactly one of 'devices' and 'out' must be specified, but got "
            f"devices={devices} and out={out}"
        )
    if out is not None:
        return tuple(target.copy_(tensor) for target in out)
    assert devices is not None
    return tuple(
        on_its_own(tensor, device) if i else moved(tensor, place_of(device))
        for i, device in enumerate(devices_of(devices))
    )


def on_its_own(tensor: Tensor, device: Any) -> Tensor:
    """A copy of a tensor on a device."""
    copy = moved(tensor, place_of(device))
    return clone(tensor) if copy is tensor else copy


def broadcast_coalesced(
    tensors: Sequence[Tensor], devices: Sequence[Any], buffer_size: int = 10485760
) -> list[list[Tensor]]:
    """A list of tensors for each device. (`buffer_size` is for GPUs.)"""
    columns = [broadcast(tensor, devices) for tensor in tensors]
    return [[column[i] for column in columns] for i in range(len(devices_of(devices)))]


def reduce_add(inputs: Sequence[Tensor], destination: Any = None) -> Tensor:
    """The sum of tensors from several devices.

    Raises:
        IndexError: there are none. ValueError: their shapes differ.
    """
    place = inputs[0]._handle.type.device if destination is None else place_of(destination)
    total = moved(inputs[0], place)
    for i, tensor in enumerate(inputs[1:], 1):
        if tensor.shape != total.shape:
            raise ValueError(
                f"input {i} has invalid size: got {tuple(tensor.shape)}, but expected "
                f"{tuple(total.shape)}"
            )
        total = add(total, moved(tensor, place))
    return total


def reduce_add_coalesced(
    inputs: Sequence[Sequence[Tensor]], destination: Any = None, buffer_size: int = 10485760
) -> tuple[Tensor, ...]:
    """The sums of lists of tensors, one list from each device, member by member."""
    return tuple(reduce_add(column, destination) for column in zip(*inputs, strict=True))


def scatter(
    tensor: Tensor,
    devices: Sequence[Any],
    chunk_sizes: Sequence[int] | None = None,
    dim: int = 0,
    streams: Any = None,
) -> tuple[Tensor, ...]:
    """Cut a tensor into parts along a dimension, one for each device.

    Args:
        chunk_sizes: of the parts; by default as `chunk` does it, so there may be fewer of them than
            devices.

    Raises:
        RuntimeError: the sizes do not fit, or there is no such device.
    """
    places = devices_of(devices)
    count = len(places)
    if chunk_sizes is not None and (
        len(chunk_sizes) != count or sum(chunk_sizes) != tensor.shape[dim]
    ):
        raise RuntimeError(
            f"scatter: chunk sizes {list(chunk_sizes)} do not fit {count} devices and a dimension "
            f"of size {tensor.shape[dim]}"
        )
    parts = tensor.chunk(count, dim) if chunk_sizes is None else split(tensor, chunk_sizes, dim)
    return tuple(
        on_its_own(part, place) for part, place in zip(parts, places[: len(parts)], strict=True)
    )


def gather(tensors: Sequence[Tensor], dim: int = 0, destination: Any = None) -> Tensor:
    """Join parts along a dimension; numbers become a vector, with a warning."""
    place = tensors[0]._handle.type.device if destination is None else place_of(destination)
    joined = [moved(tensor, place) for tensor in tensors]
    if all(tensor.ndim == 0 for tensor in tensors) and dim == 0:
        warnings.warn(
            "Was asked to gather along dimension 0, but all input tensors were scalars; will "
            "instead unsqueeze and return a vector.",
            stacklevel=user_stacklevel(),
        )
        return stack(joined)
    return cat(joined, dim)
