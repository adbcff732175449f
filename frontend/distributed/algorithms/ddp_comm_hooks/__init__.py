"""Communication hooks for `DistributedDataParallel.register_comm_hook`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from braze.distributed.algorithms.ddp_comm_hooks import (
    debugging_hooks,
    default_hooks,
    post_localSGD_hook,
    powerSGD_hook,
    quantization_hooks,
)


class _Registration:
    """What registers a hook.

    columns: of PowerSGD's matrices, if the hook needs a state with them.
    """

    def __init__(self, hook: Any, columns: int | None = None) -> None:
        self.hook = hook
        self._columns = columns

    def __call__(self, model: Any, state: Any = None) -> None:
        """Let a model use the hook.  `state`: the ranks; None: all."""
        if self._columns is not None:
            state = powerSGD_hook.PowerSGDState(state, self._columns)
        model.register_comm_hook(state, self.hook)


class DDPCommHookType(Enum):
    """The hooks by name. `DDPCommHookType.FP16_COMPRESS.value(model=model, state=process_group)`
    registers one."""

    ALLREDUCE = _Registration(default_hooks.allreduce_hook)
    FP16_COMPRESS = _Registration(default_hooks.fp16_compress_hook)
    BF16_COMPRESS = _Registration(default_hooks.bf16_compress_hook)
    QUANTIZE_PER_TENSOR = _Registration(quantization_hooks.quantization_pertensor_hook)
    QUANTIZE_PER_CHANNEL = _Registration(quantization_hooks.quantization_perchannel_hook)
    POWER_SGD = _Registration(powerSGD_hook.powerSGD_hook, 1)
    POWER_SGD_RANK2 = _Registration(powerSGD_hook.powerSGD_hook, 2)
    BATCHED_POWER_SGD = _Registration(powerSGD_hook.batched_powerSGD_hook, 1)
    BATCHED_POWER_SGD_RANK2 = _Registration(powerSGD_hook.batched_powerSGD_hook, 2)
    NOOP = _Registration(debugging_hooks.noop_hook)


def register_ddp_comm_hook(comm_hook_type: DDPCommHookType, model: Any, state: Any = None) -> None:
    """Let a `DistributedDataParallel` model use one of the hooks.

    Args:
        comm_hook_type: which one.
        model: as in `DDPCommHookType`.
        state: the ranks; None: all.

    Raises:
        TypeError: the type is something else.
        RuntimeError: the model has a hook.
    """
    if not isinstance(comm_hook_type, DDPCommHookType):
        raise TypeError(
            f"register_ddp_comm_hook: expected a DDPCommHookType, given {comm_hook_type!r}"
        )
    comm_hook_type.value(model=model, state=state)


__all__ = [
    "DDPCommHookType",
    "debugging_hooks",
    "default_hooks",
    "post_localSGD_hook",
    "powerSGD_hook",
    "quantization_hooks",
    "register_ddp_comm_hook",
]
