"""Mixed precision under the names that PyTorch had for it first: all for device "cuda"."""

from __future__ import annotations

import functools

from braze import amp
from braze.ir.dtypes import DType, f16

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]

custom_fwd = functools.partial(amp.custom_fwd, device_type="cuda")
custom_bwd = functools.partial(amp.custom_bwd, device_type="cuda")


class autocast(amp.autocast):
    """`braze.amp.autocast("cuda", ...)`."""

    def __init__(
        self, enabled: bool = True, dtype: DType = f16, cache_enabled: bool = True
    ) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`braze.amp.GradScaler("cuda", ...)`."""

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        settings = (init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        super().__init__("cuda", *settings)
