"""Random numbers on GPUs: each has a stream of its own. Seeding needs no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from braze.cuda.devices import device_at, device_count, index_of
from braze.functions.random_numbers import Generator, OfGpus
from braze.tensors import Tensor


def _stream(device: Any) -> Generator:
    return OfGpus.of(device_at(device).name)


def manual_seed(seed: int) -> None:
    """Restart the current GPU's stream from a seed; without a GPU, when there is one."""
    if device_count():
        _stream(None).manual_seed(int(seed))
    else:
        manual_seed_all(seed)


def manual_seed_all(seed: int) -> None:
    """Restart the streams of all GPUs from a seed."""
    OfGpus.manual_seed_all(int(seed))


def seed() -> None:
    """Restart the current GPU's stream from a random seed; without a GPU, when there is one."""
    manual_seed(int.from_bytes(os.urandom(8), "little"))


def seed_all() -> None:
    """Restart the streams of all GPUs from one random seed."""
    manual_seed_all(int.from_bytes(os.urandom(8), "little"))


def initial_seed() -> int:
    """The seed of the current GPU's stream.  Raises: RuntimeError, there is no GPU."""
    return _stream(None).initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of a GPU's stream.  Raises: RuntimeError, there is no such device."""
    return _stream(index_of(device)).get_state()


def get_rng_state_all() -> list[Tensor]:
    """The states of all GPUs' streams."""
    return [get_rng_state(i) for i in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Continue a GPU's stream from a state.  Raises: RuntimeError, there is no such device."""
    _stream(index_of(device)).set_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Continue all GPUs' streams from their states."""
    for i, state in enumerate(new_states):
        set_rng_state(state, i)
