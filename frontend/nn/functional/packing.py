"""Where the elements of packed sequences lie: index arrays, worked out with NumPy.

Sequences of different lengths, longest first, are packed step by step: all first elements, then all
second ones, and so on. `batch_sizes` says how many sequences there are at each step. It is always
known, so that no shape ever waits for a value; indices and masks are data of a graph, which is the
same for all lengths of equal sum and maximum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from braze.placing import array_on
from braze.tensors import Tensor

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Packing:
    """The lengths of a batch of packed sequences, and the device of their elements, where index
    tensors are."""

    batch_sizes: Array
    place: str = "cpu"

    @property
    def steps(self) -> int:
        return len(self.batch_sizes)

    @property
    def batch(self) -> int:
        return int(self.batch_sizes[0])

    @functools.cached_property
    def lengths(self) -> Array:
        """Of each sequence."""
        return np.count_nonzero(self.batch_sizes[:, None] > np.arange(self.batch), axis=0)

    @property
    def is_full(self) -> bool:
        """Are all sequences equally long?"""
        return bool(self.batch_sizes[-1] == self.batch)

    @functools.cached_property
    def _starts(self) -> Array:
        return np.cumsum(self.batch_sizes) - self.batch_sizes

    @functools.cached_property
    def places(self) -> tuple[Array, Array]:
        """The step and the sequence of each packed element."""
        steps = np.repeat(np.arange(self.steps), self.batch_sizes)
        return steps, np.arange(len(steps)) - self._starts[steps]

    def padded(self, steps: int) -> tuple[Array, Array]:
        """For each step and sequence where the element is packed, and whether there is one."""
        times = np.arange(steps)[:, None]
        inside = times < self.lengths
        starts = np.zeros(steps, np.int64)
        starts[: self.steps] = self._starts
        return np.where(inside, starts[:, None] + np.arange(self.batch), 0), inside

    @functools.cached_property
    def forward_rows(self) -> tuple[Tensor, Tensor]:
        """Rows to take for a run in which every sequence begins with its first element.

        Returns:
            Of the packed elements, one for each step and sequence (any where there is none); of
            the results of all steps and sequences, one for each packed element.
        """
        steps, sequences = self.places
        packed = self.padded(self.steps)[0]
        back = steps * self.batch + sequences
        return as_index(packed, self.place), as_index(back, self.place)

    @functools.cached_property
    def backward_rows(self) -> tuple[Tensor, Tensor]:
        """As `forward_rows`, for a run in which every sequence begins with its last element."""
        steps, sequences = self.places
        times = self.lengths - 1 - np.arange(self.steps)[:, None]
        inside = times >= 0
        packed = np.where(inside, self._starts[times * inside] + np.arange(self.batch), 0)
        back = (self.lengths[sequences] - 1 - steps) * self.batch + sequences
        return as_index(packed, self.place), as_index(back, self.place)

    @functools.cached_property
    def last_rows(self) -> Tensor:
        """Of the results of all steps and sequences, each sequence's last one in the run."""
        return as_index((self.lengths - 1) * self.batch + np.arange(self.batch), self.place)


def as_index(rows: Array, place: str) -> Tensor:
    """The numbers of rows as a tensor on a device."""
    return array_on(place, np.ascontiguousarray(rows.reshape(-1), np.int64))

