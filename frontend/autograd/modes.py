"""Switch the recording of gradients on and off: context managers that also serve as decorators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from braze.capture import tracer

Function = TypeVar("Function", bound=Callable[..., Any])


class _GradMode:
    """Sets the mode inside a `with` block or a decorated function and restores it after."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before: list[bool] = []

    def __enter__(self) -> None:
        state = tracer()
        self._before.append(state.grad_enabled)
        state.grad_enabled = self.mode

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tracer().grad_enabled = self._before.pop()

    def __call__(self, function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _GradMode(self.mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Do not record gradients inside: ``with no_grad(): ...`` or ``@no_grad()``."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_GradMode):
    """Record gradients inside, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(_GradMode):
    """As `no_grad`, for code that will never need gradients. `inference_mode(False)` records
    them."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)


class set_grad_enabled(_GradMode):
    """Record gradients, or do not. Takes effect at once; as a context manager it is undone at the
    end."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._outer = tracer().grad_enabled
        tracer().grad_enabled = mode

    def __enter__(self) -> None:
        self._before.append(self._outer)
        tracer().grad_enabled = self.mode


def is_grad_enabled() -> bool:
    """Whether operations are being recorded for a backward pass."""
    return tracer().grad_enabled
