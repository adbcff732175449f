"""What `iter(loader)` gives: batches fetched in this process, or by workers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from braze import cuda
from braze.capture import flush
from braze.random import default_generator
from braze.utils.data.collate import pinned
from braze.utils.data.workers import Round, WorkerPool

if TYPE_CHECKING:
    from braze.utils.data.dataloader import DataLoader


class LoaderIterator:
    """One round over a data set. Each batch ends an iteration of the program: a sync point.

    Attributes:
        process: whose iterator it is; a forked process has no part in its workers.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self.process = os.getpid()
        self._given = 0
        self._begin()

    def _begin(self) -> None:
        self._pins = self._loader.pin_memory and cuda.is_available()
        if self._loader.pin_memory and not self._pins:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device "
                "pinned memory won't be used.",
                stacklevel=4,
            )

    def __iter__(self) -> Self:
        return self

    def __len__(self) -> int:
        return len(self._loader._order)

    def _next(self) -> Any:
        raise NotImplementedError

    def __next__(self) -> Any:
        flush()
        batch = self._next()
        if self._pins:
            batch = pinned(batch)
        self._given += 1
        told = self._loader._length_told
        if told is not None and self._loader._iterable and self._given > told:
            text = (
                f"Length of IterableDataset {self._loader.dataset} was reported to be {told} (when "
                f"accessing len(dataloader)), but {self._given} samples have been fetched. "
            )
            if self._loader.num_workers:
                text += (
                    "For multiprocessing data-loading, this could be caused by not properly "
                    "configuring the IterableDataset replica at each worker; each should take its "
                    "share, as get_worker_info() tells it."
                )
            warnings.warn(text, stacklevel=2)
        return batch

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


class HereIterator(LoaderIterator):
    """Batches prepared in this process."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self._fetch = loader._plan().start()
        self._indices: Iterator[Any] = iter(loader._order)

    def _next(self) -> Any:
        return self._fetch(next(self._indices))


class WorkersIterator(LoaderIterator):
    """Batches prepared by workers."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        if not loader.prefetch_factor:
            raise AssertionError("prefetch_factor must be greater than 0 where there are workers")
        self._pool = WorkerPool(
            loader._plan(),
            loader.num_workers,
            loader.timeout,
            loader.worker_init_fn,
            loader.multiprocessing_context,
        )
        self._ahead = loader.prefetch_factor
        self._rounds = 0
        self._round = self._new_round(loader)

    def _new_round(self, loader: DataLoader) -> Round:
        self._rounds += 1
        source = default_generator if loader.generator is None else loader.generator
        seed, offset = source.advance(8)
        return Round(
            self._pool,
            iter(loader._order),
            self._rounds,
            (seed + offset) % (1 << 63),
            self._ahead,
            loader.in_order,
        )

    def restart(self, loader: DataLoader) -> None:
        """Begin another round with the same workers; what is left of the last is dropped."""
        self._given = 0
        self._begin()
        self._round = self._new_round(loader)

    def _next(self) -> Any:
        try:
            return self._round.next()
        except StopIteration:
            if not self._loader.persistent_workers:
                self._pool.close()
            raise
