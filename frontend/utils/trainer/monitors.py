"""What watches a `Trainer`: plugins, and the monitors that keep statistics.

A plugin names the events that it wants, each with an interval, and has a method for each of them:
`batch`, `iteration`, `update` or `epoch`. The names and formats are PyTorch 0.4's.
"""

from __future__ import annotations

import time
from typing import Any

Trigger = tuple[int, str]


class Plugin:
    """Something that a trainer calls.

    Args:
        interval: [(every how many, event), ...]; every epoch by default.

    Subclasses define `register(trainer)` and, of these, what they asked for:
        batch(time, input, target)                  before a batch is used
        iteration(time, input, target, output, loss)  after it
        update(time, model)                         after that
        epoch(time)                                 after each epoch
    """

    def __init__(self, interval: list[Trigger] | None = None) -> None:
        self.trigger_interval: list[Trigger] = [(1, "epoch")] if interval is None else interval

    def register(self, trainer: Any) -> None:
        """Called once, when the plugin is added."""
        raise NotImplementedError


class Monitor(Plugin):
    """Keeps a number's last value, running average and average over the epoch in
    `trainer.stats[stat_name]`, with the formats in which `Logger` shows them.

    Args:
        running_average: keep the running average, which starts at 0. epoch_average: keep the
            epoch's average.
        smoothing: the share of the old running average in the new one.
        precision: digits after the point; 4 by default. number_format: in place of it, as ".4f".
        unit: written behind the number.
    """

    stat_name: str

    def __init__(
        self,
        running_average: bool = True,
        epoch_average: bool = True,
        smoothing: float = 0.7,
        precision: int | None = None,
        number_format: str | None = None,
        unit: str = "",
    ) -> None:
        super().__init__([(1, "iteration"), (1, "epoch")])
        digits = 4 if precision is None else precision
        self.smoothing = smoothing
        self.with_running_average = running_average
        self.with_epoch_average = epoch_average
        self.log_unit = unit
        self.log_format = ":" + (f".{digits}f" if number_format is None else number_format)
        form = self.log_format + "}" + unit
        self.log_iter_fields = ["{last" + form]
        if running_average:
            self.log_iter_fields.append(" ({running_avg" + form + ")")
        self.log_epoch_fields = ["{epoch_mean" + form] if epoch_average else None

    def register(self, trainer: Any) -> None:
        self.trainer = trainer
        stats = trainer.stats.setdefault(self.stat_name, {})
        stats["log_format"] = self.log_format
        stats["log_unit"] = self.log_unit
        stats["log_iter_fields"] = self.log_iter_fields
        if self.with_epoch_average:
            stats["log_epoch_fields"] = self.log_epoch_fields
            stats["epoch_stats"] = (0, 0)

    def _get_value(self, *args: Any) -> Any:
        """The number of one iteration; given what `iteration` is."""
        raise NotImplementedError

    def iteration(self, *args: Any) -> None:
        """Take in one iteration."""
        stats = self.trainer.stats[self.stat_name]
        value = stats["last"] = self._get_value(*args)
        if self.with_epoch_average:
            total, count = stats["epoch_stats"]
            stats["epoch_stats"] = (total + value, count + 1)
        if self.with_running_average:
            before = stats.get("running_avg", 0)
            stats["running_avg"] = before * self.smoothing + value * (1 - self.smoothing)

    def epoch(self, idx: int) -> None:
        """End the epoch's average."""
        if self.with_epoch_average:
            stats = self.trainer.stats[self.stat_name]
            total, count = stats["epoch_stats"]
            stats["epoch_mean"] = total / count if count else 0.0
            stats["epoch_stats"] = (0, 0)


class LossMonitor(Monitor):
    """The loss; reading it is a sync point in every iteration."""

    stat_name = "loss"

    def _get_value(self, iteration: int, input: Any, target: Any, output: Any, loss: Any) -> float:
        return float(loss.item())


class AccuracyMonitor(Monitor):
    """Percent of examples whose largest output is the target's class."""

    stat_name = "accuracy"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("unit", "%")
        kwargs.setdefault("precision", 2)
        super().__init__(*args, **kwargs)

    def _get_value(self, iteration: int, input: Any, target: Any, output: Any, loss: Any) -> float:
        right = output.max(1)[1].eq(target).sum().item()
        return 100.0 * float(right) / int(target.numel())


class TimeMonitor(Monitor):
    """Milliseconds between the ends of iterations."""

    stat_name = "time"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("unit", "ms")
        kwargs.setdefault("precision", 0)
        super().__init__(*args, **kwargs)
        self.last_time: float | None = None

    def _get_value(self, *args: Any) -> float:
        now = time.perf_counter()
        passed = 0.0 if self.last_time is None else 1000.0 * (now - self.last_time)
        self.last_time = now
        return passed


class ProgressMonitor(Plugin):
    """How many batches of the epoch were used, in `trainer.stats["progress"]`."""

    stat_name = "progress"

    def __init__(self) -> None:
        super().__init__([(1, "iteration"), (1, "epoch")])

    def register(self, trainer: Any) -> None:
        self.trainer = trainer
        stats = trainer.stats.setdefault(self.stat_name, {})
        stats["samples_used"], stats["percent"] = 0, 0.0
        stats["epoch_size"] = len(trainer.dataset)
        stats["log_iter_fields"] = ["{samples_used}/{epoch_size} ({percent:.2f}%)"]

    def iteration(self, *args: Any) -> None:
        """Count a batch."""
        stats = self.trainer.stats[self.stat_name]
        stats["samples_used"] += 1
        stats["percent"] = 100.0 * stats["samples_used"] / stats["epoch_size"]

    def epoch(self, *args: Any) -> None:
        """Begin at none."""
        stats = self.trainer.stats[self.stat_name]
        stats["samples_used"], stats["percent"] = 0, 0
