"""Averages of a model's parameters over a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from braze import nn
from braze.autograd.modes import no_grad
from braze.functions.creation import tensor
from braze.ir.dtypes import i64
from braze.nn.modules.normalization import _BatchNorm
from braze.optim.lr_scheduler.base import LRScheduler, for_each_group
from braze.optim.optimizer import Optimizer
from braze.tensors import Tensor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AverageFunction = Callable[[Tensor, Tensor, Any], Tensor]
ManyAverageFunction = Callable[[list[Tensor], list[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> AverageFunction:
    """A function (average, current, count) -> decay * average + (1 - decay) * current.

    Raises:
        ValueError: the decay is not in [0, 1].
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(
            f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        )

    @no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param  # type: ignore[no-any-return]

    return ema_update


def get_swa_avg_fn() -> AverageFunction:
    """A function (average, current, count) -> average + (current - average) / (count + 1)."""

    @no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)  # type: ignore[no-any-return]

    return swa_update


def _for_many(function: AverageFunction) -> ManyAverageFunction:
    @no_grad()
    def update(averages: list[Tensor], current: list[Tensor], num_averaged: Any) -> None:
        for average, value in zip(averages, current, strict=True):
            average.copy_(function(average, value, num_averaged))

    return update


def get_ema_multi_avg_fn(decay: float = 0.999) -> ManyAverageFunction:
    """As `get_ema_avg_fn`, for lists of tensors, in place."""
    return _for_many(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> ManyAverageFunction:
    """As `get_swa_avg_fn`, for lists of tensors, in place."""
    return _for_many(get_swa_avg_fn())


class AveragedModel(nn.Module):
    """A copy of a model whose parameters are averages of the model's. Izmailov et al., "Averaging
    Weights Leads to Wider Optima", arXiv 1803.05407; with `get_ema_avg_fn`, moving averages.

    Args:
        avg_fn: new average from (average, current, count); that of all values by default.
        multi_avg_fn: the same in place, for lists of tensors.
        use_buffers: average buffers too; else they are copied.

    Raises:
        AssertionError: both functions are given.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: nn.Module,
        device: Any = None,
        avg_fn: AverageFunction | None = None,
        multi_avg_fn: ManyAverageFunction | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=i64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copy."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's present parameters into the averages; the first time, copy them.

        The count is read: after `optimizer.step()` it is in memory, so that this is no sync point.
        """
        own: Iterable[Tensor] = self.module.parameters()
        other: Iterable[Tensor] = model.parameters()
        if self.use_buffers:
            own, other = chain(own, self.module.buffers()), chain(other, model.buffers())
        averages = [average.detach() for average in own]
        current = [value.detach() for value in other]
        if self.n_averaged.item() == 0:
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)
        elif self.avg_fn is not None:
            _for_many(self.avg_fn)(averages, current, self.n_averaged)
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, current, self.n_averaged)
        if not self.use_buffers:
            for mine, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                mine.detach().copy_(buffer.detach())
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: Any = None) -> None:
    """Compute the running statistics of a model's batch normalizations anew, as plain averages over
    the loader's batches (of tuples and lists, the first item).
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    was_training = model.training
    model.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    for batch in loader:
        item = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(item if device is None else item.to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the present learning rate to `swa_lr` in `anneal_epochs`, and constant from there.

    Args:
        swa_lr: of all groups or of each.
        anneal_strategy: "cos" or "linear".

    Raises:
        ValueError: an unknown strategy, or a number of epochs that is negative or no int.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        for group, lr in zip(
            optimizer.param_groups, for_each_group("swa_lr", optimizer, swa_lr), strict=True
        ):
            group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How much of the learning rate is `swa_lr` after a step."""
        part = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * part)) / 2 if self._anneal_strategy == "cos" else part

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            last = group["swa_lr"]
            first = last if before == 1 else (group["lr"] - before * last) / (1 - before)
            rates.append(last * now + first * (1 - now))
        return rates
