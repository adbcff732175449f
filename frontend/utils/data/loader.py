"""The loader: goes over a data set in batches, in this process or with others that prepare them
ahead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from braze.capture import flush
from braze.random import Generator, default_generator
from braze.utils.data.collate import default_collate, default_convert
from braze.utils.data.dataset import IterableDataset
from braze.utils.data.fetch import FetchPlan
from braze.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from braze.utils.data.workers import WorkerPool, get_worker_info


class DataLoader:
    """Iterate over batches of a data set.

    Getting the next batch is a sync point: what the last iteration captured runs first, if it has
        not yet.

    Args:
        dataset: with `__getitem__` and `__len__`, or an `IterableDataset`.
        batch_size: examples a batch; None gives single examples.
        shuffle: visit them in a new random order each time.
        sampler, batch_sampler: the order, or the batches, in place of `shuffle` and the other
            settings.
        num_workers: processes that prepare batches ahead; 0 prepares them here.
        collate_fn: makes a batch of a list of examples; `default_collate` by default.
        drop_last: leave out a last batch that is too small.
        timeout: seconds to wait for a worker; 0 for ever.
        worker_init_fn: called in each worker with its number.
        multiprocessing_context: how workers are started: "fork" (the default), "spawn",
            "forkserver" or a context.
        generator: of `shuffle` and of the workers' seeds.
        prefetch_factor: batches that each worker prepares ahead; 2 by default.
        persistent_workers: keep the workers for the next time.
        pin_memory: accepted; there is nothing to pin.

    Raises:
        ValueError: settings that exclude each other or are out of range.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.persistent_workers = persistent_workers
        self.generator = generator
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            _check_iterable(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, "
                    "and drop_last"
                )
            batch_size = None
            drop_last = False
        elif batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with "
                "drop_last"
            )
        if sampler is None:
            sampler = self._default_sampler(bool(shuffle))
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        batched = batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._pool: WorkerPool | None = None

    def _default_sampler(self, shuffle: bool) -> Iterable[Any]:
        if self._iterable:
            return itertools.repeat(None)
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)
        return SequentialSampler(self.dataset)

    def _plan(self) -> FetchPlan:
        batched = self.batch_sampler is not None
        return FetchPlan(self.dataset, self._iterable, batched, self.collate_fn, self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order: Iterable[Any] = self.sampler if self.batch_sampler is None else self.batch_sampler
        if self.num_workers == 0:
            return _Here(self._plan().start(), iter(order))
        pool = self._pool
        if pool is None:
            pool = WorkerPool(
                self._plan(),
                self.num_workers,
                self.prefetch_factor,
                self.timeout,
                self.worker_init_fn,
                self.multiprocessing_context,
            )
            if self.persistent_workers:
                self._pool = pool
        source = default_generator if self.generator is None else self.generator
        seed, offset = source.advance(8)
        return pool.run(iter(order), (seed + offset) % (1 << 63), close=not self.persistent_workers)

    def __len__(self) -> int:
        """The number of batches.

        Raises:
            TypeError: the data set has no length.
        """
        if self._iterable:
            length = len(self.dataset)
            if self.batch_size is None:
                return length
            size = self.batch_size
            return length // size if self.drop_last else -(-length // size)
        order: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return len(order)


class _Here:
    """Batches prepared in this process."""

    def __init__(self, fetch: Callable[[Any], Any], order: Iterator[Any]) -> None:
        self._fetch = fetch
        self._order = order

    def __iter__(self) -> _Here:
        return self

    def __next__(self) -> Any:
        flush()  # an iteration ends here
        return self._fetch(next(self._order))


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool
) -> None:
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if num_workers and get_worker_info() is not None:
        raise ValueError("a worker process cannot have workers of its own; use num_workers=0")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 "
            "to enable "
            "multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError("prefetch_factor option should be positive")
    if persistent and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_iterable(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    unwanted = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
    for name, value in unwanted.items():
        if value is not None:
            raise ValueError(
                f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                f"{name}={value}"
            )
