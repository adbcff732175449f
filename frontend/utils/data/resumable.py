"""A sampler that knows where it is, so that an interrupted epoch goes on with the next example."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from braze.random import Generator, default_generator
from braze.utils.data.sampler import RandomSampler, Sampler, SequentialSampler

# Counters of one epoch's order; more than any order draws.
_COUNTERS_PER_EPOCH = 1 << 40


class ResumableSampler(Sampler[Any]):
    """The order of another sampler, drawn anew for each epoch from a seed and the epoch's number.

    It counts what was *used*, not what was asked for: a loader's workers ask ahead. Whoever trains
    says so with `advance`, and what `state_dict` gives is where an epoch goes on.

    Args:
        source: a data set, or a sampler of indices or of batches. Its `generator`, or that of the
            sampler it is made from, is replaced; a sampler that draws from anything else cannot be
            resumed.
        shuffle: for a data set, a random order.
        seed: of the orders; one is drawn from `braze.default_generator` by default.

    Attributes:
        epoch: the present one's number. position: items used of it.

    Example:
        >>> sampler = ResumableSampler(range(4), seed=1)
        >>> order = list(sampler)
        >>> sampler.advance(3)
        >>> again = ResumableSampler(range(4))
        >>> again.load_state_dict(sampler.state_dict())
        >>> list(again) == order[3:]
        True
    """

    def __init__(self, source: Any, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(source, Sampler):
            source = RandomSampler(source) if shuffle else SequentialSampler(source)
        self.sampler: Iterable[Any] = source
        self.seed = default_generator.advance(1)[1] if seed is None else int(seed)
        self.epoch = 0
        self.position = 0
        self._generator = Generator()

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self._order()), self.position, None)

    def _order(self) -> list[Any]:
        mask = (1 << 64) - 1
        self._generator.position = (self.seed & mask, self.epoch * _COUNTERS_PER_EPOCH & mask)
        at: Any = self.sampler
        while at is not None:
            if hasattr(at, "generator"):
                at.generator = self._generator
            at = getattr(at, "sampler", None)
        return list(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def advance(self, items: int = 1) -> None:
        """Say that so many more items of this epoch were used."""
        self.position = min(self.position + items, len(self))

    def next_epoch(self) -> None:
        """Begin another epoch, with another order."""
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where another one was."""
        self.seed = int(state_dict["seed"])
        self.epoch = int(state_dict["epoch"])
        self.position = int(state_dict["position"])
