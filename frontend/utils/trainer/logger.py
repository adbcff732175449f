"""What shows the statistics of monitors: lines, or a bar that fills."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from braze.utils.trainer.monitors import Plugin, Trigger


class Logger(Plugin):
    """Prints fields of `trainer.stats` as lines, `loss: 0.1234 (0.2345)`, and a summary of each
    epoch.

    Args:
        fields: names of statistics, such as "loss"; "loss.running_avg" is one number of it.
        interval: as `Plugin`; every iteration and every epoch by default.
    """

    separator = "#" * 80

    def __init__(self, fields: list[str], interval: list[Trigger] | None = None) -> None:
        super().__init__([(1, "iteration"), (1, "epoch")] if interval is None else interval)
        self.fields = [field.split(".") for field in fields]

    def log(self, msg: str) -> None:
        """Show a line; subclasses may write it elsewhere."""
        print(msg)

    def register(self, trainer: Any) -> None:
        self.trainer = trainer

    def iteration(self, *args: Any) -> None:
        """Print what changes with every iteration."""
        self._log_all("log_iter_fields")

    def epoch(self, epoch_idx: int) -> None:
        """Print what belongs to an epoch."""
        self._log_all("log_epoch_fields", f"{self.separator}\nEpoch summary:", self.separator)

    def _log_all(self, kind: str, before: str | None = None, after: str | None = None) -> None:
        shown = [text for field in self.fields if (text := self._shown(field, kind))]
        for line in (before, "\t".join(shown), after):
            if line is not None:
                self.log(line)

    def _shown(self, field: list[str], kind: str) -> str:
        found: Any = self.trainer.stats
        for name in field:
            if name not in found:
                raise KeyError(
                    f"Logger has no statistic {'.'.join(field)!r}; there are: "
                    f"{', '.join(map(str, found)) or 'none'}"
                )
            found = found[name]
        if not isinstance(found, dict):
            one = kind == "log_iter_fields"
            return f"{'.'.join(field)}: {found}" if one else ""
        forms = found.get(kind)
        return f"{'.'.join(field)}: {''.join(forms).format(**found)}" if forms else ""


class ProgressBar(Plugin):
    """A bar for each epoch, with the running loss and the speed.

    Args:
        width: of the bar, in characters.
        every: seconds between redrawings.
        file: where to; standard error by default. Where that is no terminal, an epoch is one line.
    """

    def __init__(self, width: int = 30, every: float = 0.1, file: TextIO | None = None) -> None:
        super().__init__([(1, "iteration"), (1, "epoch")])
        self.width = width
        self.every = every
        self.file = sys.stderr if file is None else file
        self._drawn = self._began = time.perf_counter()
        self._first = 0

    def register(self, trainer: Any) -> None:
        self.trainer = trainer

    def iteration(self, iteration: int, input: Any, target: Any, output: Any, loss: Any) -> None:
        """Redraw the bar, if it is time to."""
        now = time.perf_counter()
        if self.file.isatty() and now - self._drawn >= self.every:
            self._drawn = now
            self.file.write("\r" + self._line(loss) + "\x1b[K")
            self.file.flush()

    def epoch(self, idx: int) -> None:
        """End the line."""
        start = "\r" if self.file.isatty() else ""
        self.file.write(f"{start}{self._line(None)}\n")
        self.file.flush()
        self._began, self._first = time.perf_counter(), self.trainer.iterations

    def _line(self, loss: Any) -> str:
        trainer = self.trainer
        done, size = trainer.batches, trainer.batches_in_epoch()
        if loss is None:
            done = size = size or trainer.iterations - self._first
        bar = "#" * (self.width * done // size) if size else ""
        passed = max(time.perf_counter() - self._began, 1e-9)
        speed = (trainer.iterations - self._first) / passed
        known = trainer.stats.get("loss", {}).get("running_avg")
        value = loss.item() if known is None and loss is not None else known
        text = "" if value is None else f" loss {value:.4f}"
        # (Behind an epoch its number counts it already.)
        epoch = trainer.epoch + (loss is not None)
        of = f"/{size}" if size else ""
        return f"epoch {epoch} [{bar:<{self.width}}] {done}{of}{text} {speed:.1f}/s"
