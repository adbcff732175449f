"""What averages parameters among few ranks often, and among many seldom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from braze.distributed.algorithms.model_averaging.averagers import (
    ModelAverager,
    check_warmup,
    warn_of_each_step,
)
from braze.distributed.algorithms.model_averaging.utils import (
    average_parameters_or_parameter_groups,
)
from braze.distributed.groups import get_world_size
from braze.distributed.subgroups import new_subgroups


class HierarchicalModelAverager(ModelAverager):
    """Averages parameters in steps that divide by one of several periods, among groups whose size
    is that of the longest such period.

    Args:
        period_group_size_dict: for each period, in ascending order, how many ranks average their
            parameters; all of them with the last.
        warmup_steps: so many steps at first leave them as they are.
        process_group: the ranks; None: all.

    Raises:
        ValueError: there is no period, or one below 1; the last size is not the group's, or one
            does not divide it; fewer than 0 steps.
    """

    def __init__(
        self,
        period_group_size_dict: Mapping[int, int] | None = None,
        warmup_steps: int = 0,
        process_group: Any = None,
    ) -> None:
        super().__init__(process_group)
        if not period_group_size_dict:
            raise ValueError("Arg ``period_group_size_dict`` must not be empty.")
        check_warmup(warmup_steps)
        self.warmup_steps = warmup_steps
        self._periods = list(period_group_size_dict)
        if self._periods[0] <= 0:
            raise ValueError(
                "The minimum period in arg ``period_group_size_dict`` must be a positive value."
            )
        if self._periods != sorted(self._periods):
            raise ValueError(
                "The periods in arg ``period_group_size_dict`` must be in ascending order, given "
                f"{self._periods}"
            )
        if self._periods[-1] == 1:
            warn_of_each_step("the maximum period in arg ``period_group_size_dict`` is 1")
        size = get_world_size(self.process_group)
        last = period_group_size_dict[self._periods[-1]]
        if last != size:
            raise ValueError(
                f"The last value in arg ``period_group_size_dict`` {last} must be equal to the "
                f"size of arg ``process_group`` {size}."
            )
        self.period_process_group_dict: dict[int, Any] = {}
        for period, count in period_group_size_dict.items():
            group = self.process_group
            if count != size:
                group, _ = new_subgroups(count, group)
            self.period_process_group_dict[period] = group

    def average_parameters(self, params: Iterable[Any]) -> None:
        due = [period for period in self._periods if self.step % period == 0]
        if self.step >= self.warmup_steps and due:
            group = self.period_process_group_dict[due[-1]]
            average_parameters_or_parameter_groups(params, group)
        self.step += 1
