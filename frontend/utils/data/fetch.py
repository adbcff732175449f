"""From indices to a batch: what the loader does itself and what its worker processes do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from braze.utils.data.collate import default_collate


class MapFetcher:
    """Batches of a data set with indices.

    Args:
        batched: whether an index is a list of them, to be collated.
    """

    def __init__(self, dataset: Any, batched: bool, collate: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.batched = batched
        self.collate = collate
        whole = getattr(dataset, "take_batch", None)
        self.whole = whole if batched and collate is default_collate else None

    def __call__(self, index: Any) -> Any:
        if not self.batched:
            return self.collate(self.dataset[index])
        if self.whole is not None:
            batch = self.whole(index)
            if batch is not None:
                return batch
        if hasattr(self.dataset, "__getitems__"):
            return self.collate(self.dataset.__getitems__(index))
        return self.collate([self.dataset[i] for i in index])


class IterableFetcher:
    """Batches of a data set that only iterates; a list's length says how many examples to take.

    Raises:
        StopIteration: when called after the last batch.
    """

    def __init__(
        self, dataset: Any, batched: bool, collate: Callable[[Any], Any], drop_last: bool
    ) -> None:
        self.examples: Iterator[Any] = iter(dataset)
        self.batched = batched
        self.collate = collate
        self.drop_last = drop_last

    def __call__(self, index: Any) -> Any:
        if not self.batched:
            return self.collate(next(self.examples))
        batch = list(itertools.islice(self.examples, len(index)))
        if not batch or (self.drop_last and len(batch) < len(index)):
            raise StopIteration
        return self.collate(batch)


@dataclass(frozen=True)
class FetchPlan:
    """How a loader fetches; what a worker process is given."""

    dataset: Any
    iterable: bool
    batched: bool
    collate: Callable[[Any], Any]
    drop_last: bool

    def start(self) -> Callable[[Any], Any]:
        """A fetcher for one round over the data set."""
        if self.iterable:
            return IterableFetcher(self.dataset, self.batched, self.collate, self.drop_last)
        return MapFetcher(self.dataset, self.batched, self.collate)
