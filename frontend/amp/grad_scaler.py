"""`GradScaler`: multiply the loss so that float16 gradients do not vanish, divide the gradients,
and leave out steps whose gradients are not finite.

All of it is part of the iteration's graph. The updates of this package's optimizers are made
conditional on the check of the gradients in the same graph; whether they took place is read after
it has run, so that there is no other sync point.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

from braze.autograd.modes import no_grad
from braze.devices import has_gpus, place_of
from braze.functions.pointwise import UNARY, bitwise_and, bitwise_or, eq, gt, maximum, mul, where
from braze.functions.promotion import cast
from braze.functions.reductions import all as all_of
from braze.handle import BUFFER
from braze.ir.dtypes import bf16, f16, f32, f64
from braze.optim.optimizer import Optimizer, has_global_hooks
from braze.placing import array_on, moved
from braze.sites import user_stacklevel
from braze.tensors import Tensor

_isfinite, _not = UNARY["isfinite"], UNARY["logical_not"]


class OptState(Enum):
    """What was done with an optimizer since the last `update`."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


def _fresh() -> dict[str, Any]:
    return {"stage": OptState.READY, "found_inf_per_device": {}}


def _in_memory(value: float, dtype: Any, place: str) -> Tensor:
    return array_on(place, np.array(value, dtype), BUFFER)


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    """The gradients' elements; of sparse ones their values.

    Raises:
        ValueError: one is float16.
    """
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.dtype is f16:
                raise ValueError("Attempting to unscale FP16 gradients.")
            found.append(gradient._handle.values if gradient.is_sparse else gradient)
    return found


