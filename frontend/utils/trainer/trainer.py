"""The training loop: batches, plugins, checkpoints, and going on where a run was interrupted.

In: a model, a loss, an optimizer and batches.  Out: a trained model. A run that was killed goes on
from its last checkpoint with the very numbers that it would have had: model, optimizer, schedule,
random numbers, and the place in the data are all in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from braze import engine
from braze.utils.data.resumable import ResumableSampler
from braze.utils.trainer.checkpoints import Checkpoints, random_state, set_random_state
from braze.utils.trainer.monitors import Plugin, Trigger

EVENTS = ("iteration", "epoch", "batch", "update")


class _Function(Plugin):
    """A function in the place of a plugin."""

    def __init__(self, event: str, function: Callable[..., Any], every: int) -> None:
        super().__init__([(every, event)])
        setattr(self, event, function)

    def register(self, trainer: Any) -> None:
        pass


def _interval(plugin: Plugin, event: str) -> int:
    return next(every for every, name in _triggers(plugin) if name == event)


def _triggers(plugin: Plugin) -> list[Trigger]:
    """As a list also where a plugin has only one."""
    intervals = plugin.trigger_interval
    return intervals if isinstance(intervals, list) else [intervals]


class Trainer:
    """Trains a model; the first four arguments, and the plugins, are PyTorch 0.4's.

    Args:
        model: called with a batch's input. criterion: called with its output and the target; gives
            the loss.
        dataset: gives (input, target) pairs each time it is iterated over; a `DataLoader`.
        scheduler: stepped after every epoch or, with `schedule="iteration"`, every iteration.
        scaler: scales the loss: with `scale`, `step` and `update`.
        checkpoints: where and how often the run's state is written.
        generators: further random generators that the run draws from, by name.

    Attributes:
        iterations: updates so far. epoch: epochs that are over, of the present `run`.
        batches: of the present epoch, those that are done.
        stats: what monitors keep.

    With checkpoints and `braze.config.tier` "auto", the run compiles each graph at once, for its
    own sizes: a graph that is interpreted when first met rounds otherwise than compiled code, one
    for many sizes otherwise than one for a single size, and a run that is resumed meets it anew.
    What the program computes outside of `run`, its data for instance, is
    its own affair: set the tier to "compile" for that, too, if it must be the same each time.

    Example:
        >>> from braze import nn, optim, randn
        >>> model = nn.Linear(3, 1)
        >>> data = [(randn(4, 3), randn(4, 1))]
        >>> trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), data)
        >>> trainer.run(epochs=2)
        >>> trainer.iterations
        2
    """

    def __init__(
        self,
        model: Any = None,
        criterion: Any = None,
        optimizer: Any = None,
        dataset: Any = None,
        *,
        scheduler: Any = None,
        schedule: str = "epoch",
        scaler: Any = None,
        checkpoints: Checkpoints | None = None,
        generators: dict[str, Any] | None = None,
    ) -> None:
        if schedule not in ("epoch", "iteration"):
            raise ValueError(f'schedule must be "epoch" or "iteration", given {schedule!r}')
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.dataset = dataset
        self.scheduler = scheduler
        self.schedule = schedule
        self.scaler = scaler
        self.checkpoints = checkpoints
        self.generators = dict(generators or {})
        self.iterations = 0
        self.epoch = 0
        self.batches = 0
        self.stats: dict[str, dict[str, Any]] = {}
        self.plugin_queues: dict[str, list[Any]] = {event: [] for event in EVENTS}
        self._start: dict[str, Any] | None = None  # the random state before the epoch
        self._resumed: dict[str, Any] | None = None

    # Plugins --------------------------------------------------------------------------------------

    def register_plugin(self, plugin: Plugin) -> None:
        """Add a plugin; it is called at its intervals from now on."""
        plugin.register(self)
        for duration, event in _triggers(plugin):
            if event not in self.plugin_queues:
                raise ValueError(f"no event {event!r}; there are: {', '.join(EVENTS)}")
            queue = self.plugin_queues[event]
            heapq.heappush(queue, (duration, len(queue), plugin))

    def on(self, event: str, function: Callable[..., Any] | None = None, every: int = 1) -> Any:
        """Call a function at every so many events; also a decorator: `@trainer.on("epoch")`.

        It is given what a plugin's method of that name is.

        Raises:
            ValueError: no such event.
        """
        if function is None:
            return lambda given: self.on(event, given, every)
        self.register_plugin(_Function(event, function, every))
        return function

    def call_plugins(self, queue_name: str, time: int, *args: Any) -> None:
        """Call the plugins of an event whose time has come."""
        queue = self.plugin_queues[queue_name]
        while queue and queue[0][0] <= time:
            _, order, plugin = queue[0]
            getattr(plugin, queue_name)(time, *args)
            heapq.heapreplace(queue, (time + _interval(plugin, queue_name), order, plugin))

    def _align_plugins(self, event: str, time: int) -> None:
        """Let each plugin of an event be called next when it would have been, had it been there
        from time 0 on."""
        queue = self.plugin_queues[event]
        for i, (_, order, plugin) in enumerate(queue):
            every = _interval(plugin, event)
            queue[i] = ((time // every + 1) * every, order, plugin)
        heapq.heapify(queue)

    # Running --------------------------------------------------------------------------------------

    def run(self, epochs: int = 1, resume: bool = False) -> None:
        """Train for some epochs.

        Args:
            resume: go on from the newest checkpoint, if there is one; epochs that it has behind it
                count.
        """
        if resume:
            self.resume()
        if self.epoch == 0:
            self._align_plugins("epoch", 0)
        with engine.config.using(**self._settings()):
            for i in range(self.epoch + 1, epochs + 1):
                self.train()
                if self.scheduler is not None and self.schedule == "epoch":
                    self.scheduler.step()
                self.epoch = i
                self.call_plugins("epoch", i)
                self._write(self.checkpoints is not None)
        self.epoch = 0

    def _settings(self) -> dict[str, Any]:
        """What makes a resumed run compute the same bits."""
        if self.checkpoints is None or engine.config.tier != "auto":
            return {}
        return {"tier": "compile", "dynamic_shapes": False}

    def train(self) -> None:
        """Train for one epoch, or what is left of an interrupted one."""
        if hasattr(self.model, "train"):
            self.model.train()
        for input, target in self._data():
            at = self.iterations + 1
            self.call_plugins("batch", at, input, target)
            output, loss = self._step(input, target)
            self.iterations, self.batches = at, self.batches + 1
            self._advance()
            if self.scheduler is not None and self.schedule == "iteration":
                self.scheduler.step()
            self.call_plugins("iteration", at, input, target, output, loss)
            self.call_plugins("update", at, self.model)
            every = None if self.checkpoints is None else self.checkpoints.every
            self._write(every is not None and at % every == 0)
        self.batches = 0
        self._start = None
        sampler = self._sampler()
        if sampler is not None:
            sampler.next_epoch()

    def _step(self, input: Any, target: Any) -> tuple[Any, Any]:
        """One update; gives output and loss of the first evaluation."""
        seen: list[Any] = []

        def closure() -> Any:
            output = self.model(input)
            loss = self.criterion(output, target)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            if not seen:
                seen.extend((output.detach(), loss.detach()))
            return loss

        self.optimizer.zero_grad()
        if self.scaler is None:
            self.optimizer.step(closure)
        else:
            closure()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return seen[0], seen[1]

    def batches_in_epoch(self) -> int:
        """How many batches an epoch has; 0 if nobody knows."""
        try:
            return len(self.dataset)
        except TypeError:
            return 0

    # The place in the data ------------------------------------------------------------------------

    def _sampler(self) -> ResumableSampler | None:
        for name in ("batch_sampler", "sampler"):
            found = getattr(self.dataset, name, None)
            if isinstance(found, ResumableSampler):
                return found
        return None

    def _advance(self) -> None:
        sampler = self._sampler()
        if sampler is not None:
            whole = sampler is getattr(self.dataset, "batch_sampler", None)
            sampler.advance(1 if whole else self.dataset.batch_size or 1)

    def _data(self) -> Iterator[Any]:
        """The epoch's batches, or those that are left.

        Without a sampler that can be resumed, the batches that were used are fetched again and left
        out: from the random state before the epoch they come in the same order.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            self._start = self._random()
            yield from self.dataset
            return
        self._set_random(resumed["start"])
        self._start = resumed["start"]
        batches = iter(self.dataset)
        if self._sampler() is None:
            for _ in range(self.batches):
                next(batches, None)
        self._set_random(resumed["random"])
        yield from batches

    def _random(self) -> dict[str, Any]:
        named = dict(self.generators)
        own = getattr(self.dataset, "generator", None)
        if own is not None:
            named["dataset"] = own
        more = {name: generator.position for name, generator in named.items()}
        return {**random_state(), "generators": more}

    def _set_random(self, state: dict[str, Any]) -> None:
        set_random_state(state)
        named = {**self.generators, "dataset": getattr(self.dataset, "generator", None)}
        for name, position in state["generators"].items():
            named[name].position = tuple(position)

    # Checkpoints ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the run's future depends on, between two iterations."""
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "data": self._sampler(),
        }
        state = {name: part.state_dict() for name, part in parts.items() if part is not None}
        counts = {"iterations": self.iterations, "epoch": self.epoch, "batches": self.batches}
        now = self._random()
        return {
            **state,
            "counts": counts,
            "random": now,
            "start": now if self._start is None else self._start,
            "stats": self.stats,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was made.

        Raises:
            KeyError: it lacks what this trainer has, a scheduler for instance. Also what the parts
                raise.
        """
        self.model.load_state_dict(state_dict["model"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        parts = {"scheduler": self.scheduler, "scaler": self.scaler, "data": self._sampler()}
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state_dict[name])
        for name, value in state_dict["counts"].items():
            setattr(self, name, value)
        for name, stats in state_dict["stats"].items():
            self.stats.setdefault(name, {}).update(stats)
        self._set_random(state_dict["random"])
        middle = self.batches > 0
        self._resumed = {k: state_dict[k] for k in ("start", "random")} if middle else None
        for event in self.plugin_queues:
            self._align_plugins(event, self.epoch if event == "epoch" else self.iterations)

    def resume(self) -> bool:
        """Go on from the newest checkpoint that is sound; warns of those that are not.

        Returns:
            Whether there was one.

        Raises:
            ValueError: the trainer has no checkpoints. RuntimeError: there are some, and none can
                be read.
        """
        if self.checkpoints is None:
            raise ValueError("a Trainer without checkpoints has nothing to resume from")
        found = self.checkpoints.latest()
        if found is None:
            return False
        self.load_state_dict(found[1])
        return True

    def _write(self, wanted: bool) -> None:
        if wanted and self.checkpoints is not None:
            self.checkpoints.write(self.state_dict(), self.iterations)
