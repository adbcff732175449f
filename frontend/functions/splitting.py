"""Pieces of a tensor: of given sizes, of a given number, or between given places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from braze.functions.movement import chunk, slice_dimension, split
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor


def tensor_split(
    input: Tensor, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0
) -> tuple[Tensor, ...]:
    """A number of pieces (the first ones larger by one, if need be), or pieces that begin at the
    given indices. Views.

    Raises:
        RuntimeError: the tensor has no dimensions, or the number of pieces is not positive.
    """
    if input.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got 0 dims")
    d = normalise_dimension("tensor_split", dim, input.ndim)
    size = input._handle.type.shape[d]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        if count <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {count}")
        small, larger = divmod(size, count)
        ends = [small * i + min(i, larger) for i in range(1, count + 1)]
    else:
        ends = [*indices_or_sections, size]
    pieces, start = [], 0
    for end in ends:
        first = _clipped(start, size)
        last = max(_clipped(end, size), first)
        pieces.append(slice_dimension(input, d, first, last, 1))
        start = end
    return tuple(pieces)


def split_with_sizes(
    input: Tensor, split_sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Pieces of a dimension of the sizes given. Views.

    Raises:
        RuntimeError: a size is negative, or they do not sum to the dimension's.
    """
    return split(input, list(split_sizes), dim)


def unsafe_split(
    input: Tensor, split_size: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """As `split`: pieces may be written to although gradients are recorded."""
    return split(input, split_size, dim)


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """As `chunk`: pieces may be written to although gradients are recorded."""
    return chunk(input, chunks, dim)


def unsafe_split_with_sizes(
    input: Tensor, split_sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """As `split_with_sizes`: pieces may be written to although gradients are recorded."""
    return split_with_sizes(input, split_sizes, dim)


def _clipped(index: int, size: int) -> int:
    return min(max(index + size if index < 0 else index, 0), size)


def _split_along(name: str, lowest: int, dim: int) -> Callable[..., tuple[Tensor, ...]]:
    def function(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
        if input.ndim < lowest:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {lowest} dimension"
                f"{'s' if lowest > 1 else ''}, but got a tensor with {input.ndim} dimensions!"
            )
        d = 0 if input.ndim == 1 else dim
        if isinstance(indices_or_sections, int):
            size = input._handle.type.shape[d]
            if indices_or_sections <= 0 or size % indices_or_sections:
                raise RuntimeError(
                    f"torch.{name} attempted to split along dimension {d}, but the size of the "
                    f"dimension {size} is not divisible by the split_size {indices_or_sections}!"
                )
        return tensor_split(input, indices_or_sections, d)

    function.__name__ = name
    function.__doc__ = f"`tensor_split` along dimension {dim}, into pieces of equal size. Views."
    return function


hsplit = _split_along("hsplit", 1, 1)
vsplit = _split_along("vsplit", 2, 0)
dsplit = _split_along("dsplit", 3, 2)


METHODS = {
    function.__name__: function
    for function in (
        tensor_split, split_with_sizes, unsafe_split, unsafe_chunk, unsafe_split_with_sizes, hsplit,
        vsplit, dsplit,
    )
}  # fmt: skip