class GradScaler:
    """Multiplies losses by a scale that shrinks when gradients overflow and grows when they have
    not for a while.

        scaler = braze.amp.GradScaler("cpu")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    Args:
        device: "cpu" or "cuda"; without a GPU, "cuda" disables it.
        init_scale: the first scale.
        growth_factor, growth_interval: after so many steps without overflow the scale grows by it.
        backoff_factor: the scale shrinks by it after an overflow.
        enabled: False makes all methods pass through.

    Raises:
        AssertionError: growth_factor is not above, or backoff_factor not below 1; or methods are
            called out of order.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if device == "cuda" and enabled and not has_gpus():
            warnings.warn(
                "GradScaler is enabled, but CUDA is not available.  Disabling.",
                stacklevel=user_stacklevel(),
            )
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale = init_scale
        self._scale: Tensor | None = None
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        self._growth_tracker: Tensor | None = None
        self._per_optimizer_states: dict[int, dict[str, Any]] = defaultdict(_fresh)

    # One iteration --------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of those in an iterable of them, times the scale.

        Raises:
            ValueError: anything else.
        """
        if not self._enabled:
            return outputs
        if self._scale is None:
            place = place_of(self._device)
            self._scale = _in_memory(self._init_scale, np.float32, place)
            self._growth_tracker = _in_memory(self._init_growth_tracker, np.int32, place)
        return self._scaled(outputs, self._scale)

    def _scaled(self, outputs: Any, scale: Tensor) -> Any:
        if isinstance(outputs, Tensor):
            return mul(outputs, moved(scale, outputs._handle.type.device))
        if isinstance(outputs, Iterable):
            scaled = (self._scaled(output, scale) for output in outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled  # type: ignore[call-arg]
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _tensors(self, name: str) -> tuple[Tensor, Tensor]:
        hint = (
            "This may indicate your script did not use scaler.scale(loss or outputs) earlier in "
            "the iteration."
        )
        if self._scale is None:
            raise AssertionError(f"Attempted {name} but _scale is None.  {hint}")
        if self._growth_tracker is None:
            raise AssertionError(f"Attempted {name} but _growth_tracker is None.  {hint}")
        return self._scale, self._growth_tracker

    @no_grad()
    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, and note whether all of
        them are finite; for what looks at gradients before `step`, such as clipping.

        Raises:
            RuntimeError: it was done already since the last `update`. ValueError: a gradient is
                float16.
        """
        if not self._enabled:
            return
        scale, _ = self._tensors("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        factor = cast(UNARY["reciprocal"](cast(scale, f64)), f32)
        found: Tensor | None = None
        for gradient in _gradients(optimizer):
            overflow = cast(_not(all_of(_isfinite(gradient))), f32)
            overflow = moved(overflow, scale._handle.type.device)
            found = overflow if found is None else maximum(found, overflow)
            wide = cast(gradient, f32) if gradient.dtype is bf16 else gradient
            beside = moved(factor, gradient._handle.type.device)
            gradient._replace(cast(mul(wide, beside), gradient.dtype))
        agreed = getattr(optimizer, "_agreed", None)  # of those whose gradients are shared out
        if found is not None and agreed is not None:
            found = agreed(found)
        state["found_inf_per_device"] = {} if found is None else {found.device: found}
        state["stage"] = OptState.UNSCALED

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(*args, **kwargs)` with unscaled gradients, unless one is not finite.

        An optimizer whose `step` is its own, or has hooks, is called or not; that needs the
        gradients' check first, a sync point of its own.

        Returns:
            What `optimizer.step` returns, or None if it was left out.

        Raises:
            RuntimeError: a closure, or a second step since the last `update`.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._tensors("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state["stage"] is OptState.READY:
            self.unscale_(optimizer)
        if not state["found_inf_per_device"]:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        (found,) = state["found_inf_per_device"].values()
        result = None
        if args or kwargs or not _can_be_conditional(optimizer):
            if not found.item():
                result = optimizer.step(*args, **kwargs)
        else:
            _conditional_step(optimizer, found)
        state["stage"] = OptState.STEPPED
        return result

    @no_grad()
    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Shrink the scale after an overflow, let it grow after `growth_interval` steps without
        one, or set it.

        Raises:
            AssertionError: no gradients were checked since the last call, or the new scale is no
                single number.
        """
        if not self._enabled:
            return
        scale, tracker = self._tensors("update")
        if new_scale is not None:
            self._set_scale(scale, new_scale)
        else:
            found = [
                overflow
                for state in self._per_optimizer_states.values()
                for overflow in state["found_inf_per_device"].values()
            ]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            most = found[0]
            for other in found[1:]:
                most = maximum(most, other)
            self._follow(scale, tracker, gt(most, 0.0))
        self._per_optimizer_states = defaultdict(_fresh)

    def _set_scale(self, scale: Tensor, new: float | Tensor) -> None:
        if not isinstance(new, Tensor):
            scale.fill_(new)
            return
        if new.numel() != 1 or new.requires_grad:
            raise AssertionError(
                "new_scale should be a float or a 1-element torch.cuda.FloatTensor or "
                "torch.FloatTensor with requires_grad=False."
            )
        scale.copy_(new)

    def _follow(self, scale: Tensor, tracker: Tensor, overflow: Tensor) -> None:
        steps = tracker + 1
        due = eq(steps, self._growth_interval)
        grown = mul(scale, self._growth_factor)
        kept = where(bitwise_and(due, _isfinite(grown)), grown, scale)
        scale._replace(where(overflow, mul(scale, self._backoff_factor), kept))
        tracker._replace(where(bitwise_or(due, overflow), 0, steps))

    # Settings -------------------------------------------------------------------------------------

    def get_scale(self) -> float:
        """The scale (1.0 if disabled). A sync point."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale.item())

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Change what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Change what the scale shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many steps without overflow the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Change after how many steps without overflow the scale grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        tracker = self._growth_tracker
        return self._init_growth_tracker if tracker is None else int(tracker.item())

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    # Saving and loading ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and counter; empty if disabled. A sync point."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            RuntimeError: it is empty, and this one is enabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None and self._growth_tracker is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._enabled:
            if self._per_optimizer_states:
                raise AssertionError(
                    "A GradScaler instance may only be pickled at the beginning of an iteration, "
                    "or at the end after scaler.update()."
                )
            state["_init_scale"] = self.get_scale()
            state["_init_growth_tracker"] = self._get_growth_tracker()
            state["_scale"] = state["_growth_tracker"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


# Steps that may be left out -----------------------------------------------------------------------


def _can_be_conditional(optimizer: Optimizer) -> bool:
    """Whether a step is nothing but writes through `Optimizer._write` and numbers in the state."""
    hooked = optimizer._hooks["before step"] or optimizer._hooks["after step"]
    return type(optimizer).step is Optimizer.step and not hooked and not has_global_hooks()


def _conditional_step(optimizer: Optimizer, found: Tensor) -> None:
    """A step whose writes keep the old values if `found` is not 0."""
    stepped = optimizer._stepped
    before = {parameter: dict(entry) for parameter, entry in optimizer.state.items()}
    optimizer._skip = gt(found, 0.0)
    try:
        optimizer.step()
    finally:
        optimizer._skip = None
    if found.item():  # in memory: the step has run the iteration
        optimizer._stepped = stepped
        optimizer.state.clear()
        optimizer.state.update(before)
