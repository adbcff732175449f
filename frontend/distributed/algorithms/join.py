"""Training on ranks with different numbers of batches, with PyTorch's names.

In: objects whose every iteration has collectives.  Out: a block, at whose end a rank goes on taking
part in the collectives of those that are not there yet.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from braze import distributed as dist
from braze.functions.creation import ones, zeros
from braze.sites import user_stacklevel

# After so many iterations that others are ahead, a rank says so.
_MANY = 1000


class JoinHook:
    """What a rank without further batches does for one object. Both do nothing by default."""

    def main_hook(self) -> None:
        """For each iteration of the ranks that have batches: the collectives that they call."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Once no rank has batches any more.

        Args:
            is_last_joiner: this rank is one of the last that had some.
        """


class _JoinConfig(NamedTuple):
    """What an object knows of the block that it is in."""

    enable: bool = False
    throw_on_early_termination: bool = False
    is_first_joinable: bool = False


class Joinable(ABC):
    """An object whose iterations have collectives that a `JoinHook` can take part in. It calls
    `Join.notify_join_context(self)` before the first of them."""

    @abstractmethod
    def __init__(self) -> None:
        super().__init__()
        self._join_config = _JoinConfig()

    @abstractmethod
    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What this rank does once it has no more batches.

        Args:
            kwargs: what `Join` was given; all objects of a block get the same.
        """

    @property
    @abstractmethod
    def join_device(self) -> Any:
        """Where the block's own collectives have their tensors."""

    @property
    @abstractmethod
    def join_process_group(self) -> Any:
        """The ranks."""


class Join:
    """A block in which ranks may have different numbers of batches: at its end each waits for the
    others, and meanwhile does what the objects' hooks say. Each iteration has a message more, and
    begins with a sync point.

    Args:
        joinables: the objects, of one process group; their hooks are called in this order.
        enable: False: a block that does nothing.
        throw_on_early_termination: raise a RuntimeError on all ranks as soon as one has no more
            batches.
        kwargs: for `Joinable.join_hook`.

    Raises:
        ValueError: there is no object, or they have different groups.

    Example:
        with Join([model, optimizer]):
            for x, y in loader:
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
    """

    def __init__(
        self,
        joinables: Sequence[Joinable],
        enable: bool = True,
        throw_on_early_termination: bool = False,
        **kwargs: Any,
    ) -> None:
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable")
        self._joinables = list(joinables)
        self._hooks = [joinable.join_hook(**kwargs) for joinable in self._joinables]
        self._enable = enable
        self._throw = throw_on_early_termination
        for number, joinable in enumerate(self._joinables):
            joinable._join_config = _JoinConfig(enable, throw_on_early_termination, number == 0)
        self._group = self._joinables[0].join_process_group
        if any(joinable.join_process_group != self._group for joinable in self._joinables):
            raise ValueError("Using join context manager with multiple process groups")
        self._rank = dist.get_rank(self._group)
        self._device = self._joinables[0].join_device

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take part until no rank has batches any more.

        Raises:
            RuntimeError: others have some, and `throw_on_early_termination`.
        """
        if not self._enable or type is not None:
            return
        iterations = 0
        while self._others():
            if self._throw:
                dist.all_reduce(ones(1, device=self._device), group=self._group)
                raise RuntimeError(f"Rank {self._rank} exhausted all inputs.")
            if iterations == _MANY:
                warnings.warn(
                    f"Detected uneven input skew of greater than {_MANY}. This means that rank "
                    f"{self._rank} has at least {_MANY} fewer inputs than other currently-active "
                    "ranks. This level of skew could lead to performance degradation during "
                    "training.",
                    stacklevel=user_stacklevel(),
                )
            for hook in self._hooks:
                hook.main_hook()
            iterations += 1
        for hook in self._hooks:
            hook.post_hook(iterations == 0)

    def _others(self) -> int:
        """How many ranks begin another iteration."""
        count = zeros(1, device=self._device)
        dist.all_reduce(count, group=self._group)
        return int(count.item())

    @staticmethod
    def notify_join_context(joinable: Joinable) -> dist.Work | None:
        """Tell ranks that have left the block that this one begins another iteration.

        Returns:
            For the first object of a block the work of it, whose result is the number of ranks that
            do so; else None.

        Raises:
            RuntimeError: a rank has no more batches, and `throw_on_early_termination`.
            AttributeError: the object's constructor does not call `Joinable.__init__`.
        """
        config = joinable._join_config
        if not config.is_first_joinable or not config.enable:
            return None
        device, group = joinable.join_device, joinable.join_process_group
        work: dist.Work | None = dist.all_reduce(ones(1, device=device), group=group, async_op=True)
        if config.throw_on_early_termination:
            ended = zeros(1, device=device)
            dist.all_reduce(ended, group=group)
            if ended.item():
                raise RuntimeError(
                    "Detected at least one rank that exhausted inputs. Throwing across all ranks."
                )
        return work
