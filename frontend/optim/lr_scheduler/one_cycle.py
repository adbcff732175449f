"""The one-cycle schedule: up and down once over a whole training."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

from braze.optim.lr_scheduler.base import (
    CycledMomentum,
    LRScheduler,
    check_optimizer,
    for_each_group,
)
from braze.optim.optimizer import Optimizer


class OneCycleLR(CycledMomentum, LRScheduler):
    """Up to `max_lr` and down to almost nothing in one cycle of steps (not epochs): step it after
    every batch.

    Smith and Topin, "Super-convergence", arXiv 1708.07120. Momentum (or Adam's first beta) moves
    the other way.

    Args:
        total_steps: or `epochs` and `steps_per_epoch`.
        pct_start: part of the cycle in which the learning rate rises.
        anneal_strategy: "cos" or "linear".
        div_factor: the first learning rate is max_lr / div_factor.
        final_div_factor: the last one is the first / final_div_factor.
        three_phase: come down to the first one symmetrically, and only then to the last.

    Raises:
        ValueError: a setting is out of range, or more steps than the cycle has.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._schedule_phases = _phases(
            float(pct_start * self.total_steps), self.total_steps, three_phase
        )
        tops = for_each_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, top in zip(optimizer.param_groups, tops, strict=True):
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch == -1)
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is "
                f"{self.total_steps}"
            )
        ends = [phase["end_step"] for phase in self._schedule_phases]
        now = min(bisect_left(ends, self.last_epoch), len(ends) - 1)
        begin = ends[now - 1] if now else 0.0
        phase = self._schedule_phases[now]
        part = (self.last_epoch - begin) / (phase["end_step"] - begin)
        rates = []
        for group in self.optimizer.param_groups:
            first, last = (group[phase[name]] for name in ("start_lr", "end_lr"))
            rates.append(self._between(first, last, part))
            if self.cycle_momentum:
                first, last = (group[phase[name]] for name in ("start_momentum", "end_momentum"))
                self._set_momentum(group, self._between(first, last, part))
        return rates


Phase = dict[str, Any]


def _phases(rise: float, total: int, three: bool) -> list[Phase]:
    """Of each phase the last step, and the names of what the learning rate and the momentum go
    from and to, as PyTorch's state dicts have them.
    """

    def phase(end: float, rates: tuple[str, str], momenta: tuple[str, str]) -> Phase:
        return {
            "end_step": end,
            "start_lr": rates[0],
            "end_lr": rates[1],
            "start_momentum": momenta[0],
            "end_momentum": momenta[1],
        }

    down, up = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
    first = phase(rise - 1, ("initial_lr", "max_lr"), down)
    if not three:
        return [first, phase(total - 1, ("max_lr", "min_lr"), up)]
    return [
        first,
        phase(2 * rise - 2, ("max_lr", "initial_lr"), up),
        phase(total - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum")),
    ]


def _total_steps(total: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total is not None:
        if not isinstance(total, int) or total <= 0:
            raise ValueError(f"Expected positive integer total_steps, but got {total}")
        return total
    if epochs is None or steps_per_epoch is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"Expected positive integer {name}, but got {value}")
    return epochs * steps_per_epoch
