"""A sampler by which several processes share out a data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized

from braze.random import Generator, randperm
from braze.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index from `rank` on, so that the processes' parts do not overlap.

    With `shuffle` all processes draw the same order, which depends on `seed` and on the epoch; call
    `set_epoch` before each. By default there are as many parts as ranks of the process group, and
    this rank's is taken. If the data set cannot be divided evenly, some indices are repeated,
    or with `drop_last` the last ones are left out.

    Raises:
        ValueError: the number of processes or the rank is not given, or the rank is out of range.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            from braze import distributed

            if not distributed.is_initialized():
                raise ValueError(
                    "there is no default process group to ask: give num_replicas and rank, or call "
                    "braze.distributed.init_process_group first"
                )
            num_replicas = distributed.get_world_size() if num_replicas is None else num_replicas
            rank = distributed.get_rank() if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]"
            )
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        examples = len(dataset)
        self.num_samples = examples // num_replicas if drop_last else -(-examples // num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        indices = list(range(len(self.dataset)))
        if self.shuffle:
            generator = Generator().manual_seed(self.seed + self.epoch)
            indices = randperm(len(indices), generator=generator).tolist()
        # Repeated from the start as often as it takes; cut short where some are left out.
        even = itertools.islice(itertools.cycle(indices), self.total_size)
        return iter(list(even)[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the random order depends."""
        self.epoch = epoch
