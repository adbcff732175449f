"""The processes that collectives are of: what the interpreter and compiled code call.

In: NumPy arrays.  Out: tickets, and results for tickets. The runtime puts an environment here that
knows the other processes; without one, a process is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Result = TypeVar("Result")

KINDS = ("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter")
# Of these the result is as large as what is given.
WHOLE = ("all_reduce", "reduce", "broadcast")


class DeviceArray(Protocol):
    """Elements side by side in memory of a GPU."""

    @property
    def address(self) -> int: ...

    def copy_to(self, target: DeviceArray) -> None:
        """Enqueue a copy of all bytes on the current stream."""
        ...


class Environment(Protocol):
    """The processes, as one of them reaches them."""

    def start(
        self,
        xs: Sequence[Array],
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
        in_place: bool = False,
        is_copy: bool = False,
    ) -> int:
        """Begin a collective of the elements of `xs`, which are copied; its ticket.

        Args:
            in_place: nobody else uses their memory until the result has been waited for, if they
                lie one behind the other. So it may be the result's, too.
            is_copy: the only one of `xs` is a copy, flat, which is the collective's for good.
        """
        ...

    def wait(self, ticket: int) -> Array:
        """The result, flat."""
        ...

    def leave_memory(self) -> bool:
        """The graph that runs ends early: its memory is needed for others. Whether it is not to be
        had, since other processes use it still."""
        ...

    def ranks(self, group: int) -> int:
        """How many processes a group has."""
        ...

    def enqueue(
        self,
        given: DeviceArray,
        kept: DeviceArray,
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
    ) -> int:
        """Enqueue a collective behind what the current stream has to do, beside what it is given
        later; its ticket.

        Args:
            given: must stay as it is until the result has been waited for.
            kept: the result's memory, which nobody else uses until then.
        """
        ...

    def order(self, ticket: int) -> DeviceArray:
        """Have what comes next on the current stream wait for the result; where it is."""
        ...

    def notice(self) -> None:
        """Tell who looks on of the collectives of GPUs that are complete."""
        ...


def taken(results: dict[int, Result], ticket: int) -> Result:
    """What waits under a ticket, which is asked for once.  Raises: RuntimeError if nothing does."""
    if ticket not in results:
        raise RuntimeError(f"[collective_wait] there is no result for ticket {ticket}")
    return results.pop(ticket)


class Alone:
    """One process, which is rank 0 of every group: each kind gives its operands."""

    def __init__(self) -> None:
        self._results: dict[int, Array] = {}
        self._on_devices: dict[int, DeviceArray] = {}
        self._tickets = 0

    def start(
        self,
        xs: Sequence[Array],
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
        in_place: bool = False,
        is_copy: bool = False,
    ) -> int:
        self._tickets += 1
        self._results[self._tickets] = np.concatenate([x.reshape(-1) for x in xs])
        return self._tickets

    def wait(self, ticket: int) -> Array:
        return taken(self._results, ticket)

    def leave_memory(self) -> bool:
        """Results have memory of their own."""
        return False

    def ranks(self, group: int) -> int:
        return 1

    def enqueue(
        self,
        given: DeviceArray,
        kept: DeviceArray,
        *,
        kind: str,
        reduction: str,
        group: int,
        root: int,
    ) -> int:
        self._tickets += 1
        if kept.address != given.address:
            given.copy_to(kept)
        self._on_devices[self._tickets] = kept
        return self._tickets

    def order(self, ticket: int) -> DeviceArray:
        return taken(self._on_devices, ticket)

    def notice(self) -> None:
        """There are none."""


class _Current:
    environment: Environment = Alone()


def current() -> Environment:
    """The processes there are."""
    return _Current.environment


def use(environment: Environment) -> None:
    """From now on these are the processes there are."""
    _Current.environment = environment
