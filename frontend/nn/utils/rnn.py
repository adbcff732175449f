"""Batches of sequences of different lengths: padded to equal length, or packed without padding.

A packed batch holds all first elements, then all second ones, and so on, the longest sequence
first. Lengths are known when operations are captured, so nothing here waits for a value, unless
lengths are given as a tensor that still has to be computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from braze.capture import call_of
from braze.functions.creation import from_numpy, full
from braze.functions.movement import narrow, reshape, select, transpose
from braze.functions.pointwise import where
from braze.functions.promotion import cast
from braze.functions.tables import rows_at
from braze.ir import dtypes
from braze.ir.op import op_named
from braze.nn.functional.packing import Packing, as_index
from braze.placing import array_beside
from braze.tensors import Tensor, apply

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """A packed batch, as `pack_padded_sequence` and `pack_sequence` make it.

    Attributes:
        data: the elements, [sum of lengths, ...].
        batch_sizes: how many sequences there are at each step, int64, always on the CPU.
        sorted_indices: the order that put the longest sequence first; None if that is the given
            one.
        unsorted_indices: its inverse.
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _moved(self, data: Tensor, move: Callable[[Tensor], Tensor]) -> PackedSequence:
        indices = self.sorted_indices, self.unsorted_indices
        moved = (None if x is None else move(x) for x in indices)
        return type(self)(data, self.batch_sizes, *moved)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """`Tensor.to` of the data; the indices follow to its device. Itself, if nothing changes."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._moved(data, lambda x: x.to(data.device))

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """On the GPU."""
        data = self.data.cuda(*args, **kwargs)
        return self if data is self.data else self._moved(data, lambda x: x.to(data.device))

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """On the CPU."""
        return self.to("cpu", *args, **kwargs)

    def pin_memory(self) -> PackedSequence:
        """In memory that is pinned for transfers to a GPU."""
        return self._moved(self.data.pin_memory(), lambda x: x.pin_memory())

    def double(self) -> PackedSequence:
        """With float64 data."""
        return self.to(dtype=dtypes.f64)

    def float(self) -> PackedSequence:
        """With float32 data."""
        return self.to(dtype=dtypes.f32)

    def half(self) -> PackedSequence:
        """With float16 data."""
        return self.to(dtype=dtypes.f16)

    def long(self) -> PackedSequence:
        """With int64 data."""
        return self.to(dtype=dtypes.i64)

    def int(self) -> PackedSequence:
        """With int32 data."""
        return self.to(dtype=dtypes.i32)

    def short(self) -> PackedSequence:
        """With int16 data."""
        return self.to(dtype=dtypes.i16)

    def char(self) -> PackedSequence:
        """With int8 data."""
        return self.to(dtype=dtypes.i8)

    def byte(self) -> PackedSequence:
        """With uint8 data."""
        return self.to(dtype=dtypes.u8)

    @property
    def is_cuda(self) -> bool:
        """Are the data on a GPU?"""
        return bool(self.data.is_cuda)

    def is_pinned(self) -> bool:
        """Are the data in pinned memory?"""
        return bool(self.data.is_pinned())


def packing_of(sequence: PackedSequence) -> Packing:
    """Where the elements of a packed batch lie."""
    return Packing(sequence.batch_sizes._numpy().copy(), sequence.data._handle.type.device)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation of int64 indices that undoes another; None for None."""
    if permutation is None:
        return None
    return as_index(np.argsort(permutation._numpy()), permutation._handle.type.device)


