"""What averages parameters every few steps."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from braze.distributed.algorithms.model_averaging.utils import (
    average_parameters_or_parameter_groups,
)
from braze.distributed.groups import require_world


class ModelAverager(ABC):
    """What averages parameters after each step of an optimizer, or after some.

    Args:
        process_group: the ranks; None: all.

    Attributes:
        step: how many steps there were.
    """

    def __init__(self, process_group: Any = None) -> None:
        world = require_world()
        self.process_group = world if process_group is None else process_group
        self.step = 0

    @abstractmethod
    def average_parameters(self, params: Iterable[Any]) -> None:
        """Count a step, and average the parameters if it is time.

        Args:
            params: a model's parameters, or an optimizer's groups.
        """


class PeriodicModelAverager(ModelAverager):
    """Averages parameters in every `period`-th step, in the first one after the warm-up, too.

    Args:
        period: 1 would be `DistributedDataParallel` at the same cost.
        warmup_steps: so many steps at first leave them as they are, while gradients are averaged.
        process_group: the ranks; None: all.

    Raises:
        ValueError: fewer than 0 steps, or a period below 1.
    """

    def __init__(self, period: int, warmup_steps: int = 0, process_group: Any = None) -> None:
        super().__init__(process_group)
        check_warmup(warmup_steps)
        self.warmup_steps = warmup_steps
        if period < 1:
            raise ValueError("Arg ``period`` must be a positive value.")
        if period == 1:
            warn_of_each_step("period is 1")
        self.period = period

    def average_parameters(self, params: Iterable[Any]) -> None:
        since = self.step - self.warmup_steps
        if since >= 0 and since % self.period == 0:
            average_parameters_or_parameter_groups(params, self.process_group)
        self.step += 1


def check_warmup(steps: int) -> None:
    """Raises: ValueError for a negative number."""
    if steps < 0:
        raise ValueError("Arg ``warmup_steps`` must be a non-negative number.")


def warn_of_each_step(what: str) -> None:
    """Parameters are averaged in each step."""
    warnings.warn(
        f"When {what}, no need to use model averaging because the communication cost of "
        "all-reducing parameters will be no less than the cost of all-reducing gradients by "
        "DistributedDataParallel in the backward pass. Therefore, only DistributedDataParallel "
        "should be used for this case.",
        stacklevel=3,
    )
