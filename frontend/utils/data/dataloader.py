"""The loader: goes over a data set in batches, in this process or with others that prepare them
ahead.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.context import BaseContext
from types import GenericAlias
from typing import Any

from braze.random import Generator
from braze.utils.data.collate import default_collate, default_convert
from braze.utils.data.dataset import IterableDataset
from braze.utils.data.fetch import FetchPlan
from braze.utils.data.iterators import HereIterator, LoaderIterator, WorkersIterator
from braze.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

_FIXED = frozenset(
    {"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"}
)


class DataLoader:
    """Iterate over batches of a data set.

    Getting the next batch is a sync point: what the last iteration captured runs first, if it has
    not yet. Batches from workers come through shared memory, which is used again once nothing
    refers to them.

    Args:
        dataset: with `__getitem__` and `__len__`, or an `IterableDataset`.
        batch_size: examples a batch; None gives single examples.
        shuffle: visit them in a new random order each time.
        sampler, batch_sampler: the order, or the batches, in place of `shuffle` and the other
            settings.
        num_workers: processes that prepare batches ahead; 0 prepares them here.
        collate_fn: makes a batch of a list of examples; `default_collate` by default, and
            `default_convert` for single examples.
        pin_memory: copy each batch into memory that a GPU reads directly, so that
            ``to("cuda", non_blocking=True)`` need not wait; without a GPU, a warning. What is no
            container and no tensor is asked for its method `pin_memory`.
        drop_last: leave out a last batch that is too small.
        timeout: seconds to wait for a worker; 0 for ever.
        worker_init_fn: called in each worker with its number.
        multiprocessing_context: how workers are started: "fork", "spawn", "forkserver" or a
            context; by default as `multiprocessing.set_start_method` says.
        generator: of `shuffle` and of the workers' seeds.
        prefetch_factor: batches that each worker prepares ahead; 2 by default.
        persistent_workers: keep the workers for the next time.
        in_order: False gives the batches of workers as they are ready.

    Raises:
        ValueError: settings that exclude each other or are out of range.
        TypeError: multiprocessing_context is neither a name nor a context.
    """

    _settled = False
    __class_getitem__: Any = classmethod(GenericAlias)

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
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        if num_workers and prefetch_factor is None:
            self.prefetch_factor = 2
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
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
        self.collate_fn = collate_fn or (
            default_convert if batch_sampler is None else default_collate
        )
        self.persistent_workers = persistent_workers
        self._iterator: WorkersIterator | None = None
        self._length_told: int | None = None  # of an iterable data set, if it was asked for
        self._settled = True
        _warn_of_many_workers(num_workers)

    def _default_sampler(self, shuffle: bool) -> Iterable[Any]:
        if self._iterable:
            return itertools.repeat(None)
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)
        return SequentialSampler(self.dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._settled and name in _FIXED:
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            )
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> BaseContext | None:
        """How workers are started.

        Raises:
            ValueError: there is no such way, or there are no workers. TypeError: it is no context.
        """
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            if not self.num_workers:
                raise ValueError(
                    "multiprocessing_context can only be used with multi-process loading "
                    f"(num_workers > 0), but got num_workers={self.num_workers}"
                )
            if isinstance(context, str):
                known = multiprocessing.get_all_start_methods()
                if context not in known:
                    raise ValueError(
                        "multiprocessing_context option should specify a valid start method in "
                        f"{known!r}, but got multiprocessing_context={context!r}"
                    )
                context = multiprocessing.get_context(context)
            if not isinstance(context, BaseContext):
                raise TypeError(
                    "multiprocessing_context option should be a valid context object or a string "
                    f"specifying the start method, but got multiprocessing_context={context}"
                )
        self._context: BaseContext | None = context

    @property
    def _order(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _plan(self) -> FetchPlan:
        batched = self.batch_sampler is not None
        return FetchPlan(self.dataset, self._iterable, batched, self.collate_fn, self.drop_last)

    def __iter__(self) -> LoaderIterator:
        if self.num_workers == 0:
            return HereIterator(self)
        if not self.persistent_workers:
            return WorkersIterator(self)
        if self._iterator is None or self._iterator.process != os.getpid():
            self._iterator = WorkersIterator(self)
        else:
            self._iterator.restart(self)
        return self._iterator

    def __len__(self) -> int:
        """The number of batches.

        Raises:
            TypeError: the data set has no length.
        """
        if self._iterable:
            length = self._length_told = len(self.dataset)
            if self.batch_size is None:
                return length
            size = self.batch_size
            return length // size if self.drop_last else -(-length // size)
        return len(self._order)


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool
) -> None:
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
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


def _warn_of_many_workers(count: int) -> None:
    processors = len(os.sched_getaffinity(0))
    if count > processors:
        warnings.warn(
            f"This DataLoader will create {count} worker processes in total. Our suggested max "
            f"number of worker in current system is {processors}, which is smaller than what this "
            "DataLoader is going to create. Please be aware that excessive worker creation might "
            "get DataLoader running slow or even freeze, lower the worker number to avoid "
            "potential slowness/freeze if necessary.",
            stacklevel=3,
        )