def _lengths(lengths: Any) -> np.ndarray:
    array = lengths._numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.ndim != 1:
        raise RuntimeError(
            f"'lengths' argument should be a 1D CPU int64 tensor, but got {array.ndim}D"
        )
    return array.astype(np.int64)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch.

    Args:
        input: [time, batch, ...], or [batch, time, ...] if `batch_first`.
        lengths: of each sequence, a list or a tensor of integers.
        enforce_sorted: the longest sequence comes first, then the others in decreasing order; if
            False, they are put in that order, and the result knows how to undo it.

    Raises:
        RuntimeError: lengths that are not positive, not of this batch, larger than there are steps,
            or not in order; or an input without elements.
    """
    wanted = _lengths(lengths)
    if input.ndim < 2:
        raise IndexError(f"a batch of sequences has at least 2 dimensions, given {input.ndim}")
    batch, steps = input.shape[:2] if batch_first else (input.shape[1], input.shape[0])
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(wanted) != batch:
        raise RuntimeError(
            "Expected `len(lengths)` to be equal to batch_size, but got "
            f"{len(wanted)} (batch_size={batch})"
        )
    order = None
    if not enforce_sorted:
        order = np.argsort(-wanted, kind="stable")
        wanted = wanted[order]
    if wanted[-1] <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if (np.diff(wanted) > 0).any():
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to sidestep this requirement"
        )
    if wanted[0] > steps:
        raise RuntimeError(f"a length is {wanted[0]}, but the sequences have {steps} elements")
    sizes = np.count_nonzero(wanted > np.arange(wanted[0])[:, None], axis=1).astype(np.int64)
    times, sequences = Packing(sizes).places
    if order is not None:
        sequences = order[sequences]
    rows = sequences * steps + times if batch_first else times * batch + sequences
    flat = reshape(input, (-1, *input.shape[2:]))
    whole = len(rows) == len(flat) and bool((np.diff(rows) == 1).all())
    place = input._handle.type.device
    data = flat if whole else rows_at(flat, as_index(rows, place))
    indices = None if order is None else as_index(order, place)
    return PackedSequence(data, from_numpy(sizes), indices)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Undo `pack_padded_sequence`.

    Args:
        padding_value: what stands behind the end of a sequence.
        total_length: steps of the result; default: those of the longest sequence.

    Returns:
        The batch, [time, batch, ...] or if `batch_first` [batch, time, ...], and the lengths.

    Raises:
        ValueError: `total_length` is less than a length.
    """
    packing = packing_of(sequence)
    steps = packing.steps
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, "
                f"but got total_length={total_length} and max sequence length being {steps}"
            )
        steps = total_length
    rows, inside = packing.padded(steps)
    lengths = packing.lengths.astype(np.int64)
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices._numpy()
        rows, inside, lengths = rows[:, order], inside[:, order], lengths[order]
    if batch_first:
        rows, inside = rows.T, inside.T
    return _padded(sequence.data, rows, inside, padding_value), from_numpy(lengths.copy())


def _padded(data: Tensor, rows: np.ndarray, inside: np.ndarray, value: float) -> Tensor:
    """data[rows], and the value where there is nothing."""
    shape = (*rows.shape, *data.shape[1:])
    if not data.dtype.is_differentiable:
        value = bool(value) if data.dtype is dtypes.bool_ else int(value)
    if data.shape[0] == 0:
        return full(shape, value, dtype=data.dtype, device=data.device)
    result = reshape(rows_at(data, as_index(rows, data._handle.type.device)), shape)
    if inside.all():
        return result
    mask = array_beside(data, inside.reshape(*inside.shape, *(1,) * (data.ndim - 1)).copy())
    return where(mask, result, value)


def pad_sequence(
    sequences: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Put tensors of different lengths, [length, ...], side by side.

    Args:
        padding_value: what stands where a sequence has no element.
        padding_side: "right" or "left".

    Returns:
        [longest, number, ...], or if `batch_first` [number, longest, ...], in the dtype of the
        first.

    Raises:
        RuntimeError: no sequences, other sizes that differ, or an unknown side.
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        )
    listed = list(sequences)
    if not listed:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    _check_sizes(listed)
    lengths = np.array([x.shape[0] for x in listed])
    steps = int(lengths.max())
    first = np.zeros_like(lengths) if padding_side == "right" else steps - lengths
    times = np.arange(steps) - first[:, None]
    inside = (times >= 0) & (times < lengths[:, None])
    rows = np.where(inside, (np.cumsum(lengths) - lengths)[:, None] + times, 0)
    if not batch_first:
        rows, inside = rows.T, inside.T
    # Unlike `cat`, which leaves out empty vectors, this gives each of them its (empty) gradient.
    call = call_of(op_named("concat"), dim=0)
    data = apply(call, *(cast(x, listed[0].dtype) for x in listed))
    return _padded(data, rows, inside, padding_value)


def _check_sizes(sequences: Sequence[Tensor]) -> None:
    for x in sequences:
        if x.ndim == 0:
            raise RuntimeError("pad_sequence: a sequence has at least one dimension, given none")
        if x.shape[1:] != sequences[0].shape[1:]:
            raise RuntimeError(
                f"pad_sequence: sizes behind the length differ: {list(sequences[0].shape)} and "
                f"{list(x.shape)}"
            )


def unpad_sequence(
    padded_sequences: Tensor, lengths: Any, batch_first: bool = False
) -> list[Tensor]:
    """Undo `pad_sequence`: the sequences, by their lengths.

    Raises:
        ValueError: there are more or fewer lengths than sequences.
    """
    if not batch_first:
        padded_sequences = transpose(padded_sequences, 0, 1)
    number, steps = padded_sequences.shape[:2]
    wanted = _lengths(lengths)
    if len(wanted) != number:
        raise ValueError(f"{number} sequences and {len(wanted)} lengths")
    return [
        narrow(select(padded_sequences, 0, i), 0, 0, min(max(int(n), 0), steps))
        for i, n in enumerate(wanted)
    ]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors of different lengths, [length, ...]; see `pack_padded_sequence`."""
    listed = list(sequences)
    padded = pad_sequence(listed)
    lengths = [x.shape[0] for x in listed]
    return pack_padded_sequence(padded, lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Undo `pack_sequence`: the sequences in their first order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
