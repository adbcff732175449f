"""cuDNN, which is not used: what is set here has no effect, but for `allow_tf32`, which is
`braze.config.convolution_tf32`: whether convolutions on GPUs are rounded to TF32 where products of
matrices are.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from braze.engine import config

enabled = True
benchmark = False
benchmark_limit = 10
deterministic = False


def is_available() -> bool:
    """False."""
    return False


def version() -> int | None:
    """None: there is no cuDNN."""
    return None


@contextlib.contextmanager
def flags(
    enabled: bool = False,
    benchmark: bool = False,
    benchmark_limit: int = 10,
    deterministic: bool = False,
    allow_tf32: bool = True,
) -> Iterator[None]:
    """Set these for a block."""
    own = sys.modules[__name__]
    given = {
        "enabled": enabled,
        "benchmark": benchmark,
        "benchmark_limit": benchmark_limit,
        "deterministic": deterministic,
        "allow_tf32": allow_tf32,
    }
    before = {name: getattr(own, name) for name in given}
    _set(own, given)
    try:
        yield
    finally:
        _set(own, before)


def _set(module: ModuleType, given: dict[str, bool | int]) -> None:
    for name, value in given.items():
        setattr(module, name, value)


class _Module(ModuleType):
    @property
    def allow_tf32(self) -> bool:
        return config.convolution_tf32

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        config.convolution_tf32 = bool(allowed)


sys.modules[__name__].__class__ = _Module
