"""Data sets: by index or by iteration, of tensors, joined, and in parts.

A data set may have `take_batch(indices)`, which gives a whole batch at once. The loader uses it
when it collates by
default: `TensorDataset` gathers its rows by one copy a tensor, with no operation captured.
"""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from braze import engine
from braze.handle import concrete
from braze.ir.types import tensor_type
from braze.random import Generator, randperm
from braze.tensors import Tensor, from_array, wrap

Item = TypeVar("Item", covariant=True)


class Dataset(Generic[Item]):
    """Examples by index: subclasses define `__getitem__` and usually `__len__`."""

    def __getitem__(self, index: Any) -> Item:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Item]):
    """Examples in order: subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset[Any]) -> Any:
        return ChainDataset([self, other])


def gather_rows(tensor: Tensor, indices: np.ndarray) -> Tensor:
    """The rows of a tensor that indices in range name, copied into recycled memory.

    Raises:
        IndexError: an index is out of range.
    """
    array = tensor._numpy()
    rows = len(array)
    if indices.size and not -rows <= int(indices.min()) <= int(indices.max()) < rows:
        bad = indices[(indices < -rows) | (indices >= rows)][0]
        raise IndexError(f"index {bad} is out of bounds for dimension 0 with size {rows}")
    kind = tensor_type(tensor._handle.type.dtype, (len(indices), *array.shape[1:]))
    storage = engine.Storage(kind.nbytes)
    target = storage.array(kind.dtype.numpy, kind.shape)
    # In range, "wrap" only serves negative indices; unlike "raise" it needs no second copy.
    np.take(array, indices, axis=0, out=target, mode="wrap")
    return wrap(concrete(kind, storage), None, 0)


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Rows of tensors of equal length: item i is the i-th row of each.

    Raises:
        AssertionError: the lengths differ.
    """

    def __init__(self, *tensors: Tensor) -> None:
        if any(tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
            raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        if isinstance(index, (int, np.integer)) and not any(t.requires_grad for t in self.tensors):
            # On the host: as operations, every index would be another graph.
            return tuple(from_array(np.array(t._numpy()[index])) for t in self.tensors)
        return tuple(t[index] for t in self.tensors)  # type: ignore[index]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def take_batch(self, indices: Sequence[int]) -> list[Tensor] | None:
        """The rows of each tensor as one batch; None where gradients must flow through."""
        if any(tensor.requires_grad for tensor in self.tensors):
            return None
        rows = np.asarray(indices, dtype=np.int64)
        return [gather_rows(tensor, rows) for tensor in self.tensors]


class Subset(Dataset[Any]):
    """The examples of another data set that a list of indices names.

    Raises:
        NotImplementedError: a subclass has its own `__getitem__`, but no `__getitems__`.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices
        kind = type(self)
        if kind.__getitem__ is not Subset.__getitem__ and kind.__getitems__ is Subset.__getitems__:
            raise NotImplementedError(
                f"{kind.__name__} overrides __getitem__ but not __getitems__, by which DataLoader "
                "fetches; override it too, for instance by\n\n"
                "def __getitems__(self, indices):\n"
                "    return [self.__getitem__(idx) for idx in indices]"
            )

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        inner = [self.indices[i] for i in indices]
        if hasattr(self.dataset, "__getitems__"):
            items: list[Any] = self.dataset.__getitems__(inner)
            return items
        return [self.dataset[i] for i in inner]

    def take_batch(self, indices: Sequence[int]) -> Any:
        """A whole batch, if the data set below can give one, else None."""
        below = getattr(self.dataset, "take_batch", None)
        if type(self).__getitems__ is not Subset.__getitems__:
            return None
        return None if below is None else below([self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class StackDataset(Dataset[Any]):
    """Data sets of equal length side by side: item i is a tuple of their items i, or for keywords a
    dict.

    Raises:
        ValueError: none is given, both forms are, or the lengths differ.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like "
                "input/output, but both types are given."
            )
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets: tuple[Any, ...] | dict[str, Any] = args or kwargs
        members = self._members()
        self._length = len(members[0])
        if any(len(dataset) != self._length for dataset in members):
            raise ValueError("Size mismatch between datasets")

    def _members(self) -> list[Any]:
        datasets = self.datasets
        return list(datasets.values() if isinstance(datasets, dict) else datasets)

    def _together(self, items: Iterable[Any]) -> Any:
        if isinstance(self.datasets, dict):
            return dict(zip(self.datasets, items, strict=True))
        return tuple(items)

    def __getitem__(self, index: Any) -> Any:
        return self._together([dataset[index] for dataset in self._members()])

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        columns = []
        for dataset in self._members():
            if callable(getattr(dataset, "__getitems__", None)):
                items = dataset.__getitems__(indices)
                if len(items) != len(indices):
                    raise ValueError(
                        "Nested dataset's output size mismatch. "
                        f"Expected {len(indices)}, got {len(items)}"
                    )
            else:
                items = [dataset[index] for index in indices]
            columns.append(items)
        return [self._together(row) for row in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Any]):
    """Data sets one after the other.

    Raises:
        AssertionError: there are none, or one has no length.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        """How many examples there are up to each data set's end."""
        return list(itertools.accumulate(map(len, sequence)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            if index < 0:
                raise ValueError("absolute value of index should not exceed dataset length")
            raise IndexError(f"index {index} is out of range for {len(self)} examples")
        which = bisect.bisect_right(self.cumulative_sizes, at)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][at - before]


class ChainDataset(IterableDataset[Any]):
    """Iterable data sets one after the other.

    Raises:
        AssertionError: when it comes to one that is none.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def _checked(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            yield dataset

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._checked())

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self._checked())


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset]:
    """Split at random into parts that do not overlap.

    Args:
        lengths: of the parts, or fractions that sum to 1 (what is left over goes to the first
            parts, one each).

    Raises:
        ValueError: the lengths do not add up.
    """
    total = len(dataset)
    sizes: list[Any] = list(lengths)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {i} is not between 0 and 1")
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if size == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.",
                    stacklevel=2,
                )
    if sum(sizes) != total:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = randperm(total, generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
